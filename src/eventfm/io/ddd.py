"""DDD17 and DDD20 recordings (Binas et al., 2017; Hu et al., ITSC 2020): packets of cAER in an HDF5 file.

A row of `dvs/data` is three arrays of bytes: the computer's time as text, a packet header of 28 bytes, and the
packet's body, as in AEDAT 3.1. Rows at the end may be empty. DAVIS346, 346x260.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventfm.events import OnError, Sensor
from eventfm.io.columns import Columns
from eventfm.io.contract import DamagedFileError, FormatError, Reader, report_cut
from eventfm.io.hdf5_file import h5py, reading, require_hdf5
from eventfm.io.hdf5_heap import PLACE, ByteHeap, require_byte_arrays
from eventfm.io.recording import as_track_times
from eventfm.io.searched import SearchedRecording
from eventfm.protocols import Track

_DATA = "dvs/data"
_SENSOR = Sensor(346, 260, "DAVIS346")
_POLARITY, _FRAME = 1, 2
_HEADER = np.dtype(
    [
        ("type", "<i2"),
        ("source", "<i2"),
        ("size", "<i4"),
        ("ts_offset", "<i4"),
        ("ts_overflow", "<i4"),
        ("capacity", "<i4"),
        ("number", "<i4"),
        ("valid", "<i4"),
    ]
)
_EVENT = np.dtype([("data", "<u4"), ("t", "<u4")])
_FRAME_HEADER = np.dtype(
    [
        ("info", "<u4"),
        ("start_of_frame", "<i4"),
        ("end_of_frame", "<i4"),
        ("start_of_exposure", "<i4"),
        ("end_of_exposure", "<i4"),
        ("width", "<i4"),
        ("height", "<i4"),
        ("left", "<i4"),
        ("top", "<i4"),
    ]
)
_OVERFLOW = 31
_LARGEST_OVERFLOW = 1 << 24


class _Packets:
    """Headers and places of the bodies of all packets of a file; the bodies are read when asked for."""

    def __init__(self, path: Path, on_error: OnError) -> None:
        self.path = path
        self.headers, self.bodies = _index(path, on_error)
        self._heap: ByteHeap | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_heap": None}

    def of_type(self, kind: int) -> NDArray[np.intp]:
        """Return the numbers of the packets of one type that hold something."""
        return np.flatnonzero((self.headers["type"] == kind) & (self.headers["valid"] > 0))

    def body(self, i: int, stop: int | None = None) -> NDArray[np.uint8]:
        """Return the body of packet `i`, or its first `stop` bytes."""
        if self._heap is None:
            self._heap = ByteHeap(self.path)
        return self._heap.bytes_at(self.bodies[i], stop=stop)

    def overflow(self, i: int) -> int:
        """Return what is to be added to the times of packet `i`, microseconds."""
        return int(self.headers["ts_overflow"][i]) << _OVERFLOW


class _Polarity:
    """The polarity events of the packets, by position."""

    def __init__(self, packets: _Packets) -> None:
        self._packets = packets
        self._numbers = packets.of_type(_POLARITY)
        self._starts = np.append(0, np.cumsum(packets.headers["valid"][self._numbers], dtype=np.int64))
        self.name = str(packets.path)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, start: int, stop: int) -> Columns:
        """Return events `start` to `stop`."""
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        last = int(np.searchsorted(self._starts, stop, side="left"))
        parts = [self._packet(int(i)) for i in self._numbers[first:last]]
        base = int(self._starts[first])
        x, y, t, p = (np.concatenate(column)[start - base : stop - base] for column in zip(*parts, strict=True))
        return Columns(x, y, t, p)

    def time(self, i: int) -> int:
        """Return the time of event `i` in microseconds."""
        return int(self.read(i, i + 1).t[0])

    def _packet(self, i: int) -> Columns:
        header = self._packets.headers[i]
        events = self._packets.body(i)[: int(header["number"]) * _EVENT.itemsize].view(_EVENT)
        data, t = events["data"], events["t"].astype(np.int64) + self._packets.overflow(i)
        valid = (data & 1) == 1
        if int(valid.sum()) != header["valid"]:
            raise DamagedFileError(
                f"{self.name}: packet {i} of {_DATA} says {header['valid']} valid events and has {int(valid.sum())}"
            )
        data, t = data[valid], t[valid]
        x, y, p = data >> 17, data >> 2 & 0x7FFF, data >> 1 & 1
        return Columns(x.astype(np.uint16), y.astype(np.uint16), t, p.astype(np.uint8))


class _Frames:
    """The pictures (H, W) uint16, at their mid-exposure."""

    def __init__(self, packets: _Packets) -> None:
        self._packets = packets
        self._numbers = packets.of_type(_FRAME)
        self.times = as_track_times(np.array([self._time(int(i)) for i in self._numbers], np.int64))

    def __len__(self) -> int:
        return len(self.times)

    def _header(self, i: int) -> np.void:
        head = self._packets.body(i, _FRAME_HEADER.itemsize)
        if len(head) < _FRAME_HEADER.itemsize:
            raise DamagedFileError(f"{self._packets.path}: frame packet {i} of {_DATA} is too short")
        return np.frombuffer(head, _FRAME_HEADER)[0]  # type: ignore[no-any-return]

    def _time(self, i: int) -> int:
        head = self._header(i)
        return (int(head["start_of_exposure"]) + int(head["end_of_exposure"])) // 2 + self._packets.overflow(i)

    def read(self, i: int) -> NDArray[Any]:
        """Return picture `i`."""
        number = int(self._numbers[i])
        head = self._header(number)
        width, height = int(head["width"]), int(head["height"])
        pixels = self._packets.body(number)[_FRAME_HEADER.itemsize :]
        if not (width > 0 and height > 0 and width * height * 2 <= len(pixels)):
            raise DamagedFileError(f"{self._packets.path}: no picture of {width}x{height} in packet {number}")
        return np.frombuffer(pixels, "<u2", width * height).reshape(height, width)


def _index(path: Path, on_error: OnError) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """Return headers and places of the bodies, of the rows up to the first that is cut off."""
    heap = ByteHeap(path)
    headers, bodies = [np.empty(0, _HEADER)], [np.empty(0, PLACE)]
    with reading(path), h5py.File(path, "r") as file:
        data = require_byte_arrays(file, _DATA, 3)
        for piece in heap.places(data):
            places = piece[piece["length"][:, 1] > 0]
            found = []
            for place in places:
                try:
                    found.append(_header(heap, place))
                except DamagedFileError as error:
                    number = sum(map(len, headers)) + len(found)
                    report_cut(f"{path}: packet {number} of {_DATA} is damaged: {error}", on_error)
                    break
            headers.append(np.array(found, _HEADER))
            bodies.append(places[: len(found), 2])
            if len(found) < len(places):
                break
    return np.concatenate(headers), np.concatenate(bodies)


def _header(heap: ByteHeap, place: NDArray[np.void]) -> np.void:
    """Return the header of a packet whose body is there as a whole."""
    raw = heap.bytes_at(place[1])
    if len(raw) != _HEADER.itemsize:
        raise DamagedFileError(f"expected a packet header of {_HEADER.itemsize} bytes, got {len(raw)}")
    header: np.void = np.frombuffer(raw, _HEADER)[0]
    size, number, valid = (int(header[name]) for name in ("size", "number", "valid"))
    if not (0 <= valid <= number and size >= 0 and size * number <= int(place[2]["length"])):
        raise DamagedFileError(f"a packet header claims {valid} of {number} events of {size} bytes")
    if header["type"] == _POLARITY and number and size != _EVENT.itemsize:
        raise DamagedFileError(f"expected polarity events of {_EVENT.itemsize} bytes, got {size}")
    if not 0 <= header["ts_overflow"] <= _LARGEST_OVERFLOW:
        raise DamagedFileError(f"a packet header claims that its clock has wrapped {header['ts_overflow']} times")
    # The place is looked up now, so that later reads cannot fail.
    heap.bytes_at(place[2], stop=0)
    return header


def sniff(path: Path) -> float:
    """Return 1 for `dvs/data` (N, 3).

    Raises:
        FormatError: It is no HDF5 file, or has another layout.
    """
    require_hdf5(path)
    with reading(path), h5py.File(path, "r") as file:
        data = file.get(_DATA)
        if not (isinstance(data, h5py.Dataset) and data.ndim == 2 and data.shape[1] == 3):
            raise FormatError(f"it has no {_DATA} of shape (N, 3)")
    return 1.0


def open_file(path: Path, sensor: Sensor | None, on_error: OnError) -> SearchedRecording:
    """Return the recording, read when asked for, with a track `frames` where it has pictures.

    Raises:
        FormatError: The file is damaged or cut off.
    """
    require_hdf5(path)
    packets = _Packets(path, on_error)
    frames = _Frames(packets)
    tracks: dict[str, Track] = {"frames": frames} if len(frames) else {}
    return SearchedRecording(_Polarity(packets), "ddd", sensor or _SENSOR, on_error, tracks)


READER = Reader(sniff, open_file)
