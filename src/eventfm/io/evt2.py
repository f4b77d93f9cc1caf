"""EVT2, Prophesee's words of 32 bits: to events, from any word on if the state there is known.

A word is type[31:28]; 0 and 1 are an event, OFF and ON: t[27:22], x[21:11], y[10:0]; 8 is the higher part of the
time, t[27:0], of which an event adds the lower 6 bits; 10 is a trigger, and the rest is for others.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from eventfm.io.columns import Columns
from eventfm.io.word_columns import Seen, empty_columns, first_of, nothing_seen

State = tuple[int, ...]
"""Higher part of the time and base of the loops (microseconds), and 1 once the time is known."""

WORD = np.dtype("<u4")
START = (0, 0, 0)
LOOP_US = 1 << 34
HALF = 1 << 27
"""A higher part of the time that falls by as much has begun again from zero; by less, it is disorder."""
HIGH, TRIGGER, OTHER = 8, 10, 14
MOST = 1
"""Events that a word makes at most."""


def decode(words: NDArray[np.uint32], state: State = ()) -> tuple[Columns, State]:
    """Return the events of `words`, times in microseconds with loops of 2^34 unrolled, and the state after them.

    Words before the first that says the higher part of the time are passed over. `state` is empty at the beginning.
    """
    columns = empty_columns(int((words >> np.uint32(28) < 2).sum()))
    found, after = decode_into(words, state, columns, nothing_seen())
    return first_of(columns, found), after


def decode_into(words: NDArray[np.uint32], state: State, room: Columns, seen: Seen) -> tuple[int, State]:
    """Write what `decode` returns into `room`, of `MOST` places a word or as many as needed; return how many are used.

    `seen` (`word_columns.Seen`) gets what these words add to it.
    """
    after = np.array(state or START, np.int64)
    found = _decode(words, after, *room, seen)
    return int(found), tuple(after.tolist())


def decode_plainly(words: NDArray[np.uint32], state: State = ()) -> tuple[Columns, State]:
    """Return what `decode` returns, word by word in plain Python."""
    high, loops, known = state or START
    rows: list[tuple[int, int, int, int]] = []
    for word in words.tolist():
        kind = word >> 28
        if kind < 2:
            if known:
                rows.append((word >> 11 & 0x7FF, word & 0x7FF, loops + (high << 6 | word >> 22 & 0x3F), kind))
        elif kind == HIGH:
            value = word & 0xFFFFFFF
            if known and high - value >= HALF:
                loops += LOOP_US
            high, known = value, 1
    table = np.array(rows, np.int64).reshape(-1, 4)
    x, y, p = table[:, 0].astype(np.uint16), table[:, 1].astype(np.uint16), table[:, 3].astype(np.uint8)
    return Columns(x, y, table[:, 2], p), (high, loops, known)


def is_trigger(words: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Return which words are triggers, (N,)."""
    return np.asarray(words >> 28 == TRIGGER)


def triggers_as_events(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return `words` with each trigger an event at x = channel with p = edge, and without the events."""
    as_event = (words & 1) << 28 | words & 0x0FC00000 | (words >> 8 & 0x1F) << 11
    others = np.where(words >> 28 <= 1, np.uint32(OTHER << 28), words)
    return np.where(is_trigger(words), as_event, others).astype(np.uint32)


@numba.njit(cache=True, nogil=True)
def _decode(
    words: NDArray[np.uint32],
    state: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.uint8],
    seen: Seen,
) -> int:
    """Write the events of `words` into the columns and what follows into `state`; return how many there are."""
    high, loops, known = state
    right, bottom, backwards, triggers, earliest, latest, last = seen
    start = loops + (high << 6)
    n = np.uint64(0)  # without a sign, so that no place is looked at for being counted from the end
    for word in words:
        kind = word >> 28
        if kind < 2:
            if known:
                column, row = np.int64(word >> 11 & 0x7FF), np.int64(word & 0x7FF)
                now = start + np.int64(word >> 22 & 0x3F)
                x[n], y[n], t[n], p[n] = column, row, now, kind
                n += np.uint64(1)
                right, bottom, latest = max(right, column), max(bottom, row), max(latest, now)
                if now < last:
                    backwards, earliest = backwards + 1, min(earliest, now)
                last = now
        elif kind == HIGH:
            value = np.int64(word & 0xFFFFFFF)
            if known and high - value >= HALF:
                loops += LOOP_US
            high, known = value, 1
            start = loops + (high << 6)
        elif kind == TRIGGER:
            triggers += known
    if n:
        earliest = min(earliest, t[0])
    state[0], state[1], state[2] = high, loops, known
    seen[0], seen[1], seen[2], seen[3] = right, bottom, backwards, triggers
    seen[4], seen[5], seen[6] = earliest, latest, last
    return int(n)
