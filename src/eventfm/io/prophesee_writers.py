"""Events as Prophesee RAW (EVT2, EVT3) and DAT files, written piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventfm.events import Events, Sensor
from eventfm.io.atomic import atomic_file
from eventfm.io.contract import FormatError
from eventfm.protocols import Recording

_PIECE = 1_000_000
_LARGEST_RAW = 1 << 11
_LARGEST_DAT = 1 << 14
_MOST_LOOPS = 1 << 20


class _Last(NamedTuple):
    """What the words so far have said; -1 for nothing yet."""

    loop: int = 0
    high: int = -1
    low: int = -1
    y: int = -1


_Words = Callable[[Events, _Last], tuple[NDArray[Any], _Last]]


def save_evt2(path: Path, recording: Recording, overwrite: bool = False) -> None:
    """Write a RAW file of EVT2 words; its times count from zero.

    Raises:
        FormatError: A sensor of more than 2048 pixels a side, a time before zero, or one too long after the last.
    """
    _save_raw(path, recording, overwrite, "EVT2", 34, evt2_words)


def save_evt3(path: Path, recording: Recording, overwrite: bool = False) -> None:
    """Write a RAW file of EVT3 words; its times count from zero.

    Raises:
        FormatError: A sensor of more than 2048 pixels a side, a time before zero, or one too long after the last.
    """
    _save_raw(path, recording, overwrite, "EVT3", 24, evt3_words)


def save_dat(path: Path, recording: Recording, overwrite: bool = False) -> None:
    """Write a DAT file, version 2.

    Raises:
        FormatError: A sensor of more than 16384 pixels a side, a first time that is not within 32 bits, or one more
            than 2^31 us after the last.
    """
    _require_size(recording.sensor, _LARGEST_DAT, "DAT")
    _warn_of_tracks(recording, "DAT")
    lines = ["Data file containing CD events.", "Version 2"]
    if not recording.sensor.inferred:
        lines += [f"Height {recording.sensor.height}", f"Width {recording.sensor.width}"]
    last: int | None = None
    with atomic_file(path, overwrite) as temporary, temporary.open("wb") as file:
        file.write("".join(f"% {line}\n" for line in lines).encode() + bytes((12, 8)))
        for events in _pieces(recording):
            if last is None and not 0 <= events.t[0] < 1 << 32:
                raise FormatError(f"expected a first time of 0 to 2^32 us for DAT, got {events.t[0]}; shift the times")
            gaps = np.diff(events.t, prepend=events.t[0] if last is None else last)
            if gaps.max() > 1 << 31:
                raise FormatError(f"expected at most 2^31 us between two events for DAT, got {gaps.max()}")
            bits = events.x | events.y.astype(np.uint32) << 14 | events.p.astype(np.uint32) << 28
            file.write(np.stack(((events.t & 0xFFFFFFFF).astype("<u4"), bits.astype("<u4")), 1).tobytes())
            last = int(events.t[-1])


def evt2_words(events: Events, last: _Last) -> tuple[NDArray[np.uint32], _Last]:
    """Return the words of events within one loop of the time: the higher bits where they change, and one an event."""
    high, low = events.t >> 6 & 0xFFFFFFF, events.t & 0x3F
    new = high != np.concatenate([[last.high], high[:-1]])
    at = np.arange(len(events)) + np.cumsum(new)
    words = np.empty(len(events) + int(new.sum()), "<u4")
    words[at] = events.p.astype(np.int64) << 28 | low << 22 | events.x.astype(np.int64) << 11 | events.y
    words[at[new] - 1] = 8 << 28 | high[new]
    return words, last._replace(high=int(high[-1]))


def evt3_words(events: Events, last: _Last) -> tuple[NDArray[np.uint16], _Last]:
    """Return the words of events within one loop of the time: time and row where they change, and one an event."""
    high, low, y = events.t >> 12 & 0xFFF, events.t & 0xFFF, events.y.astype(np.int64)
    new_high = high != np.concatenate([[last.high], high[:-1]])
    # The lower half is zero once the higher one has changed; it is said all the same, as cameras do.
    new_low = new_high | (low != np.concatenate([[last.low], low[:-1]]))
    new_y = y != np.concatenate([[last.y], y[:-1]])
    at = np.cumsum(1 + new_high.astype(np.int64) + new_low + new_y) - 1
    words = np.empty(int(at[-1]) + 1, "<u2")
    words[at] = 2 << 12 | events.p.astype(np.int64) << 11 | events.x
    words[(at - 1)[new_y]] = y[new_y]
    words[(at - 1 - new_y)[new_low]] = 6 << 12 | low[new_low]
    words[(at - 1 - new_y - new_low)[new_high]] = 8 << 12 | high[new_high]
    return words, last._replace(high=int(high[-1]), low=int(low[-1]), y=int(y[-1]))


def _save_raw(path: Path, recording: Recording, overwrite: bool, name: str, loop_bits: int, words: _Words) -> None:
    _require_size(recording.sensor, _LARGEST_RAW, name)
    _warn_of_tracks(recording, name)
    size = recording.sensor
    lines = [f"evt {name[3]}.0", f"format {name}"]
    if not size.inferred:
        lines = [
            lines[0],
            f"{lines[1]};height={size.height};width={size.width}",
            f"geometry {size.width}x{size.height}",
        ]
    last = _Last()
    with atomic_file(path, overwrite) as temporary, temporary.open("wb") as file:
        file.write("".join(f"% {line}\n" for line in [*lines, "end"]).encode())
        for events in _pieces(recording):
            if last.high < 0 and events.t[0] < 0:
                raise FormatError(f"expected times from 0 us on for {name}, got {events.t[0]}; shift the times")
            loops = events.t >> loop_bits
            cuts = [0, *(np.flatnonzero(np.diff(loops)) + 1).tolist(), len(events)]
            for start, stop in pairwise(cuts):
                skipped = int(loops[start]) - last.loop
                if skipped:
                    file.write(_loop_words(skipped, name).tobytes())
                    last = last._replace(loop=int(loops[start]), high=-1)
                part, last = words(events.take(start, stop), last)
                file.write(part.tobytes())


def _loop_words(count: int, name: str) -> NDArray[Any]:
    """Return words that take the time through `count` loops: its higher bits at their largest, then at zero."""
    if count > _MOST_LOOPS:
        raise FormatError(f"the times go through {count} loops of the clock of {name}; shift them nearer to zero")
    kind, bits, dtype = (28, 28, "<u4") if name == "EVT2" else (12, 12, "<u2")
    return np.tile(np.array([8 << kind | (1 << bits) - 1, 8 << kind], dtype), count)


def _pieces(recording: Recording) -> Iterator[Events]:
    for start in range(0, recording.num_events, _PIECE):
        yield recording.events_by_index(start, start + _PIECE)


def _require_size(sensor: Sensor, largest: int, name: str) -> None:
    if max(sensor.width, sensor.height) > largest:
        raise FormatError(
            f"expected a sensor of at most {largest} pixels a side for {name}, got {sensor.width}x{sensor.height}"
        )


def _warn_of_tracks(recording: Recording, name: str) -> None:
    from eventfm.io.writers import warn_of_lost

    warn_of_lost(list(recording.tracks), name)
