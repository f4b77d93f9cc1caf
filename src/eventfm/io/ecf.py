"""Chunks of events in Prophesee's ECF codec, filter 0x8ECF of HDF5.

A chunk is a 32-bit word (count << 2 and two flags), then times, then places and polarities. Times are a 64-bit start
and bytes `step << 4 | run`: the step is added and `run` events have that time; run 15 is followed by the run in 16
bits, and step 15 stands for four bits of a longer step, the lowest first, that goes on while the step is 15. Flag 2
says that y, x and p are packed in 24 bits; otherwise come runs of y, and then, by flag 1, x and p packed in 12 bits,
or x with a mask of the five pixels after it and runs of p. All numbers are little-endian.

`decode` is compiled; `decode_plainly` is its twin in numpy and Python, for where nothing can be compiled.
"""

from __future__ import annotations

from typing import TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from eventfm.io.columns import Columns
from eventfm.io.contract import DamagedFileError

LARGEST_COUNT = 65_535
_HEADER = 12
Function = TypeVar("Function")


def first_time(data: NDArray[np.uint8]) -> int:
    """Return the time of the first event of a chunk in microseconds, before its first step."""
    if len(data) < _HEADER:
        raise DamagedFileError(f"an ECF chunk of {len(data)} bytes has no header")
    return int(data[4:_HEADER].view("<i8")[0])


def decode(data: NDArray[np.uint8]) -> Columns:
    """Return the events of a chunk (N,) uint8.

    Raises:
        DamagedFileError: The chunk ends too early, or its runs do not add up to its events; the message says where.
    """
    count = _count(data)
    x, y, t, p = (
        np.empty(count, np.uint16),
        np.empty(count, np.uint16),
        np.empty(count, np.int64),
        np.empty(count, "u1"),
    )
    # Arrays that are read only would compile the kernel a second time.
    at = _decode(np.require(data, requirements=["C", "W"]), x, y, t, p)
    if at >= 0:
        raise DamagedFileError(f"damaged ECF chunk at byte {at} of {len(data)}")
    return Columns(x, y, t, p)


