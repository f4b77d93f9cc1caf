"""Compiled scatter loops on the CPU, and the plain numpy twins that they must equal.

Time is scaled with integers: for a grid of `steps` intervals an event at `t` lies at `steps * (t - first) / length`,
whose whole part is found without rounding. Only the fraction is a float32 quotient of two float32 numbers, so that
numba, numpy and torch agree on every weight to the last bit. Kernel and numpy twin also add in one order per cell
and agree bit for bit.

Each kernel adds to `out`, which the caller has zeroed, and returns the number of events that it added. It stops at
the first event that is outside the grid, outside `[first, last]`, or earlier than the one before it. Loops are serial
and release the GIL: windows are what runs in parallel, not the events of one window.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Function = TypeVar("Function")


def compiled(function: Function) -> Function:
    """Return `function` compiled at its first call; the compiled code is kept on disk and releases the GIL."""
    return cast(Function, numba.njit(nogil=True, cache=True, error_model="numpy")(function))


@compiled
def add_voxels(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.uint8],
    first: int,
    last: int,
    out: NDArray[np.float32],
) -> int:
    """Add signed events to `out` (B, H, W) float32, each shared between the two nearest of B instants.

    The instants divide `[first, last]` evenly; the last one is at `last`. Returns the number of events added.
    """
    num_bins, height, width = out.shape
    steps = num_bins - 1
    length = max(last - first, 1)
    scale = np.float32(length)
    previous = first
    n = 0
    for i in range(num_bins):
        start = i * length
        here = out[i]
        after = out[min(i + 1, steps)]  # at the last instant the weight of the one after is zero
        while n < len(t):
            now = t[n]
            position = steps * (now - first)
            if position >= start + length:
                break
            column = np.uint64(x[n])  # unsigned, so that no negative index can wrap around
            row = np.uint64(y[n])
            if now < previous or now > last or column >= np.uint64(width) or row >= np.uint64(height):
                return n
            sign = np.float32(1.0) if p[n] else np.float32(-1.0)
            right = sign * (np.float32(position - start) / scale)
            here[row, column] += sign - right
            after[row, column] += right
            previous = now
            n += 1
    return n


@compiled
def add_counts(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.uint8],
    first: int,
    last: int,
    ceiling: float,
    out: NDArray[np.float32],
) -> int:
    """Count events in `out` (2 B, H, W) float32, channels 0 to B-1 for ON and B to 2B-1 for OFF.

    `[first, last]` is divided into B equal parts, `last` belonging to the final one. No count passes `ceiling`.
    Returns the number of events added.
    """
    channels, height, width = out.shape
    num_bins = channels // 2
    length = max(last - first, 1)
    most = np.float32(ceiling)
    previous = first
    n = 0
    for i in range(num_bins):
        while n < len(t):
            now = t[n]
            if num_bins * (now - first) >= (i + 1) * length and i < num_bins - 1:
                break
            column = np.uint64(x[n])
            row = np.uint64(y[n])
            if now < previous or now > last or column >= np.uint64(width) or row >= np.uint64(height):
                return n
            channel = i if p[n] != 0 else num_bins + i
            count = out[channel, row, column]
            if count < most:
                out[channel, row, column] = count + np.float32(1.0)
            previous = now
            n += 1
    return n


def voxels_numpy(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.uint8],
    first: int,
    last: int,
    shape: tuple[int, int, int],
) -> NDArray[np.float32]:
    """Return what `add_voxels` makes of checked events, (B, H, W) float32; the oracle in plain numpy."""
    num_bins = shape[0]
    length = max(last - first, 1)
    position = (num_bins - 1) * (t - first)
    i = position // length
    sign = np.where(p == 0, np.float32(-1), np.float32(1))
    right = sign * ((position - i * length).astype(np.float32) / np.float32(length))
    out = np.zeros(shape, np.float32)
    inside = i < num_bins - 1
    # A cell is reached from the interval before it first, as in the order of time.
    np.add.at(out, (i[inside] + 1, y[inside], x[inside]), right[inside])
    np.add.at(out, (i, y, x), sign - right)
    return out


def counts_numpy(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.uint8],
    first: int,
    last: int,
    ceiling: float,
    shape: tuple[int, int, int],
) -> NDArray[np.float32]:
    """Return what `add_counts` makes of checked events, (2 B, H, W) float32; the oracle in plain numpy."""
    num_bins = shape[0] // 2
    i = np.minimum(num_bins * (t - first) // max(last - first, 1), num_bins - 1)
    channel = i + num_bins * (p == 0)
    cell: Any = np.ravel_multi_index((channel, y.astype(np.int64), x.astype(np.int64)), shape)
    counts = np.bincount(cell, minlength=int(np.prod(shape)))
    return np.minimum(counts, ceiling).astype(np.float32).reshape(shape)
