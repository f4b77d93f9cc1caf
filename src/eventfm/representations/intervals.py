"""Statistics of each pixel's events and of the intervals between them: the compiled loop and its plain numpy twin.

Times stay int64 microseconds. The spread of a pixel's intervals is worked out from what each of them exceeds the
pixel's first one by: these are whole numbers, so that their sums in float64 are exact up to 2**53 in whatever order,
and with a member of the set for the origin the variance loses no more than about a count's worth of roundings, where
the plain mean of squares less the square of the mean would lose it to rounding between long, nearly equal intervals.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eventfm.representations.kernels import compiled


@compiled
def add_evrep(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.uint8],
    longest: float,
    out: NDArray[np.float32],
) -> int:
    """Write to `out` (3, H, W) float32 the count, the sum of polarities and the spread of intervals of each pixel.

    The spread is the standard deviation (divided by their number) of the pixel's intervals in microseconds, zero for
    fewer than two, none above `longest`. Stops at the first event outside the grid or earlier than the one before it.
    Returns the number of events added.
    """
    _, height, width = out.shape
    times = np.zeros((height, width, 2), np.int64)  # of the latest event; the first interval
    sums = np.zeros((height, width, 4), np.float64)  # events, polarities, excess over the first interval, its square
    before = t[0] if len(t) else 0
    n = 0
    while n < len(t):
        now = t[n]
        column = np.uint64(x[n])  # unsigned, so that no negative index can wrap around
        row = np.uint64(y[n])
        if now < before or column >= np.uint64(width) or row >= np.uint64(height):
            break
        count = sums[row, column, 0]
        if count >= 1:
            interval = now - times[row, column, 0]
            if count == 1:
                times[row, column, 1] = interval
            excess = np.float64(interval - times[row, column, 1])
            sums[row, column, 2] += excess
            sums[row, column, 3] += excess * excess
        sums[row, column, 0] = count + 1
        sums[row, column, 1] += 1.0 if p[n] else -1.0
        times[row, column, 0] = now
        before = now
        n += 1
    for i in range(height):
        for j in range(width):
            intervals = max(sums[i, j, 0] - 1.0, 1.0)
            mean = sums[i, j, 2] / intervals
            variance = max(sums[i, j, 3] / intervals - mean * mean, 0.0)
            out[0, i, j] = sums[i, j, 0]
            out[1, i, j] = sums[i, j, 1]
            out[2, i, j] = min(np.sqrt(variance), longest)
    return n


def evrep_numpy(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.uint8],
    longest: float,
    shape: tuple[int, int, int],
) -> NDArray[np.float32]:
    """Return what `add_evrep` makes of checked events, (3, H, W) float32; the oracle in plain numpy."""
    _, height, width = shape
    cell = np.ravel_multi_index((y.astype(np.int64), x.astype(np.int64)), (height, width))
    order = np.argsort(cell, kind="stable")
    starts = np.flatnonzero(np.diff(cell[order], prepend=-1))  # where the events of the next pixel begin
    count, polarity, spread = np.zeros((3, height * width))
    for here in np.split(order, starts[1:]) if len(order) else []:
        count[cell[here[0]]] = len(here)
        polarity[cell[here[0]]] = np.where(p[here] == 0, -1.0, 1.0).sum()
        interval = np.diff(t[here])
        if len(interval):
            excess = (interval - interval[0]).astype(np.float64)
            mean = excess.sum() / len(interval)
            variance = np.square(excess).sum() / len(interval) - mean * mean
            spread[cell[here[0]]] = min(np.sqrt(max(variance, 0)), longest)
    return np.stack([count, polarity, spread]).astype(np.float32).reshape(shape)
