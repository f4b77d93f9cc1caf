"""Compiled loops of the change detector: scan one frame interval, order its events, or add them to a voxel grid.

Everything is integer arithmetic in fixed point, so results do not depend on the machine, the compiler or the chunking.

Inside one interval of length D brightness runs straight from L0 to L1 (distances d0 and d1 from the reference). A pixel
with d1 >= C has n = floor(d1 / C) ON events, the k-th at ceil((k C - d0) D / (d1 - d0)) microseconds; OFF mirrors it.
The level is tested, never "a crossing lies in this interval", so no pixel can get stuck.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_compiled = njit(nogil=True, cache=True)
_inlined = njit(nogil=True, cache=True, inline="always")


@_inlined
def _mark_row(frame_row: Any, table: Any, reference: Any, c_pos: Any, c_neg: Any, marks: Any) -> None:
    """Set `marks` to 1 where a pixel of the row is past a threshold; no branches, so that it becomes SIMD code."""
    for x in range(frame_row.shape[0]):
        above = np.int32(table[frame_row[x]] - reference[x])
        marks[x] = np.uint8(above >= c_pos[x]) | np.uint8(np.int32(-above) >= c_neg[x])


@_inlined
def _gather_marked(marks: Any, marks_by_8: Any, found: Any) -> int:
    """Write the columns of the marked pixels to `found` and return their number; no branch for a single pixel."""
    num_found = 0
    for block in range(marks_by_8.shape[0]):
        if marks_by_8[block] != 0:
            for x in range(8 * block, 8 * block + 8):
                found[num_found] = np.uint32(x)
                num_found += np.int64(marks[x])
    return num_found


@_inlined
def _crossings(level0: int, level1: int, reference: int, c_pos: int, c_neg: int) -> tuple[int, int, int, int, int]:
    """Return (sign, number of events, threshold, distance at the start, rise) of a pixel that is past a threshold.

    Distance and rise are counted in the direction of the events. ON and OFF come in no order that a processor could
    predict, hence the sign instead of a branch.
    """
    d1 = np.int64(level1) - np.int64(reference)
    sign = np.int64(1) - ((d1 < 0) << 1)
    threshold = c_neg + (np.int64(c_pos) - c_neg) * (d1 > 0)
    d0 = sign * (np.int64(level0) - np.int64(reference))
    d1 = sign * d1
    count = np.int64(1) if d1 < 2 * threshold else d1 // threshold
    return sign, count, threshold, d0, d1 - d0


@_inlined
def _event_time(way: int, rise: int, inverse: float, duration: int) -> int:
    """Return ceil(way * duration / rise), exactly: when brightness has gone `way` of its `rise`; `inverse` = 1 / rise.

    The float64 guess is never above the answer and, with rises below 2**30 and durations below 2**31, at most two below
    it. The answer lies in [1, duration] by itself for a state that followed its frames; it is held there, so that a
    state which did not cannot make the sort write outside its memory.
    """
    numerator = way * duration
    time = np.int64(numerator * inverse)
    time += np.int64(time * rise < numerator)
    time += np.int64(time * rise < numerator)
    return min(max(time, 1), duration)


@_compiled
def scan_interval(
    previous: Any,
    current: Any,
    table: Any,
    reference: Any,
    c_pos: Any,
    c_neg: Any,
    duration: int,
    keys: Any,
    num_keys: int,
    first_row: int,
) -> tuple[int, int, int]:
    """Append the events of one interval to `keys` in raster order and move `reference` along.

    A key is one uint64: the time after the interval's start in the top 31 bits, then y (16), x (16), polarity (1).
    Returns (keys used, row to go on from, keys needed). When `keys` is too short the scan stops; call again with the
    same frames, a longer `keys` and that row: pixels already done are back inside their thresholds and stay silent.
    """
    height, width = current.shape
    marks = np.zeros((width + 7) // 8 * 8, np.uint8)
    marks_by_8 = marks.view(np.uint64)
    found = np.empty(len(marks) + 1, np.uint32)
    for y in range(first_row, height):
        _mark_row(current[y], table, reference[y], c_pos[y], c_neg[y], marks)
        num_found = _gather_marked(marks, marks_by_8, found)
        for i in range(num_found):
            x = found[i]
            sign, count, threshold, d0, rise = _crossings(
                table[previous[y, x]], table[current[y, x]], reference[y, x], c_pos[y, x], c_neg[y, x]
            )
            if num_keys + count > keys.shape[0]:
                return num_keys, y, num_keys + count
            reference[y, x] += np.int32(sign * count * threshold)
            inverse = 1.0 / rise
            place = np.uint64(y) << np.uint64(17) | np.uint64(x) << np.uint64(1) | np.uint64(sign > 0)
            for k in range(1, count + 1):
                offset = _event_time(k * threshold - d0, rise, inverse, duration)
                keys[num_keys] = np.uint64(offset) << np.uint64(33) | place
                num_keys += 1
    return num_keys, height, num_keys


@_compiled
def sort_by_time(keys: Any, duration: int, out: Any) -> None:
    """Write the raster-ordered `keys` of one interval to `out` in order of time, ties in raster order.

    A counting sort with one bucket for each microsecond of the interval.
    """
    position = np.zeros(duration + 2, np.int64)
    for i in range(keys.shape[0]):
        position[(keys[i] >> np.uint64(33)) + np.uint64(1)] += 1
    for bucket in range(1, duration + 2):
        position[bucket] += position[bucket - 1]
    for i in range(keys.shape[0]):
        offset = keys[i] >> np.uint64(33)
        slot = position[offset]
        position[offset] = slot + 1
        out[slot] = keys[i]


@_compiled
def unpack(keys: Any, t_start: int, x: Any, y: Any, t: Any, p: Any) -> None:
    """Unpack the keys of an interval that began at `t_start` into columns."""
    for i in range(keys.shape[0]):
        key = keys[i]
        x[i] = np.uint16(key >> np.uint64(1))
        y[i] = np.uint16(key >> np.uint64(17))
        t[i] = t_start + np.int64(key >> np.uint64(33))
        p[i] = np.uint8(key & np.uint64(1))


@_compiled
def voxel_interval(
    previous: Any,
    current: Any,
    table: Any,
    reference: Any,
    c_pos: Any,
    c_neg: Any,
    duration: int,
    t_start: int,
    window_start: int,
    window_stop: int,
    grid: Any,
) -> None:
    """Add the events of one interval to the signed bilinear `grid` (B, H, W) float32 and move `reference` along.

    Events outside the half-open window (microseconds) move the reference only. A cell belongs to one pixel, whose
    events come in order of time here as in a sorted list; the bin is found in integers and the weight is one float32
    quotient. So the sums are those of the grid of the events to the last bit.
    """
    height, width = current.shape
    num_bins = grid.shape[0]
    length = max(window_stop - 1 - window_start, 1)
    marks = np.zeros((width + 7) // 8 * 8, np.uint8)
    marks_by_8 = marks.view(np.uint64)
    found = np.empty(len(marks) + 1, np.uint32)
    for y in range(height):
        _mark_row(current[y], table, reference[y], c_pos[y], c_neg[y], marks)
        num_found = _gather_marked(marks, marks_by_8, found)
        for i in range(num_found):
            x = found[i]
            sign, count, threshold, d0, rise = _crossings(
                table[previous[y, x]], table[current[y, x]], reference[y, x], c_pos[y, x], c_neg[y, x]
            )
            reference[y, x] += np.int32(sign * count * threshold)
            inverse = 1.0 / rise
            for k in range(1, count + 1):
                t = t_start + _event_time(k * threshold - d0, rise, inverse, duration)
                if window_start <= t < window_stop:
                    position = (num_bins - 1) * (t - window_start)
                    low = position // length
                    after = np.float32(sign) * (np.float32(position - low * length) / np.float32(length))
                    grid[low, y, x] += np.float32(sign) - after
                    if low + 1 < num_bins:
                        grid[low + 1, y, x] += after
