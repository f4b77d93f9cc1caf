"""Events, frames, inertial samples and triggers as an AEDAT 4.0 file, packet by packet in the order of their times."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from heapq import merge
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from eventfm.events import Sensor
from eventfm.io import flatbuffer
from eventfm.io.aedat4_file import MAGIC
from eventfm.io.aedat4_packets import trigger_type
from eventfm.io.atomic import atomic_file
from eventfm.io.contract import FormatError
from eventfm.io.pieces import pieces
from eventfm.io.recording import as_track_times
from eventfm.io.writers import track_length, warn_of_lost
from eventfm.protocols import Recording, Track

_PIECE = 1 << 18
_EVENTS_PER_PACKET = 1 << 13
_SAMPLES_PER_PACKET = 1 << 8
_LARGEST_SIDE = 1 << 15
_LARGEST_FRAME = 1 << 27
_LZ4 = 1
_GRAY, _BGR = 0, 16
_IMU_VALUES = 10
_EVENT = np.dtype(
    {"names": ["t", "x", "y", "p"], "formats": ["<i8", "<i2", "<i2", "u1"], "offsets": [0, 8, 10, 12], "itemsize": 16}
)
_HEAD = np.dtype([("stream", "<i4"), ("size", "<i4")])
_ENTRY = np.dtype(
    [("offset", "<i8"), ("packet", "<i4", (2,)), ("count", "<i8"), ("first_us", "<i8"), ("last_us", "<i8")]
)
_SAMPLE = np.dtype([("time", "<i8"), *[(f"value{i}", "<f4") for i in range(_IMU_VALUES)]])
_TRIGGER = np.dtype([("time", "<i8"), ("type", "i1")])
_NAMES = {"EVTS": "events", "FRME": "frames", "IMUS": "imu", "TRIG": "triggers"}
_DESCRIPTIONS = {
    "EVTS": "Array of events (polarity ON/OFF).",
    "FRME": "Standard frame (8-bit image).",
    "IMUS": "Inertial Measurement Unit data samples.",
    "TRIG": "External triggers and special signals.",
}


class _Packet(NamedTuple):
    """A packet before it is compressed."""

    stream: int
    num_entries: int
    first_us: int
    last_us: int
    data: bytes


class _Stream(NamedTuple):
    """One stream of the file; `packets` makes them, given its number, as they are asked for."""

    kind: str
    packets: Callable[[int], Iterator[_Packet]]
    size: tuple[int, int] | None = None
    """Width and height, of events and frames."""


def save_aedat4(path: Path, recording: Recording, overwrite: bool = False) -> None:
    """Write events and, in the form in which they are read from AEDAT4, the tracks `frames`, `imu` and `triggers`.

    Frames are uint8, (H, W) or (H, W, 3) RGB; inertial samples ten float32; a trigger (edge, channel), whole numbers of
    which AEDAT4 has a type.
    Packets are compressed by LZ4 and lie in the order of their last times. Everything is read piece by piece.

    Raises:
        FormatError: Sensor or frames of more than 32768 pixels a side, entries of a track that are not alike, or times
            that go backwards between pieces.
        FileExistsError: The file exists and `overwrite` is not set.
        WriteError: The system refused to write.
    """
    size = recording.sensor
    if max(size.width, size.height) > _LARGEST_SIDE:
        raise FormatError(
            f"expected a sensor of at most {_LARGEST_SIDE} pixels a side for AEDAT4, got {size.width}x{size.height}"
        )
    streams = _streams(recording)
    warn_of_lost(list(set(recording.tracks) - {_NAMES[stream.kind] for stream in streams}), "AEDAT4")
    description = _description(streams, size)
    with atomic_file(path, overwrite) as temporary, temporary.open("wb") as file:
        file.write(MAGIC + _header(-1, description))
        entries = []
        packets = merge(*(s.packets(number) for number, s in enumerate(streams)), key=lambda packet: packet.last_us)
        for packet in packets:
            payload = _compressed(packet.data)
            file.write(np.array((packet.stream, len(payload)), _HEAD).tobytes())
            entry = (file.tell(), (packet.stream, len(payload)), packet.num_entries, packet.first_us, packet.last_us)
            entries.append(entry)
            file.write(payload)
        stop = file.tell()
        file.write(_compressed(flatbuffer.pack(b"FTAB", [], flatbuffer.tables(np.array(entries, _ENTRY)))))
        file.seek(len(MAGIC))
        file.write(_header(stop, description))


def _streams(recording: Recording) -> list[_Stream]:
    """Return the streams that the recording fills, that of the events first."""
    size = (recording.sensor.width, recording.sensor.height)
    found = [_Stream("EVTS", partial(_events, recording), size)]
    for kind, (check, make) in _TRACKS.items():
        track = recording.tracks.get(_NAMES[kind])
        if track is None:
            continue
        first = np.asarray(track.read(0)) if track_length(track) else None
        # Triggers are few, and other cameras have channels of which AEDAT4 has no type.
        looked_at = track_length(track) if kind == "TRIG" else min(track_length(track), 1)
        if not all(check(np.asarray(track.read(i))) for i in range(looked_at)):
            continue
        found.append(_Stream(kind, partial(make, track)))
        if kind == "FRME":
            found[-1] = found[-1]._replace(size=size if first is None else (first.shape[1], first.shape[0]))
    return found


def _events(recording: Recording, stream: int) -> Iterator[_Packet]:
    for piece in pieces(recording, _PIECE):
        rows = np.zeros(len(piece), _EVENT)
        for name in "txyp":
            rows[name] = getattr(piece, name)
        for start in range(0, len(rows), _EVENTS_PER_PACKET):
            part = rows[start : start + _EVENTS_PER_PACKET]
            content = flatbuffer.Vector(len(part), part.tobytes())
            data = flatbuffer.pack(b"EVTS", [], content)
            yield _Packet(stream, len(part), int(part["t"][0]), int(part["t"][-1]), data)


def _frames(track: Track, stream: int) -> Iterator[_Packet]:
    for i, time in enumerate(as_track_times(track.times).tolist()):
        frame = np.asarray(track.read(i))
        _require(_is_frame(frame), frame, i, "frame: uint8, (H, W) or (H, W, 3), at most 32767 pixels a side")
        code = _GRAY if frame.ndim == 2 else _BGR
        pixels = np.ascontiguousarray(frame if frame.ndim == 2 else frame[..., ::-1])
        # Start and end of the frame and of its exposure: all that is known is its middle.
        scalars = [("<i8", time)] * 5 + [("i1", code), ("<i2", frame.shape[1]), ("<i2", frame.shape[0])]
        content = flatbuffer.Vector(pixels.size, pixels.tobytes())
        yield _Packet(stream, 1, time, time, flatbuffer.pack(b"FRME", [*scalars, ("<i2", 0), ("<i2", 0)], content))


def _inertial(track: Track, stream: int) -> Iterator[_Packet]:
    for times, values in _samples(track, _is_inertial, "inertial sample: ten float32"):
        rows = np.zeros(len(times), _SAMPLE)
        rows["time"] = times
        for i in range(_IMU_VALUES):
            rows[f"value{i}"] = values[:, i]
        yield _sample_packet(stream, "IMUS", rows)


def _triggers(track: Track, stream: int) -> Iterator[_Packet]:
    for times, values in _samples(track, _is_trigger, "trigger: (edge, channel) of which it has a type"):
        rows = np.zeros(len(times), _TRIGGER)
        rows["time"], rows["type"] = times, [trigger_type(edge, channel) for edge, channel in values.tolist()]
        yield _sample_packet(stream, "TRIG", rows)


def _samples(
    track: Track, check: Callable[[NDArray[Any]], bool], expected: str
) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
    """Yield times and rows (n, values) of so many entries as one packet has."""
    times = as_track_times(track.times)
    for start in range(0, len(times), _SAMPLES_PER_PACKET):
        rows = []
        for i in range(start, min(start + _SAMPLES_PER_PACKET, len(times))):
            rows.append(np.asarray(track.read(i)))
            _require(check(rows[-1]), rows[-1], i, expected)
        yield times[start : start + len(rows)], np.stack(rows)


def _sample_packet(stream: int, kind: str, rows: NDArray[np.void]) -> _Packet:
    data = flatbuffer.pack(kind.encode(), [], flatbuffer.tables(rows))
    return _Packet(stream, len(rows), int(rows["time"][0]), int(rows["time"][-1]), data)


def _is_frame(entry: NDArray[Any]) -> bool:
    form = entry.dtype == np.uint8 and (entry.ndim == 2 or (entry.ndim == 3 and entry.shape[2] == 3))
    return form and 0 < entry.size <= _LARGEST_FRAME and max(entry.shape[:2]) < _LARGEST_SIDE


def _is_inertial(entry: NDArray[Any]) -> bool:
    return entry.dtype == np.float32 and entry.shape == (_IMU_VALUES,)


def _is_trigger(entry: NDArray[Any]) -> bool:
    return entry.shape == (2,) and entry.dtype.kind in "iu" and trigger_type(*entry.tolist()) is not None


def _require(fits: bool, entry: NDArray[Any], i: int, expected: str) -> None:
    if not fits:
        raise FormatError(
            f"expected entry {i} to be, as the first, an AEDAT4 {expected}; got {entry.dtype} of shape {entry.shape}"
        )


_TRACKS: dict[str, tuple[Callable[[NDArray[Any]], bool], Callable[[Track, int], Iterator[_Packet]]]] = {
    "FRME": (_is_frame, _frames),
    "IMUS": (_is_inertial, _inertial),
    "TRIG": (_is_trigger, _triggers),
}
"""Whether an entry has the form that is read from AEDAT4, and the packets of a track."""


def _compressed(data: bytes) -> bytes:
    import lz4.frame

    package: Any = lz4.frame  # it has no types
    return bytes(package.compress(data))


def _header(table_at: int, description: bytes) -> bytes:
    """Return what says the compression, where the data table lies (-1: unknown) and which streams there are."""
    # Text ends in a zero that does not count.
    text = flatbuffer.Vector(len(description), description + b"\0")
    return flatbuffer.pack(b"IOHE", [("<i4", _LZ4), ("<i8", table_at)], text)


def _description(streams: Sequence[_Stream], sensor: Sensor) -> bytes:
    """Return the XML of the header, as iniVation's software writes it."""
    source = "".join(character for character in sensor.name if character.isprintable())
    root = ElementTree.Element("dv", version="2.0")
    outputs = ElementTree.SubElement(root, "node", name="outInfo", path="/outInfo/")
    for number, stream in enumerate(streams):
        path = f"/outInfo/{number}/"
        node = ElementTree.SubElement(outputs, "node", name=str(number), path=path)
        _attribute(node, "compression", "string", "LZ4")
        _attribute(node, "originalModuleName", "string", "eventfm")
        _attribute(node, "originalOutputName", "string", _NAMES[stream.kind])
        _attribute(node, "typeDescription", "string", _DESCRIPTIONS[stream.kind])
        _attribute(node, "typeIdentifier", "string", stream.kind)
        info = ElementTree.SubElement(node, "node", name="info", path=f"{path}info/")
        if stream.size is not None:
            _attribute(info, "sizeX", "int", str(stream.size[0]))
            _attribute(info, "sizeY", "int", str(stream.size[1]))
            # Others do not open a file without a size, so that one that is only inferred is there too, and marked.
            if sensor.inferred and stream.kind == "EVTS":
                _attribute(info, "sizeInferred", "bool", "true")
        _attribute(info, "source", "string", source)
    return ElementTree.tostring(root, encoding="unicode").encode()


def _attribute(node: ElementTree.Element, key: str, kind: str, text: str) -> None:
    ElementTree.SubElement(node, "attr", key=key, type=kind).text = text
