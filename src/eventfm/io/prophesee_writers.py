"""Events, and triggers in RAW, as Prophesee RAW (EVT2, EVT3) and DAT files, written piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventfm.events import Sensor
from eventfm.io.atomic import atomic_file
from eventfm.io.contract import FormatError
from eventfm.io.pieces import pieces
from eventfm.io.recording import as_track_times
from eventfm.io.writers import track_length, warn_of_lost
from eventfm.protocols import Recording

_PIECE = 1_000_000
_LARGEST_RAW = 1 << 11
_LARGEST_DAT = 1 << 14
_MOST_LOOPS = 1 << 20
_TRIGGER = -1


class _Last(NamedTuple):
    """What the words so far have said; -1 for nothing yet."""

    loop: int = 0
    high: int = -1
    low: int = -1
    y: int = -1


class _Moments(NamedTuple):
    """Events and triggers by time, int64 (N,); a trigger has its channel as x, its edge as p and `_TRIGGER` as y."""

    t: NDArray[np.int64]
    x: NDArray[np.int64]
    y: NDArray[np.int64]
    p: NDArray[np.int64]


class _Kind(NamedTuple):
    """What sets EVT2 and EVT3 apart: the bits of a loop of the clock, channels of triggers, and the words."""

    name: str
    loop_bits: int
    channels: int
    words: Callable[[_Moments, _Last], tuple[NDArray[Any], _Last]]


def save_evt2(path: Path, recording: Recording, overwrite: bool = False) -> None:
    """Write a RAW file of EVT2 words; its times count from zero. Triggers, (edge, channel), stand among the events.

    Raises:
        FormatError: A sensor of more than 2048 pixels a side, a time before zero or too long after the last, an edge
            other than 0 and 1, or a channel from 32 on.
    """
    _save_raw(path, recording, overwrite, _EVT2)


def save_evt3(path: Path, recording: Recording, overwrite: bool = False) -> None:
    """Write a RAW file of EVT3 words; its times count from zero. Triggers, (edge, channel), stand among the events.

    Raises:
        FormatError: A sensor of more than 2048 pixels a side, a time before zero or too long after the last, an edge
            other than 0 and 1, or a channel from 16 on.
    """
    _save_raw(path, recording, overwrite, _EVT3)


def save_dat(path: Path, recording: Recording, overwrite: bool = False) -> None:
    """Write a DAT file, version 2.

    Raises:
        FormatError: A sensor of more than 16384 pixels a side, a first time that is not within 32 bits, or one more
            than 2^31 us after the last.
    """
    _require_size(recording.sensor, _LARGEST_DAT, "DAT")
    warn_of_lost(list(recording.tracks), "DAT")
    lines = ["Data file containing CD events.", "Version 2"]
    if not recording.sensor.inferred:
        lines += [f"Height {recording.sensor.height}", f"Width {recording.sensor.width}"]
    last: int | None = None
    with atomic_file(path, overwrite) as temporary, temporary.open("wb") as file:
        file.write("".join(f"% {line}\n" for line in lines).encode() + bytes((12, 8)))
        for events in pieces(recording, _PIECE):
            if last is None and not 0 <= events.t[0] < 1 << 32:
                raise FormatError(f"expected a first time of 0 to 2^32 us for DAT, got {events.t[0]}; shift the times")
            gaps = np.diff(events.t, prepend=events.t[0] if last is None else last)
            if gaps.max() > 1 << 31:
                raise FormatError(f"expected at most 2^31 us between two events for DAT, got {gaps.max()}")
            bits = events.x | events.y.astype(np.uint32) << 14 | events.p.astype(np.uint32) << 28
            file.write(np.stack(((events.t & 0xFFFFFFFF).astype("<u4"), bits.astype("<u4")), 1).tobytes())
            last = int(events.t[-1])


def evt2_words(moments: _Moments, last: _Last) -> tuple[NDArray[np.uint32], _Last]:
    """Return the words of a stretch within one loop of the time: the higher bits where they change, and one each."""
    t, x, y, p = moments
    high, low = t >> 6 & 0xFFFFFFF, t & 0x3F
    new = high != np.concatenate([[last.high], high[:-1]])
    at = np.arange(len(t)) + np.cumsum(new)
    words = np.empty(len(t) + int(new.sum()), "<u4")
    words[at] = np.where(y == _TRIGGER, 10 << 28 | x << 8 | p, p << 28 | x << 11 | y) | low << 22
    words[at[new] - 1] = 8 << 28 | high[new]
    return words, last._replace(high=int(high[-1]))


def evt3_words(moments: _Moments, last: _Last) -> tuple[NDArray[np.uint16], _Last]:
    """Return the words of a stretch within one loop of the time: time and row where they change, and one each."""
    t, x, y, p = moments
    high, low = t >> 12 & 0xFFF, t & 0xFFF
    new_high = high != np.concatenate([[last.high], high[:-1]])
    # The lower half is zero once the higher one has changed; it is said all the same, as cameras do.
    new_low = new_high | (low != np.concatenate([[last.low], low[:-1]]))
    is_event = y != _TRIGGER
    rows = y[is_event]
    new_y = np.zeros(len(t), np.bool_)
    new_y[is_event] = rows != np.concatenate([[last.y], rows])[:-1]
    at = np.cumsum(1 + new_high.astype(np.int64) + new_low + new_y) - 1
    words = np.empty(int(at[-1]) + 1, "<u2")
    words[at] = np.where(is_event, 2 << 12 | p << 11 | x, 10 << 12 | x << 8 | p)
    words[(at - 1)[new_y]] = y[new_y]
    words[(at - 1 - new_y)[new_low]] = 6 << 12 | low[new_low]
    words[(at - 1 - new_y - new_low)[new_high]] = 8 << 12 | high[new_high]
    return words, _Last(last.loop, int(high[-1]), int(low[-1]), int(rows[-1]) if len(rows) else last.y)


def _save_raw(path: Path, recording: Recording, overwrite: bool, kind: _Kind) -> None:
    _require_size(recording.sensor, _LARGEST_RAW, kind.name)
    triggers = _triggers(recording, kind)
    warn_of_lost([name for name in recording.tracks if name != "triggers" or triggers is None], kind.name)
    size = recording.sensor
    lines = [f"evt {kind.name[3]}.0", f"format {kind.name}"]
    if not size.inferred:
        lines = [
            lines[0],
            f"{lines[1]};height={size.height};width={size.width}",
            f"geometry {size.width}x{size.height}",
        ]
    last = _Last()
    with atomic_file(path, overwrite) as temporary, temporary.open("wb") as file:
        file.write("".join(f"% {line}\n" for line in [*lines, "end"]).encode())
        for moments in _moments(recording, triggers):
            if last.high < 0 and moments.t[0] < 0:
                raise FormatError(f"expected times from 0 us on for {kind.name}, got {moments.t[0]}; shift the times")
            loops = moments.t >> kind.loop_bits
            cuts = [0, *(np.flatnonzero(np.diff(loops)) + 1).tolist(), len(loops)]
            for start, stop in pairwise(cuts):
                skipped = int(loops[start]) - last.loop
                if skipped:
                    file.write(_loop_words(skipped, kind.name).tobytes())
                    last = last._replace(loop=int(loops[start]), high=-1)
                part, last = kind.words(_Moments(*(column[start:stop] for column in moments)), last)
                file.write(part.tobytes())


def _moments(recording: Recording, triggers: NDArray[np.int64] | None) -> Iterator[_Moments]:
    """Yield events and triggers by time, piece by piece; at one time, the events of a piece come first."""
    rest = np.empty((0, 3), np.int64) if triggers is None else triggers
    for events in pieces(recording, _PIECE):
        count = int(np.searchsorted(rest[:, 0], events.t[-1], side="right"))
        yield _merged(_Moments(*(getattr(events, name).astype(np.int64) for name in "txyp")), rest[:count])
        rest = rest[count:]
    if len(rest):
        yield _merged(_Moments(*np.empty((4, 0), np.int64)), rest)


def _merged(events: _Moments, triggers: NDArray[np.int64]) -> _Moments:
    if not len(triggers):
        return events
    t, edge, channel = triggers.T
    at = np.searchsorted(events.t, t, side="right")
    added = (t, channel, np.full(len(t), _TRIGGER), edge)
    return _Moments(*(np.insert(column, at, more) for column, more in zip(events, added, strict=True)))


def _triggers(recording: Recording, kind: _Kind) -> NDArray[np.int64] | None:
    """Return time, edge and channel of the triggers, (N, 3); None where there are none in that form.

    Raises:
        FormatError: An edge other than 0 and 1, or a channel for which the words have no room.
    """
    track = recording.tracks.get("triggers")
    if track is None:
        return None
    entries = [np.asarray(track.read(i)) for i in range(track_length(track))]
    if any(entry.shape != (2,) or entry.dtype.kind not in "iu" for entry in entries):
        return None
    rows = np.array(entries, np.int64).reshape(-1, 2)
    bad = (rows < 0) | (rows >= (2, kind.channels))
    if bad.any():
        first = int(np.argmax(bad.any(1)))
        edge, channel = rows[first]
        raise FormatError(
            f"expected triggers of edge 0 or 1 and channel 0 to {kind.channels - 1} for {kind.name}, got edge {edge} "
            f"and channel {channel} as entry {first}"
        )
    return np.column_stack((as_track_times(track.times), rows))


def _loop_words(count: int, name: str) -> NDArray[Any]:
    """Return words that take the time through `count` loops: its higher bits at their largest, then at zero."""
    if count > _MOST_LOOPS:
        raise FormatError(f"the times go through {count} loops of the clock of {name}; shift them nearer to zero")
    kind, bits, dtype = (28, 28, "<u4") if name == "EVT2" else (12, 12, "<u2")
    return np.tile(np.array([8 << kind | (1 << bits) - 1, 8 << kind], dtype), count)


def _require_size(sensor: Sensor, largest: int, name: str) -> None:
    if max(sensor.width, sensor.height) > largest:
        raise FormatError(
            f"expected a sensor of at most {largest} pixels a side for {name}, got {sensor.width}x{sensor.height}"
        )


_EVT2 = _Kind("EVT2", 34, 32, evt2_words)
_EVT3 = _Kind("EVT3", 24, 16, evt3_words)
