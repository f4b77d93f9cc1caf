"""Prophesee's HDF5 files: `CD/events` as records {x, y, p, t}, in ECF chunks or in any filter that HDF5 knows.

No public build of HDF5 has the ECF filter, so the chunks are read as they are and decoded here. The first time of a
chunk stands in its header: a window is found by bisection over them, without `CD/indexes`, which only helps where
chunks cannot be looked into.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventfm.events import OnError, Sensor
from eventfm.io.columns import Columns, file_columns
from eventfm.io.contract import DamagedFileError, FormatError, Reader
from eventfm.io.hdf5_file import Hdf5File, h5py, reading, require_hdf5, stored
from eventfm.io.recording import ArrayTrack
from eventfm.io.searched import SearchedRecording, find_sensor
from eventfm.protocols import Track

_EVENTS = "CD/events"
_TRIGGERS = "EXT_TRIGGER/events"
_ECF = 0x8ECF
_DECODED = 8
_LARGEST_RECORD = 64
_KNOWN = (
    Sensor(320, 320, "GenX320"),
    Sensor(640, 480, "Prophesee VGA"),
    Sensor(1280, 720, "Prophesee HD"),
)


def sniff(path: Path) -> float:
    """Return 1 for `CD/events` with fields x, y, p and t.

    Raises:
        FormatError: It is no HDF5 file, or has another layout.
    """
    require_hdf5(path)
    with reading(path), h5py.File(path, "r") as file:
        events = file.get(_EVENTS)
        if not (isinstance(events, h5py.Dataset) and set("xypt") <= set(events.dtype.names or ())):
            raise FormatError(f"it has no {_EVENTS} with fields x, y, p and t")
    return 1.0


class _Records:
    """Records of one data set by position, decoded chunk by chunk; the last few chunks are kept."""

    def __init__(self, file: Hdf5File) -> None:
        self._file = file
        self.name = str(file.path)
        data = stored(file["/"], _EVENTS)
        self._dtype = data.dtype
        if not set("xypt") <= set(self._dtype.names or ()) or self._dtype.itemsize > _LARGEST_RECORD:
            raise FormatError(f"{self.name}: expected records {{x, y, p, t}} as {_EVENTS}, got {self._dtype}")
        filters = data.id.get_create_plist()
        self._is_ecf = filters.get_nfilters() > 0 and filters.get_filter(0)[0] == _ECF
        if self._is_ecf and filters.get_nfilters() > 1:
            raise FormatError(f"{self.name}: {_EVENTS} has filters after ECF, which is not known")
        self._chunk = int(data.chunks[0]) if data.chunks else 1 << 14
        self._length = len(data)
        self._decoded = lru_cache(_DECODED)(self._decode)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_decoded"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._decoded = lru_cache(_DECODED)(self._decode)

    def __len__(self) -> int:
        return self._length

    def read(self, start: int, stop: int) -> Columns:
        """Return events `start` to `stop`."""
        parts = list(self._parts(start, stop))
        x, y, t, p = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Columns(x, y, t, p)

    def time(self, i: int) -> int:
        """Return the time of event `i` in microseconds; that of a chunk's first event stands in its header."""
        chunk, at = divmod(i, self._chunk)
        data = self._bytes(chunk) if self._is_ecf and at == 0 else None
        if data is None:
            return int(self._decoded(chunk).t[at])
        from eventfm.io.ecf import first_time

        try:
            return first_time(data)
        except DamagedFileError as error:
            raise DamagedFileError(f"{self.name}: chunk {chunk} of {_EVENTS}: {error}") from None

    def _parts(self, start: int, stop: int) -> Iterator[Columns]:
        for chunk in range(start // self._chunk, -(-stop // self._chunk)):
            base = chunk * self._chunk
            part = slice(max(start - base, 0), stop - base)
            yield Columns(*(column[part] for column in self._decoded(chunk)))

    def _bytes(self, chunk: int) -> NDArray[np.uint8] | None:
        """Return an ECF chunk as it is in the file; None where the filter was left out for it."""
        with reading(self._file.path):
            mask, data = self._file[_EVENTS].id.read_direct_chunk((chunk * self._chunk,))
        return None if mask & 1 else np.frombuffer(data, np.uint8)

    def _decode(self, chunk: int) -> Columns:
        start = chunk * self._chunk
        count = min(self._chunk, self._length - start)
        data = self._bytes(chunk) if self._is_ecf else None
        if data is None:
            return self._plain(start, count)
        from eventfm.io.ecf import decode  # which takes numba along, that the other files do not need

        try:
            columns = decode(data)
        except DamagedFileError as error:
            raise DamagedFileError(f"{self.name}: chunk {chunk} of {_EVENTS}: {error}") from None
        if len(columns.t) < count:
            raise DamagedFileError(f"{self.name}: chunk {chunk} of {_EVENTS} holds {len(columns.t)} of {count} events")
        # HDF5 fills the last chunk up.
        return Columns(*(column[:count] for column in columns))

    def _plain(self, start: int, count: int) -> Columns:
        with reading(self._file.path):
            data = self._file[_EVENTS]
            if self._is_ecf:
                _, raw = data.id.read_direct_chunk((start,))
                if len(raw) < count * self._dtype.itemsize:
                    raise DamagedFileError(f"{self.name}: the chunk at event {start} of {_EVENTS} is cut off")
                records = np.frombuffer(raw, self._dtype, count)
            else:
                records = np.asarray(data[start : start + count])
        return file_columns({name: records[name] for name in "xytp"}, self.name, "us")


def open_file(path: Path, sensor: Sensor | None, on_error: OnError) -> SearchedRecording:
    """Return the recording, read when asked for, with a track `triggers` of (edge, channel) where there are any.

    The attribute `geometry` says the size; without it the size is that of the first Prophesee sensor that holds the
    coordinates.

    Raises:
        FormatError: The file is damaged or cut off.
    """
    require_hdf5(path)
    file = Hdf5File(path)
    with reading(path):
        source = _Records(file)
        tracks: dict[str, Track] = {}
        triggers = _triggers(file)
        if triggers is not None:
            tracks["triggers"] = triggers
        stated = _geometry(file["/"])
    return SearchedRecording(source, "prophesee_hdf5", find_sensor(source, sensor, stated, _KNOWN), on_error, tracks)


def _triggers(file: Hdf5File) -> ArrayTrack | None:
    root = file["/"]
    if not isinstance(root.get(_TRIGGERS), h5py.Dataset) or not len(root[_TRIGGERS]):
        return None
    records = np.asarray(stored(root, _TRIGGERS)[()])
    if not {"p", "t", "id"} <= set(records.dtype.names or ()):
        raise FormatError(f"{file.path}: expected records {{p, t, id}} as {_TRIGGERS}, got {records.dtype}")
    return ArrayTrack(records["t"], np.stack((records["p"], records["id"]), 1).astype(np.int64))


def _geometry(root: Any) -> Sensor | None:
    """Return the size in the attribute `geometry`, "WIDTHxHEIGHT", or None."""
    if "geometry" not in root.attrs:
        return None
    found = root.attrs["geometry"]
    text = found.decode("ascii", "replace") if isinstance(found, bytes) else str(found)
    match = re.fullmatch(r"\s*(\d{1,5})x(\d{1,5})\s*", text)
    return Sensor(int(match[1]), int(match[2])) if match else None


READER = Reader(sniff, open_file)
