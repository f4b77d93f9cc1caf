"""EVT2.1, Prophesee's words of 64 bits, which hold up to 32 neighbours: to events, from any word on.

A word is type[63:60]; 0 and 1 are OFF and ON events at t[59:54], y[42:32] and each x[53:43] + i whose bit i of [31:0]
is set; 8 is the higher part of the time, t[59:32]. Early cameras wrote the two halves of a word the other way round.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from eventfm.io.columns import Columns
from eventfm.io.evt2 import HALF, HIGH, LOOP_US, OTHER, START, TRIGGER, State
from eventfm.io.word_columns import Seen, empty_columns, first_of, nothing_seen

WORD = np.dtype("<u8")
MOST = 32
"""Events that a word makes at most."""


def decode(words: NDArray[np.uint64], state: State = ()) -> tuple[Columns, State]:
    """Return the events of `words`, times in microseconds with loops of 2^34 unrolled, and the state after them.

    Words before the first that says the higher part of the time are passed over. `state` is empty at the beginning.
    """
    columns = empty_columns(_count(words))
    found, after = decode_into(words, state, columns, nothing_seen())
    return first_of(columns, found), after


def decode_into(words: NDArray[np.uint64], state: State, room: Columns, seen: Seen) -> tuple[int, State]:
    """Write what `decode` returns into `room`, of `MOST` places a word or as many as needed; return how many are used.

    `seen` (`word_columns.Seen`) gets what these words add to it.
    """
    after = np.array(state or START, np.int64)
    found = _decode(words, after, *room, seen)
    return int(found), tuple(after.tolist())


def decode_plainly(words: NDArray[np.uint64], state: State = ()) -> tuple[Columns, State]:
    """Return what `decode` returns, word by word in plain Python."""
    high, loops, known = state or START
    rows: list[tuple[int, int, int, int]] = []
    for word in words.tolist():
        kind = word >> 60
        if kind < 2:
            time, left, row = loops + (high << 6 | word >> 54 & 0x3F), word >> 43 & 0x7FF, word >> 32 & 0x7FF
            rows += [(left + i, row, time, kind) for i in range(32) if known and word >> i & 1]
        elif kind == HIGH:
            value = word >> 32 & 0xFFFFFFF
            if known and high - value >= HALF:
                loops += LOOP_US
            high, known = value, 1
    table = np.array(rows, np.int64).reshape(-1, 4)
    x, y, p = table[:, 0].astype(np.uint16), table[:, 1].astype(np.uint16), table[:, 3].astype(np.uint8)
    return Columns(x, y, table[:, 2], p), (high, loops, known)


def halves_swapped(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return words of early cameras with their halves the usual way round."""
    return (words >> np.uint64(32)) | (words << np.uint64(32))


def is_trigger(words: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return which words are triggers, (N,)."""
    return np.asarray(words >> np.uint64(60) == TRIGGER)


def triggers_as_events(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return `words` with each trigger an event at x = channel with p = edge, and without the events."""
    bits = words.view(np.int64)
    as_event = (bits >> 32 & 1) << 60 | bits & 0x3F << 54 | (bits >> 40 & 0x1F) << 43 | 1
    others = np.where(words >> np.uint64(60) <= 1, np.uint64(OTHER << 60), words)
    return np.where(is_trigger(words), as_event.view(np.uint64), others)


@numba.njit(cache=True, nogil=True)
def _count(words: NDArray[np.uint64]) -> int:
    """Return how many events `words` hold at most."""
    count = 0
    for word in words:
        if word >> np.uint64(60) < 2:
            mask = word & np.uint64(0xFFFFFFFF)
            while mask:
                mask &= mask - np.uint64(1)
                count += 1
    return count


@numba.njit(cache=True, nogil=True)
def _decode(
    words: NDArray[np.uint64],
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
    n = 0
    for word in words:
        kind = np.int64(word >> np.uint64(60))
        upper = np.int64(word >> np.uint64(32) & np.uint64(0xFFFFFFF))
        if kind < 2:
            mask = np.int64(word & np.uint64(0xFFFFFFFF)) if known else np.int64(0)
            if mask:
                column, row, now = upper >> 11 & 0x7FF, upper & 0x7FF, loops + (high << 6 | upper >> 22)
                while mask:
                    if mask & 1:
                        x[n], y[n], t[n], p[n] = column, row, now, kind
                        n += 1
                    mask, column = mask >> 1, column + 1
                right, bottom = max(right, column - 1), max(bottom, row)
                earliest, latest = min(earliest, now), max(latest, now)
                backwards, last = backwards + (now < last), now
        elif kind == HIGH:
            if known and high - upper >= HALF:
                loops += LOOP_US
            high, known = upper, 1
        elif kind == TRIGGER:
            triggers += known
    state[0], state[1], state[2] = high, loops, known
    seen[0], seen[1], seen[2], seen[3] = right, bottom, backwards, triggers
    seen[4], seen[5], seen[6] = earliest, latest, last
    return n
