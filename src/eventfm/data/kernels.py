"""Compiled loop of the loader: events into a crop, shrunk and flipped, in one pass and without the interpreter lock."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

OUTSIDE = np.uint16(65535)
"""No sensor has a grid this large, so it can mark a coordinate that lies outside the crop."""


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def crop_events(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.uint8],
    column_of: NDArray[np.uint16],
    row_of: NDArray[np.uint16],
) -> Any:
    """Return columns x, y, t, p of the events inside a crop, in order, with coordinates on its grid.

    `column_of` (sensor width,) and `row_of` (sensor height,) say where each coordinate goes, or `OUTSIDE`.
    """
    out_x, out_y = np.empty(len(x), np.uint16), np.empty(len(x), np.uint16)
    out_t, out_p = np.empty(len(x), np.int64), np.empty(len(x), np.uint8)
    count = 0
    for i in range(len(x)):
        # Written in any case and overwritten if outside: a branch that is taken at random costs more.
        column, row = column_of[x[i]], row_of[y[i]]
        out_x[count], out_y[count] = column, row
        out_t[count], out_p[count] = t[i], p[i]
        count += np.int64((column != OUTSIDE) & (row != OUTSIDE))
    return out_x[:count], out_y[:count], out_t[:count], out_p[:count]


def placement(extent: int, start: int, length: int, cells: int, mirrored: bool = False) -> NDArray[np.uint16]:
    """Return the cell of each of `extent` coordinates: `cells` cells over `[start, start + length)`, else `OUTSIDE`."""
    out = np.full(extent, OUTSIDE, np.uint16)
    place = np.arange(length) * cells // length
    out[start : start + length] = cells - 1 - place if mirrored else place
    return out
