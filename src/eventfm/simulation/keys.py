"""Keys of events: ordering them, unpacking them, adding them up.

A key is one uint64: the time after the start of its frame interval in the top 30 bits, then y (16), x (16), polarity
(1), noise (1). The scan of an interval (`kernels`) gives them in raster order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

compiled = njit(nogil=True, cache=True, error_model="numpy")


@compiled
def sort_by_time(keys: Any, duration: int, out: Any) -> None:
    """Write the raster-ordered `keys` of one interval to `out` in order of time, ties in the order they have.

    A counting sort with one bucket for each microsecond of the interval.
    """
    position = np.zeros(duration + 2, np.uint32)
    for i in range(keys.shape[0]):
        position[(keys[i] >> np.uint64(34)) + np.uint64(1)] += np.uint32(1)
    for bucket in range(1, duration + 2):
        position[bucket] += position[bucket - 1]
    for i in range(keys.shape[0]):
        key = keys[i]
        offset = key >> np.uint64(34)
        slot = position[offset]
        position[offset] = slot + np.uint32(1)
        out[slot] = key


@compiled
def unpack(keys: Any, t_start: int, x: Any, y: Any, t: Any, p: Any, noise: Any) -> None:
    """Unpack the keys of an interval that began at `t_start` into columns; `noise` may be None."""
    for i in range(keys.shape[0]):
        key = keys[i]
        x[i] = np.uint16(key >> np.uint64(2))
        y[i] = np.uint16(key >> np.uint64(18))
        t[i] = t_start + np.int64(key >> np.uint64(34))
        p[i] = np.uint8(key >> np.uint64(1)) & np.uint8(1)
        if noise is not None:
            noise[i] = np.uint8(key & np.uint64(1))


@compiled
def add_to_grid(keys: Any, t_start: int, duration: int, window_start: int, window_stop: int, grid: Any) -> None:
    """Add the `keys` of an interval that began at `t_start` to the signed bilinear `grid` (B, H, W) float32.

    Events outside the half-open window (microseconds) are left out. A cell belongs to one pixel, whose events come in
    order of time here as in a sorted list; the bin is found in integers and the weight is one float32 quotient. So the
    sums are those of the grid of the events to the last bit.
    """
    num_bins, height, width = grid.shape
    cells = grid.reshape(-1)
    plane = np.uint64(height * width)
    length = max(window_stop - 1 - window_start, 1)
    earliest, latest = window_start - t_start, window_stop - 1 - t_start
    # Bin and weight are functions of the time alone: looked up where there are more events than microseconds.
    num_times = duration + 1 if duration < keys.shape[0] else 0
    bins = np.empty(num_times, np.uint64)
    shares = np.empty(num_times, np.float32)
    for offset in range(num_times):
        position = (num_bins - 1) * (offset - earliest)
        bins[offset] = np.uint64(position // length)
        shares[offset] = np.float32(position - position // length * length) / np.float32(length)
    for i in range(keys.shape[0]):
        key = keys[i]
        offset = key >> np.uint64(34)
        if not earliest <= np.int64(offset) <= latest:
            continue
        if num_times:
            low, share = bins[offset], shares[offset]
        else:
            position = (num_bins - 1) * (np.int64(offset) - earliest)
            low = np.uint64(position // length)
            share = np.float32(position - position // length * length) / np.float32(length)
        x = (key >> np.uint64(2)) & np.uint64(0xFFFF)
        y = (key >> np.uint64(18)) & np.uint64(0xFFFF)
        sign = np.float32(1) if key & np.uint64(2) else np.float32(-1)
        after = sign * share
        cell = low * plane + y * np.uint64(width) + x
        cells[cell] += sign - after
        if low + np.uint64(1) < np.uint64(num_bins):
            cells[cell + plane] += after
