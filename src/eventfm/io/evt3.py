"""EVT3, Prophesee's vectorised words of 16 bits: to events, from any word on if the state there is known.

A word is type[15:12] and 12 bits: 0 row y[10:0]; 2 one event, x[10:0] p[11]; 3 where vectors begin, x[10:0] p[11];
4 and 5 masks of 12 and 8 neighbours from there on; 6 and 8 the lower and higher 12 bits of the time; 10 a trigger.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from eventfm.io.columns import Columns
from eventfm.io.word_columns import Seen, empty_columns, first_of, nothing_seen

State = tuple[int, ...]
"""Time of the last word and base of the loops (microseconds), y, x and p of vectors, and 1 once the time is known."""

WORD = np.dtype("<u2")
_START = (0, 0, 0, 0, 0, 0)
_LOOP_US = 1 << 24
_ROW, _ONE, _BASE, _MASK_12, _MASK_8, _LOW, _HIGH, _TRIGGER = 0, 2, 3, 4, 5, 6, 8, 10
_OTHER = 7
_HALF = 1 << 11
"""A higher half of the time that falls by as much has begun again from zero; by less, it is disorder."""
MOST = 12
"""Events that a word makes at most."""


def decode(words: NDArray[np.uint16], state: State = ()) -> tuple[Columns, State]:
    """Return the columns x, y, t (microseconds, loops of 2^24 unrolled) and p of `words`, and the state after them.

    Words before the first that says the higher half of the time are passed over: nobody knows when they were.
    `state` is empty at the beginning of a stream.
    """
    columns = empty_columns(_count(words))
    found, after = decode_into(words, state, columns, nothing_seen())
    return first_of(columns, found), after


def decode_into(words: NDArray[np.uint16], state: State, room: Columns, seen: Seen) -> tuple[int, State]:
    """Write what `decode` returns into `room`, of `MOST` places a word or as many as needed; return how many are used.

    `seen` (`word_columns.Seen`) gets what these words add to it.
    """
    after = np.array(state or _START, np.int64)
    found = _decode(words, after, *room, seen)
    return int(found), tuple(after.tolist())


def decode_plainly(words: NDArray[np.uint16], state: State = ()) -> tuple[Columns, State]:
    """Return what `decode` returns, word by word in plain Python."""
    time, loops, row, base, polarity, known = state or _START
    rows: list[tuple[int, int, int, int]] = []
    for word in words.tolist():
        kind, value = word >> 12, word & 0xFFF
        if kind == _ROW:
            row = value & 0x7FF
        elif kind == _ONE:
            if known:
                rows.append((value & 0x7FF, row, loops + time, value >> 11))
        elif kind == _BASE:
            base, polarity = value & 0x7FF, value >> 11
        elif kind in (_MASK_12, _MASK_8):
            width = 12 if kind == _MASK_12 else 8
            if known:
                rows += [(base + i, row, loops + time, polarity) for i in range(width) if value >> i & 1]
            base = (base + width) & 0xFFFF
        elif kind == _LOW:
            time = (time & ~0xFFF) | value
        elif kind == _HIGH:
            high = time >> 12
            if known and high - value >= _HALF:
                loops += _LOOP_US
            if not known or value != high:
                time = value << 12
            known = 1
    table = np.array(rows, np.int64).reshape(-1, 4)
    x, y, p = table[:, 0].astype(np.uint16), table[:, 1].astype(np.uint16), table[:, 3].astype(np.uint8)
    return Columns(x, y, table[:, 2], p), (time, loops, row, base, polarity, known)


def is_trigger(words: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Return which words are triggers, (N,)."""
    return np.asarray(words >> 12 == _TRIGGER)


def triggers_as_events(words: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Return `words` with each trigger an event at x = channel with p = edge, and without the events."""
    as_event = _ONE << 12 | (words & 1) << 11 | words >> 8 & 0xF
    others = np.where(np.isin(words >> 12, (_ONE, _MASK_12, _MASK_8)), np.uint16(_OTHER << 12), words)
    return np.where(is_trigger(words), as_event, others).astype(np.uint16)


@numba.njit(cache=True, nogil=True)
def _count(words: NDArray[np.uint16]) -> int:
    """Return how many events `words` hold at most."""
    count = 0
    for word in words:
        kind = word >> 12
        if kind == _ONE:
            count += 1
        elif kind in (_MASK_12, _MASK_8):
            mask = word & (0xFFF if kind == _MASK_12 else 0xFF)
            while mask:
                mask &= mask - 1
                count += 1
    return count


@numba.njit(cache=True, nogil=True)
def _decode(
    words: NDArray[np.uint16],
    state: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.uint8],
    seen: Seen,
) -> int:
    """Write the events of `words` into the columns and what follows into `state`; return how many there are."""
    time, loops, row, base, polarity, known = state
    right, bottom, backwards, triggers, earliest, latest, last = seen
    now = loops + time
    n = np.uint64(0)  # without a sign, so that no place is looked at for being counted from the end
    for word in words:
        kind, value = word >> 12, np.int64(word & 0xFFF)
        if kind == _ONE:
            if known:
                column = value & 0x7FF
                x[n], y[n], t[n], p[n] = column, row, now, value >> 11
                n += np.uint64(1)
                right, bottom, latest = max(right, column), max(bottom, row), max(latest, now)
                if now < last:
                    backwards, earliest = backwards + 1, min(earliest, now)
                last = now
        elif kind == _ROW:
            row = value & 0x7FF
        elif kind == _LOW:
            time = (time & ~0xFFF) | value
            now = loops + time
        elif kind == _BASE:
            base, polarity = value & 0x7FF, value >> 11
        elif kind in (_MASK_12, _MASK_8):
            width = 12 if kind == _MASK_12 else 8
            mask, column = value & ((1 << width) - 1) if known else 0, base
            if mask:
                while mask:
                    if mask & 1:
                        x[n], y[n], t[n], p[n] = column, row, now, polarity
                        n += np.uint64(1)
                    mask, column = mask >> 1, column + 1
                # Beyond 16 bits columns begin again at 0, and the mask's own end is no less than any of them.
                right, bottom, latest = max(right, column - 1), max(bottom, row), max(latest, now)
                if now < last:
                    backwards, earliest = backwards + 1, min(earliest, now)
                last = now
            base = (base + width) & 0xFFFF
        elif kind == _HIGH:
            high = time >> 12
            if known and high - value >= _HALF:
                loops += _LOOP_US
            if not known or value != high:
                time = value << 12
            known, now = 1, loops + time
        elif kind == _TRIGGER:
            triggers += known
    if n:
        earliest = min(earliest, t[0])
    state[0], state[1], state[2], state[3], state[4], state[5] = time, loops, row, base, polarity, known
    seen[0], seen[1], seen[2], seen[3] = right, bottom, backwards, triggers
    seen[4], seen[5], seen[6] = earliest, latest, last
    return int(n)