def decode_plainly(data: NDArray[np.uint8]) -> Columns:
    """Return what `decode` returns."""
    count = _count(data)
    flags = int(data[0]) & 3
    at, t = _plain_times(data, count)
    if flags & 2:
        words = _words(data, at, "<u4", -(-count // 4) * 3).astype(np.int64).reshape(-1, 3)
        a, b, c = words.T
        packed = np.stack((a >> 8, a & 255 | b >> 16 << 8, b & 65535 | c >> 24 << 16, c & 0xFFFFFF), 1).reshape(-1)[
            :count
        ]
        y, x, p = packed >> 12 & 2047, packed >> 1 & 2047, packed & 1
        return Columns(x.astype(np.uint16), y.astype(np.uint16), t, p.astype(np.uint8))
    at, y = _plain_runs(data, at, count, size=2, bits=5)
    if flags & 1:
        words = _words(data, at, "<u2", -(-count // 4) * 3).astype(np.int64).reshape(-1, 3)
        a, b, c = words.T
        packed = np.stack((a >> 4, a & 15 | b >> 8 << 4, b & 255 | c >> 12 << 8, c & 4095), 1).reshape(-1)[:count]
        return Columns((packed >> 1).astype(np.uint16), y.astype(np.uint16), t, (packed & 1).astype(np.uint8))
    at, x = _plain_masked(data, at, count)
    _, p = _plain_runs(data, at, count, size=1, bits=7)
    return Columns(x.astype(np.uint16), y.astype(np.uint16), t, p.astype(np.uint8))


def _count(data: NDArray[np.uint8]) -> int:
    if len(data) < _HEADER:
        raise DamagedFileError(f"an ECF chunk of {len(data)} bytes has no header")
    count = int(data[:4].view("<u4")[0]) >> 2
    if count > LARGEST_COUNT:
        raise DamagedFileError(f"an ECF chunk claims {count} events; the codec holds at most {LARGEST_COUNT}")
    return count


def _compiled(function: Function) -> Function:
    return cast(Function, numba.njit(nogil=True, cache=True)(function))


@_compiled
def _decode(
    data: NDArray[np.uint8],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.uint8],
) -> int:
    """Fill the columns, and return -1, or the byte at which the chunk is damaged."""
    flags = data[0] & 3
    at = _times(data, t)
    if at < 0:
        return -at
    if flags & 2:
        return _packed24(data, at, x, y, p)
    at = _runs_of_y(data, at, y)
    if at < 0:
        return -at
    if flags & 1:
        return _packed12(data, at, x, p)
    at = _masked_x(data, at, x)
    if at < 0:
        return -at
    return _runs_of_p(data, at, p)


@_compiled
def _times(data: NDArray[np.uint8], t: NDArray[np.int64]) -> int:
    """Fill the times, and return the byte after them, or less than 0."""
    size, count = len(data), len(t)
    now = np.int64(0)
    for k in range(8):
        now |= np.int64(data[4 + k]) << np.int64(8 * k)
    at, i = 12, np.int64(0)
    while i < count:
        if at >= size:
            return -at
        step, run = np.int64(data[at] >> 4), np.int64(data[at] & 15)
        at += 1
        if step == 15:
            shift = 0
            while step == 15:
                if shift >= 64 or at >= size:
                    return -at
                now += run << np.int64(shift)
                shift += 4
                step, run = np.int64(data[at] >> 4), np.int64(data[at] & 15)
                at += 1
        now += step
        if run == 15:
            if at + 2 > size:
                return -at
            run = np.int64(data[at]) | np.int64(data[at + 1]) << np.int64(8)
            at += 2
        if run > count - i:
            return -at
        t[i : i + run] = now
        i += run
    return at


@_compiled
def _runs_of_y(data: NDArray[np.uint8], at: int, y: NDArray[np.uint16]) -> int:
    """Fill y, and return the byte after it, or less than 0."""
    size, count, i = len(data), len(y), np.int64(0)
    while i < count:
        if at + 2 > size:
            return -at
        word = np.int64(data[at]) | np.int64(data[at + 1]) << np.int64(8)
        at += 2
        run = word & 31
        if run == 31:
            if at + 2 > size:
                return -at
            run = np.int64(data[at]) | np.int64(data[at + 1]) << np.int64(8)
            at += 2
        if run > count - i:
            return -at
        y[i : i + run] = word >> 5
        i += run
    return at


@_compiled
def _masked_x(data: NDArray[np.uint8], at: int, x: NDArray[np.uint16]) -> int:
    """Fill x, and return the byte after it, or less than 0; the last mask may reach beyond the events."""
    size, count, i = len(data), len(x), 0
    while i < count:
        if at + 2 > size:
            return -at
        word = np.int64(data[at]) | np.int64(data[at + 1]) << np.int64(8)
        at += 2
        x[i] = word >> 5
        i += 1
        for k in range(5):
            if word >> (4 - k) & 1 and i < count:
                x[i] = (word >> 5) + k + 1
                i += 1
    return at


@_compiled
def _runs_of_p(data: NDArray[np.uint8], at: int, p: NDArray[np.uint8]) -> int:
    """Fill p, and return -1, or the byte at which the chunk is damaged."""
    size, count, i = len(data), len(p), np.int64(0)
    while i < count:
        if at >= size:
            return at
        value, run = data[at] >> 7, np.int64(data[at] & 127)
        at += 1
        if run == 127:
            if at + 2 > size:
                return at
            run = np.int64(data[at]) | np.int64(data[at + 1]) << np.int64(8)
            at += 2
        if run > count - i:
            return at
        p[i : i + run] = value
        i += run
    return -1


@_compiled
def _packed24(
    data: NDArray[np.uint8], at: int, x: NDArray[np.uint16], y: NDArray[np.uint16], p: NDArray[np.uint8]
) -> int:
    """Fill x, y and p, four events per 12 bytes; return -1, or the byte at which the chunk is damaged."""
    count = len(x)
    if at + (count + 3) // 4 * 12 > len(data):
        return len(data)
    for i in range(count):
        k, base = i & 3, at + i // 4 * 12
        # Value k takes the low 8 k bits of word k - 1 and, above them, the high bits of word k.
        value = np.int64(0)
        if k > 0:
            for b in range(k):
                value |= np.int64(data[base + 4 * (k - 1) + b]) << np.int64(8 * b)
        if k < 3:
            for b in range(k + 1, 4):
                value |= np.int64(data[base + 4 * k + b]) << np.int64(8 * (b - 1))
        x[i], y[i], p[i] = value >> 1 & 2047, value >> 12 & 2047, value & 1
    return -1


@_compiled
def _packed12(data: NDArray[np.uint8], at: int, x: NDArray[np.uint16], p: NDArray[np.uint8]) -> int:
    """Fill x and p, four events per 6 bytes; return -1, or the byte at which the chunk is damaged."""
    count = len(x)
    if at + (count + 3) // 4 * 6 > len(data):
        return len(data)
    for i in range(count):
        k, base = i & 3, at + i // 4 * 6
        value = np.int64(0)
        if k > 0:
            below = np.int64(data[base + 2 * k - 2]) | np.int64(data[base + 2 * k - 1]) << np.int64(8)
            value |= below & ((np.int64(1) << np.int64(4 * k)) - 1)
        if k < 3:
            word = np.int64(data[base + 2 * k]) | np.int64(data[base + 2 * k + 1]) << np.int64(8)
            value |= word >> np.int64(4 * k + 4) << np.int64(4 * k)
        x[i], p[i] = value >> 1, value & 1
    return -1


def _words(data: NDArray[np.uint8], at: int, kind: str, count: int) -> NDArray[np.unsignedinteger]:
    end = at + count * np.dtype(kind).itemsize
    if end > len(data):
        raise DamagedFileError(f"damaged ECF chunk at byte {len(data)} of {len(data)}")
    return np.frombuffer(data[at:end].tobytes(), kind)


def _spread(
    data: NDArray[np.uint8], at: int, count: int, values: list[int], runs: list[int], kind: type
) -> NDArray[np.int64]:
    if sum(runs) != count:
        raise DamagedFileError(f"damaged ECF chunk at byte {at} of {len(data)}")
    return np.repeat(np.array(values, kind), np.array(runs, np.int64))


def _plain_times(data: NDArray[np.uint8], count: int) -> tuple[int, NDArray[np.int64]]:
    raw, at, now, total = data.tobytes(), _HEADER, first_time(data), 0
    values: list[int] = []
    runs: list[int] = []
    try:
        while total < count:
            longer, shift = 0, 0
            while raw[at] >> 4 == 15:
                if shift >= 64:
                    raise IndexError
                longer |= (raw[at] & 15) << shift
                shift, at = shift + 4, at + 1
            now += longer + (raw[at] >> 4)
            run, at = raw[at] & 15, at + 1
            if run == 15:
                run, at = raw[at] | raw[at + 1] << 8, at + 2
            # 64 bits wrap around in the compiled kernel too.
            values.append((now + 2**63) % 2**64 - 2**63)
            runs.append(run)
            total += run
    except IndexError:
        raise DamagedFileError(f"damaged ECF chunk at byte {at} of {len(data)}") from None
    return at, _spread(data, at, count, values, runs, np.int64)


def _plain_runs(data: NDArray[np.uint8], at: int, count: int, size: int, bits: int) -> tuple[int, NDArray[np.int64]]:
    """Return the byte after, and values in the bits above the run; a full run is followed by itself in 16 bits."""
    raw, full, total = data.tobytes(), (1 << bits) - 1, 0
    values: list[int] = []
    runs: list[int] = []
    try:
        while total < count:
            word, at = (raw[at] | raw[at + 1] << 8 if size == 2 else raw[at]), at + size
            run = word & full
            if run == full:
                run, at = raw[at] | raw[at + 1] << 8, at + 2
            values.append(word >> bits)
            runs.append(run)
            total += run
    except IndexError:
        raise DamagedFileError(f"damaged ECF chunk at byte {at} of {len(data)}") from None
    return at, _spread(data, at, count, values, runs, np.int64)


def _plain_masked(data: NDArray[np.uint8], at: int, count: int) -> tuple[int, NDArray[np.int64]]:
    raw = data.tobytes()
    x: list[int] = []
    try:
        while len(x) < count:
            word, at = raw[at] | raw[at + 1] << 8, at + 2
            x.append(word >> 5)
            x.extend((word >> 5) + k + 1 for k in range(5) if word >> (4 - k) & 1)
    except IndexError:
        raise DamagedFileError(f"damaged ECF chunk at byte {at} of {len(data)}") from None
    return at, np.array(x[:count], np.int64)
