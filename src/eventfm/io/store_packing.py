"""Write small recordings of a store side by side: all of them share four columns.

A recording of its own is a group, six data sets and seven attributes; for one of a few thousand events these take more
time and room than its events do. Packed recordings lie one after the other in `packed/events/{x, y, t, p}`, and the
rest of the group `packed` says what is whose, with an entry for each recording:

* `ids`: UTF-8 text, filled up with zeros.
* `first`: its first event in the columns, and as one entry more the number of all events.
* `t_offset`: the time of its first event, int64 microseconds; `events/t` counts from there, uint32.
* `duration`: the time from its first event to its last, microseconds.
* `fingerprint`: see `fingerprint.fingerprint`.
* `kind`: the number of its sensor and format of origin in the list `kinds`, which is JSON as bytes.

Provenance is an attribute, of all of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from eventfm import __version__
from eventfm.events import Events, Sensor
from eventfm.io.fingerprint import LENGTH, fingerprint
from eventfm.io.recording import ArrayRecording
from eventfm.io.store_layout import COLUMNS, append, growing, write_text
from eventfm.protocols import Recording

PACKED = "packed"
"""The group."""
PACKED_COLUMNS = {**COLUMNS, "t": np.uint32}
_HELD = 1_000_000
"""Events that wait in memory to be written."""
_SMALLEST_CHUNK, _LARGEST_CHUNK = 1 << 12, 1 << 15


class Kind(NamedTuple):
    """What most packed recordings have in common."""

    width: int
    height: int
    sensor: str
    inferred: bool
    source_format: str


class Packer:
    """Collects small recordings, and writes their events piece by piece into a store; `close` writes the rest."""

    def __init__(self, file: Any, limit: int | None, check: Callable[[], None]) -> None:
        self._file = file
        self._limit = limit
        self._check = check
        self._held: list[Events] = []
        self._num_held = 0
        self._columns: dict[str, Any] = {}
        self._kinds: dict[Kind, int] = {}
        self._rows: list[tuple[bytes, int, int, int, bytes, int]] = []

    def take(self, identifier: str, recording: Recording) -> bool:
        """Return whether the recording is packed: it is small, and has neither tracks nor labels of noise."""
        if self._limit is None or recording.num_events > self._limit or recording.tracks:
            return False
        events = recording.events_by_index(0, recording.num_events)
        first, last = (int(events.t[0]), int(events.t[-1])) if len(events) else (0, 0)
        if events.noise is not None or last - first >= 1 << 32:
            return False
        sensor: Sensor = recording.sensor
        kind = Kind(sensor.width, sensor.height, sensor.name, sensor.inferred, recording.format)
        number = self._kinds.setdefault(kind, len(self._kinds))
        known = getattr(recording, "fingerprint", None)
        mark = known if isinstance(known, str) else fingerprint(ArrayRecording(events))
        self._rows.append((identifier.encode(), len(events), first, last - first, mark.encode(), number))
        self._held.append(events)
        self._num_held += len(events)
        if self._num_held >= _HELD:
            self._write()
        return True

    def close(self, provenance: Mapping[str, Any] | None) -> bool:
        """Write what is left and what is whose, and return whether there is any packed recording."""
        if not self._rows:
            return False
        self._write()
        group = self._file[PACKED]
        ids, counts, offsets, durations, marks, kinds = zip(*self._rows, strict=True)
        group["ids"] = np.array(ids, f"S{max(map(len, ids))}")
        group["first"] = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        group["t_offset"] = np.array(offsets, np.int64)
        group["duration"] = np.array(durations, np.uint32)
        group["fingerprint"] = np.array(marks, f"S{LENGTH}")
        group["kind"] = np.array(kinds, np.uint32)
        group["kinds"] = np.frombuffer(json.dumps(list(self._kinds)).encode(), np.uint8)
        write_text(group, "provenance", json.dumps(dict(provenance or {})))
        write_text(group, "eventfm_version", __version__)
        self._check()
        return True

    def _write(self) -> None:
        if not self._columns:
            # A recording is read as a whole: of much larger chunks most would be decoded for its neighbours.
            typical = self._num_held // len(self._held)
            chunk = min(max(1 << typical.bit_length() >> 1, _SMALLEST_CHUNK), _LARGEST_CHUNK)
            events = self._file.create_group(PACKED).create_group("events")
            self._columns = {name: growing(events, name, dtype, chunk) for name, dtype in PACKED_COLUMNS.items()}
        for name, column in self._columns.items():
            parts = [held.t - held.t[:1] if name == "t" else getattr(held, name) for held in self._held]
            if parts:
                append(column, np.concatenate(parts).astype(PACKED_COLUMNS[name], copy=False))
            self._check()
        self._held, self._num_held = [], 0
