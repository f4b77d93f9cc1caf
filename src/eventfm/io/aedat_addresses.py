"""Addresses of AEDAT 1 and 2: where each chip puts x, y and the polarity, and how they stand in memory.

jAER, which wrote these files, counts rows from below, mirrors x and, for the DVS128, takes bit 0 for OFF when it is 1.
Memory has its origin at the top left, so that x and y are both turned round. iniVation's page takes bit 1 for ON and
does not speak of a mirror; a layout made by `unmirrored` follows it: rows are turned round, and nothing else is.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from eventfm.io.columns import Columns

LOOP_31 = 1 << 31
_JUMP = 1 << 30
"""Time that falls by more has begun again: from 31 bits or 32, told by where it was. By less, it is disorder."""


class Layout(NamedTuple):
    """Sides in pixels, shift and mask of x and y, shift of the polarity, and what is to be changed."""

    width: int
    height: int
    x_shift: int
    x_mask: int
    y_shift: int
    y_mask: int
    p_shift: int
    other: int
    """Any of these bits set: no event of a pixel, but one of a sync input, APS or IMU."""
    p_flip: int
    mirror: int

    def unmirrored(self) -> Layout:
        """Return the layout with x and polarity as the address has them."""
        return self._replace(p_flip=0, mirror=0)


CHIPS = {
    "dvs128": Layout(128, 128, 1, 0x7F, 8, 0x7F, 0, 0x8000, 1, 1),
    "davis240": Layout(240, 180, 12, 0x3FF, 22, 0x1FF, 11, 0x80000400, 0, 1),
    "davis346": Layout(346, 260, 12, 0x3FF, 22, 0x1FF, 11, 0x80000400, 0, 1),
}


def decode(
    addresses: NDArray[np.uint32], times: NDArray[np.uint32], layout: Layout, loops: int = 0, before: int = -1
) -> tuple[Columns, int, int]:
    """Return the events, time of loops in microseconds and the last time as written, which is -1 before any."""
    n = len(addresses)
    x, y = np.empty(n, np.uint16), np.empty(n, np.uint16)
    t, p = np.empty(n, np.int64), np.empty(n, np.uint8)
    found, loops, before = _decode(addresses, times, np.array(layout, np.int64), loops, before, x, y, t, p)
    return Columns(x[:found], y[:found], t[:found], p[:found]), int(loops), int(before)


def decode_plainly(
    addresses: NDArray[np.uint32], times: NDArray[np.uint32], layout: Layout, loops: int = 0, before: int = -1
) -> tuple[Columns, int, int]:
    """Return what `decode` returns, by whole columns of numpy."""
    kept = addresses & np.uint32(layout.other) == 0
    place, raw = addresses[kept].astype(np.int64), times[kept].astype(np.int64)
    x, y = place >> layout.x_shift & layout.x_mask, place >> layout.y_shift & layout.y_mask
    x = layout.width - 1 - x if layout.mirror else x
    y = layout.height - 1 - y
    previous = np.append(raw[:1] if before < 0 else before, raw[:-1])[: len(raw)]
    wraps = np.where(previous - raw > _JUMP, np.where(previous < LOOP_31, LOOP_31, 2 * LOOP_31), 0)
    sums = loops + np.cumsum(wraps)
    p = (place >> layout.p_shift & 1) ^ layout.p_flip
    columns = Columns(x.astype(np.uint16), y.astype(np.uint16), raw + sums, p.astype(np.uint8))
    return (columns, int(sums[-1]), int(raw[-1])) if len(raw) else (columns, loops, before)


@numba.njit(cache=True, nogil=True)
def _decode(
    addresses: NDArray[np.uint32],
    times: NDArray[np.uint32],
    layout: NDArray[np.int64],
    loops: int,
    before: int,
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.uint8],
) -> tuple[int, int, int]:
    """Write the events into the columns; return how many there are, time of loops and last time as written."""
    width, height, x_shift, x_mask, y_shift, y_mask, p_shift, other, p_flip, mirror = layout
    n = 0
    for i in range(len(addresses)):
        place = np.int64(addresses[i])
        if place & other:
            continue
        time: int = np.int64(times[i])  # type: ignore[assignment]
        if before - time > _JUMP:
            loops += LOOP_31 if before < LOOP_31 else 2 * LOOP_31
        before = time
        column = place >> x_shift & x_mask
        # A pixel beyond the sensor becomes one beyond it on the other side, which is refused later.
        x[n] = width - 1 - column if mirror else column
        y[n] = height - 1 - (place >> y_shift & y_mask)
        t[n], p[n] = loops + time, (place >> p_shift & 1) ^ p_flip
        n += 1
    return n, loops, before
