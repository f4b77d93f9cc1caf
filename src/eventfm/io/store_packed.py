"""Read the small recordings that a store packs side by side; `store_packing` says how they lie."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventfm.events import Events, OnError, Sensor
from eventfm.io.columns import file_columns
from eventfm.io.contract import FormatError
from eventfm.io.fingerprint import LENGTH
from eventfm.io.hdf5_file import Hdf5File, reading, stored
from eventfm.io.store_layout import read_text
from eventfm.io.store_packing import PACKED, PACKED_COLUMNS, Kind
from eventfm.protocols import Track

_LARGEST_US = 2**62
_NO_TRACKS: Mapping[str, Track] = {}


@dataclass(frozen=True)
class PackedTable:
    """What is whose among the packed recordings of a file, in memory; each array has an entry for each of them."""

    ids: dict[str, int]
    """The number of each."""
    first: NDArray[np.int64]
    """Its first event; one entry more than there are recordings."""
    t_offset: NDArray[np.int64]
    duration: NDArray[np.int64]
    marks: NDArray[np.bytes_]
    kind: NDArray[np.int64]
    sensors: tuple[Sensor, ...]
    """By kind."""
    provenance: dict[str, Any]


def read_packed(file: Hdf5File) -> PackedTable:
    """Return what is whose in a file.

    Raises:
        FormatError: It does not fit together.
    """
    group = file[f"/{PACKED}"]
    lengths = {name: len(stored(group["events"], name)) for name in PACKED_COLUMNS}
    first, t_offset, duration, kind = (_numbers(group, name) for name in ("first", "t_offset", "duration", "kind"))
    ids, marks = _texts(group, "ids"), _texts(group, "fingerprint")
    count = len(ids)
    if {len(t_offset), len(duration), len(kind), len(marks), len(first) - 1} != {count}:
        raise FormatError(f"{file.path}: expected an entry for each of {count} packed recordings")
    if first[0] or (np.diff(first) < 0).any() or set(lengths.values()) != {int(first[-1])}:
        raise FormatError(f"{file.path}: expected columns of {first[-1]} events, got {lengths}; is it cut off?")
    kinds = [Kind(*one) for one in json.loads(bytes(_numbers(group, "kinds").astype(np.uint8)))]
    if count and (kind.min() < 0 or kind.max() >= len(kinds) or np.abs(t_offset).max() > _LARGEST_US):
        raise FormatError(f"{file.path}: a packed recording is of no known kind, or years away")
    numbers = {one.decode(): number for number, one in enumerate(ids.tolist())}
    if len(numbers) != count or marks.dtype.itemsize != LENGTH:
        raise FormatError(f"{file.path}: packed recordings have the same id, or no fingerprint")
    sensors = tuple(Sensor(int(one.width), int(one.height), str(one.sensor), bool(one.inferred)) for one in kinds)
    provenance = json.loads(read_text(group, "provenance"))
    return PackedTable(numbers, first, t_offset, duration, marks, kind, sensors, provenance)


class Packed(NamedTuple):
    """A file and what its recordings share; they hold nothing else but their number."""

    file: Hdf5File
    first: NDArray[np.int64]
    t_offset: NDArray[np.int64]
    duration: NDArray[np.int64]
    marks: NDArray[np.bytes_]
    provenance: dict[str, Any]

    @classmethod
    def of(cls, file: Hdf5File, table: PackedTable) -> Packed:
        """Return what the recordings of `file` share."""
        return cls(file, table.first, table.t_offset, table.duration, table.marks, table.provenance)


class PackedRecording:
    """A small recording of a store, read when asked for; it has no tracks."""

    __slots__ = ("_number", "_on_error", "_packed", "sensor")

    format = "eventfm"
    tracks = _NO_TRACKS

    def __init__(self, packed: Packed, number: int, sensor: Sensor, on_error: OnError) -> None:
        self._packed = packed
        self._number = number
        self._on_error = on_error
        self.sensor = sensor

    @property
    def num_events(self) -> int:
        """Number of events."""
        start, stop = self._packed.first[self._number : self._number + 2]
        return int(stop - start)

    @property
    def t_range(self) -> tuple[int, int]:
        """First and last event time, microseconds; (0, -1) without events."""
        if not self.num_events:
            return 0, -1
        first = int(self._packed.t_offset[self._number])
        return first, first + int(self._packed.duration[self._number])

    @property
    def provenance(self) -> dict[str, Any]:
        """What the file says about where its packed recordings came from."""
        return dict(self._packed.provenance)

    @property
    def fingerprint(self) -> str:
        """What tells it from others (`fingerprint.fingerprint`), as it was when it was packed."""
        return bytes(self._packed.marks[self._number]).decode()

    def events(self, t0: int, t1: int) -> Events:
        """Return the events of `[t0, t1)` in microseconds."""
        first, last = self.t_range
        if t1 <= t0 or t1 <= first or t0 > last:
            return Events.empty(self.sensor, (t0, t1))
        start, stop = 0, self.num_events
        if t0 > first or t1 <= last:
            with reading(self._packed.file.path):
                times = self._column("t", start, stop).astype(np.int64)
            start, stop = (int(place) for place in np.searchsorted(times, (t0 - first, t1 - first), side="left"))
        return self.events_by_index(start, stop).between(t0, t1)

    def events_by_index(self, start: int, stop: int) -> Events:
        """Return events `start` to `stop` (exclusive); the range is cut to the recording."""
        start, stop = max(start, 0), min(stop, self.num_events)
        if start >= stop:
            return Events.empty(self.sensor)
        path = self._packed.file.path
        source = f"{path}, packed recording {self._number}, events {start} to {stop}"
        with reading(path):
            columns = file_columns({name: self._column(name, start, stop) for name in "xytp"}, source, "us")
        self._require_fit(columns.t, start, stop, source)
        t = columns.t + int(self._packed.t_offset[self._number])
        return Events.checked(columns.x, columns.y, t, columns.p, self.sensor, on_error=self._on_error, source=source)

    def _require_fit(self, t: NDArray[np.int64], start: int, stop: int, source: str) -> None:
        """Refuse events that do not begin or end when the table says."""
        begins = start > 0 or t[0] == 0
        ends = stop < self.num_events or t[-1] == self._packed.duration[self._number]
        if self._on_error == "raise" and not (begins and ends):
            raise FormatError(f"{source}: they are not those that were packed; the file is damaged")

    def _column(self, name: str, start: int, stop: int) -> NDArray[Any]:
        before = int(self._packed.first[self._number])
        return np.asarray(self._packed.file[f"/{PACKED}/events/{name}"][before + start : before + stop])


def _numbers(group: Any, name: str) -> NDArray[np.int64]:
    found = np.asarray(stored(group, name)[()])
    if found.dtype.kind not in "iu":
        raise FormatError(f"expected whole numbers as {name}, got {found.dtype}")
    return found.astype(np.int64)


def _texts(group: Any, name: str) -> NDArray[np.bytes_]:
    # Text of variable length HDF5 may read for ever in a damaged file.
    data = stored(group, name)
    if data.dtype.kind != "S" or data.dtype.itemsize == 0:
        raise FormatError(f"expected text of fixed length as {name}, got {data.dtype}")
    return np.asarray(data[()])
