"""Packets of AEDAT 3 to polarity events: valid[0], p[1], y[16:2], x[31:17] of a word, and the time in another."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from eventfm.io.columns import Columns

_HEADER, _EVENT, _POLARITY = 28, 8, 1
_OVERFLOW = 31


def decode(data: NDArray[np.uint8], source: int) -> Columns:
    """Return the valid polarity events of one source in whole packets, times in microseconds."""
    count = len(data) // _EVENT
    x, y = np.empty(count, np.uint16), np.empty(count, np.uint16)
    t, p = np.empty(count, np.int64), np.empty(count, np.uint8)
    found = _decode(data, source, x, y, t, p)
    return Columns(x[:found], y[:found], t[:found], p[:found])


def decode_plainly(data: NDArray[np.uint8], source: int) -> Columns:
    """Return what `decode` returns, packet by packet by numpy."""
    parts = [np.empty((0, 4), np.int64)]
    at = 0
    while at + _HEADER <= len(data):
        kind, origin = data[at : at + 4].view("<i2").tolist()
        size, _, overflow, capacity, number, _ = data[at + 4 : at + _HEADER].view("<i4").tolist()
        body = at + _HEADER
        if size < 0 or capacity < 0 or not 0 <= number <= capacity or body + size * capacity > len(data):
            break
        if kind == _POLARITY and origin == source and size == _EVENT:
            rows = data[body : body + number * _EVENT].view("<u4").astype(np.int64).reshape(-1, 2)
            word, time = rows[rows[:, 0] & 1 == 1].T
            parts.append(np.stack((word >> 17, word >> 2 & 0x7FFF, time + (overflow << _OVERFLOW), word >> 1 & 1), 1))
        at = int(body + size * capacity)
    x, y, t, p = np.concatenate(parts).T
    return Columns(x.astype(np.uint16), y.astype(np.uint16), t.copy(), p.astype(np.uint8))


@numba.njit(cache=True, nogil=True)
def _number(data: NDArray[np.uint8], at: int) -> np.int64:
    """Return the little-endian number of 32 bits at a byte, without a sign."""
    low = np.int64(data[at]) | np.int64(data[at + 1]) << 8
    return low | np.int64(data[at + 2]) << 16 | np.int64(data[at + 3]) << 24


@numba.njit(cache=True, nogil=True)
def _decode(
    data: NDArray[np.uint8],
    source: int,
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.uint8],
) -> int:
    """Write the events into the columns; return how many there are. What is negative is above 2^31 here."""
    n, at = 0, 0
    while at + _HEADER <= len(data):
        told = _number(data, at)
        size, overflow = _number(data, at + 4), _number(data, at + 12)
        capacity, number = _number(data, at + 16), _number(data, at + 20)
        body = at + _HEADER
        if size >> 31 or capacity >> 31 or number > capacity:
            break
        if size and capacity > (len(data) - body) // size:
            break
        if told & 0xFFFF == _POLARITY and told >> 16 == source & 0xFFFF and size == _EVENT:
            if overflow >> 31:
                overflow -= 1 << 32
            for i in range(number):
                word = _number(data, body + i * _EVENT)
                if word & 1:
                    x[n], y[n], p[n] = word >> 17, word >> 2 & 0x7FFF, word >> 1 & 1
                    t[n] = (overflow << _OVERFLOW) + _number(data, body + i * _EVENT + 4)
                    n += 1
        at = int(body + size * capacity)
    return n
