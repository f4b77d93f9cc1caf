"""Words of EVT2, EVT2.1 and EVT3, written one by one from the layout."""

from __future__ import annotations

import numpy as np

from eventfm.events import Events


def evt2_words(events: Events) -> bytes:
    words, high = [], None
    for x, y, t, p in _rows(events):
        if t >> 6 != high:
            high = t >> 6
            words.append(8 << 28 | high & 0xFFFFFFF)
        words.append(p << 28 | (t & 63) << 22 | x << 11 | y)
    return np.array(words, "<u4").tobytes()


def evt21_words(events: Events, legacy: bool = False) -> bytes:
    """Neighbours of one moment, row and polarity share a word."""
    words, high, at = [], None, 0
    rows = _rows(events)
    while at < len(rows):
        x, y, t, p = rows[at]
        if t >> 6 != high:
            high = t >> 6
            words.append(8 << 60 | (high & 0xFFFFFFF) << 32)
        mask = 0
        while (
            at < len(rows) and rows[at][1:] == (y, t, p) and x <= rows[at][0] < x + 32 and not mask >> (rows[at][0] - x)
        ):
            mask |= 1 << (rows[at][0] - x)
            at += 1
        word = p << 60 | (t & 63) << 54 | x << 43 | y << 32 | mask
        words.append((word & 0xFFFFFFFF) << 32 | word >> 32 if legacy else word)
    if legacy:
        words = [(w & 0xFFFFFFFF) << 32 | w >> 32 if w >> 60 == 8 else w for w in words]
    return np.array(words, "<u8").tobytes()


def evt3_words(events: Events) -> bytes:
    words, high, low, row = [], None, None, None
    for x, y, t, p in _rows(events):
        if t >> 12 & 0xFFF != high:
            high, low = t >> 12 & 0xFFF, None
            words.append(8 << 12 | high)
        if t & 0xFFF != low:
            low = t & 0xFFF
            words.append(6 << 12 | low)
        if y != row:
            row = y
            words.append(y)
        words.append(2 << 12 | p << 11 | x)
    return np.array(words, "<u2").tobytes()


def _rows(events: Events) -> list[tuple[int, int, int, int]]:
    columns = (events.x.tolist(), events.y.tolist(), events.t.tolist(), events.p.tolist())
    return list(zip(*columns, strict=True))
