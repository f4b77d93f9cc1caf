"""Compiled loop of the loader: events into a crop, shrunk and flipped, in one pass and without the interpreter lock."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def crop_events(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.uint8],
    box: tuple[int, int, int, int],
    grid: tuple[int, int],
    flip: bool,
) -> Any:
    """Return columns x, y, t, p of the events inside `box` (left, top, width, height), in order.

    Coordinates are brought to `grid` (rows, columns), which is no larger than the box, by whole-number scaling, and
    mirrored left to right with `flip`.
    """
    left, top, width, height = box
    rows, columns = grid
    out_x, out_y = np.empty(len(x), np.uint16), np.empty(len(x), np.uint16)
    out_t, out_p = np.empty(len(x), np.int64), np.empty(len(x), np.uint8)
    # A coordinate's place on the grid is looked up: cheaper than a division for every event.
    column_of, row_of = np.empty(width, np.uint16), np.empty(height, np.uint16)
    for i in range(width):
        column = i * columns // width
        column_of[i] = columns - 1 - column if flip else column
    for i in range(height):
        row_of[i] = i * rows // height
    count = 0
    for i in range(len(x)):
        u, v = np.int64(x[i]) - left, np.int64(y[i]) - top
        if 0 <= u < width and 0 <= v < height:
            out_x[count], out_y[count] = column_of[u], row_of[v]
            out_t[count], out_p[count] = t[i], p[i]
            count += 1
    return out_x[:count], out_y[:count], out_t[:count], out_p[:count]
