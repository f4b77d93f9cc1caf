"""AEDAT 4.0 (iniVation) recordings: indexed once, decoded when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventfm.events import Events, OnError, Sensor
from eventfm.io import aedat4_packets as packets
from eventfm.io.aedat4_file import MAGIC, Header, Packet, Stream, read_header, read_packet, walk
from eventfm.io.columns import Columns
from eventfm.io.contract import FormatError, Reader, choose_sensor, report_cut
from eventfm.io.gathered import Gathered, Kept, events_of
from eventfm.io.recording import ArrayRecording, as_track_times
from eventfm.io.word_columns import empty_columns
from eventfm.protocols import Recording, Track

_CACHED_PACKETS = 8
_LARGEST_US = 2**62
_LEAST_BYTES = 4
"""An event mostly takes more, compressed."""


class _Index(NamedTuple):
    """The packets of the streams that are read, and what is known of each without its content."""

    events: list[Packet]
    spans: list[tuple[int, int, int]]
    """Number of events, first and last time, one row for each packet of `events`."""
    largest: tuple[int, int]
    whole: bool
    """Whether all events are in order, inside the sensor (where its size is stated) and of a known polarity."""
    frames: list[tuple[int, Packet]]
    samples: dict[str, list[tuple[int, Packet]]]
    """For `IMUS` and `TRIG`: number of entries and packet."""


class _PacketSource:
    """Decompressed packets of a file, opened anew for each call, so that nothing open is ever pickled."""

    def __init__(self, path: Path, compression: str) -> None:
        self.path = path
        self.compression = compression

    def read(self, wanted: Iterable[Packet]) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            for packet in wanted:
                yield read_packet(file, packet, self.compression)


class Aedat4Recording:
    """An AEDAT4 file whose events were found to be in order; packets are decoded as they are needed."""

    format = "aedat4"

    def __init__(
        self, source: _PacketSource, index: _Index, sensor: Sensor, tracks: Mapping[str, Track], kept: Kept | None
    ) -> None:
        self._source = source
        self._kept = kept
        self._packets = index.events
        spans = np.array(index.spans, np.int64).reshape(-1, 3)
        self._ends = np.cumsum(spans[:, 0])
        self._first_us, self._last_us = spans[:, 1].copy(), spans[:, 2].copy()
        self._cache: dict[int, NDArray[np.void]] = {}
        self.sensor = sensor
        self.tracks = tracks
        self.num_events = int(self._ends[-1]) if len(spans) else 0
        self.t_range = (int(self._first_us[0]), int(self._last_us[-1])) if len(spans) else (0, -1)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}, "_kept": None}

    def events(self, t0: int, t1: int) -> Events:
        """Return the events of `[t0, t1)` in microseconds."""
        if (whole := events_of(self._kept, self.sensor)) is not None:
            return whole.between(t0, t1)
        start = int(np.searchsorted(self._last_us, t0, side="left"))
        stop = int(np.searchsorted(self._first_us, t1, side="left"))
        return self._decode(start, stop).between(t0, t1)

    def events_by_index(self, start: int, stop: int) -> Events:
        """Return events `start` to `stop` (exclusive); the range is cut to the recording."""
        start, stop = max(start, 0), min(stop, self.num_events)
        if start >= stop:
            return Events.empty(self.sensor)
        if (whole := events_of(self._kept, self.sensor)) is not None:
            return whole.take(start, stop)
        first = int(np.searchsorted(self._ends, start, side="right"))
        last = int(np.searchsorted(self._ends, stop, side="left"))
        before = int(self._ends[first - 1]) if first else 0
        return self._decode(first, last + 1).take(start - before, stop - before)

    def _decode(self, start: int, stop: int) -> Events:
        if start >= stop:
            return Events.empty(self.sensor)
        cache, latest = self._cache, {}
        before = int(self._ends[start - 1]) if start else 0
        columns = empty_columns(int(self._ends[stop - 1]) - before)
        missing = self._source.read(self._packets[i] for i in range(start, stop) if i not in cache)
        for i in range(start, stop):
            rows = cache[i] if i in cache else packets.events(next(missing))
            end = int(self._ends[i]) - before
            for name, column in zip("xytp", columns, strict=True):
                column[end - len(rows) : end] = rows[name]
            if i >= stop - _CACHED_PACKETS:
                latest[i] = rows
        # Replaced as a whole, so that threads may share the recording: the next window mostly starts where this ends.
        self._cache = latest
        return Events.checked(*columns, self.sensor, source=str(self._source.path))


class FrameTrack:
    """Frames of an AEDAT4 file, decoded when read."""

    def __init__(self, source: _PacketSource, frames: list[tuple[int, Packet]]) -> None:
        self._source = source
        self._packets = [packet for _, packet in frames]
        self.times: NDArray[np.int64] = as_track_times([time for time, _ in frames])

    def __len__(self) -> int:
        return len(self._packets)

    def read(self, i: int) -> NDArray[np.uint8]:
        """Return frame `i`, (H, W) or (H, W, 3) RGB uint8."""
        return packets.frame(next(self._source.read([self._packets[i]])))


class SampleTrack:
    """Inertial samples or triggers of an AEDAT4 file: rows of numbers, all decoded at first use."""

    def __init__(self, source: _PacketSource, kind: str, samples: list[tuple[int, Packet]]) -> None:
        self._source = source
        self._kind = kind
        self._packets = [packet for _, packet in samples]
        self._count = sum(count for count, _ in samples)
        self._loaded: tuple[NDArray[np.int64], NDArray[Any]] | None = None

    def __len__(self) -> int:
        return self._count

    @property
    def times(self) -> NDArray[np.int64]:
        """Microseconds of each entry, in order."""
        return self._load()[0]

    def read(self, i: int) -> NDArray[Any]:
        """Return entry `i`: ten float32 as of `imu_samples`, or (edge, channel) int64 as of `triggers`."""
        return np.asarray(self._load()[1][i])

    def _load(self) -> tuple[NDArray[np.int64], NDArray[Any]]:
        if self._loaded is None:
            decode: Callable[[bytes], tuple[list[int], Any]]
            decode, dtype = (packets.imu_samples, np.float32) if self._kind == "IMUS" else (packets.triggers, np.int64)
            times: list[int] = []
            rows: list[Any] = []
            for data in self._source.read(self._packets):
                more_times, more_rows = decode(data)
                times += more_times
                rows += more_rows
            order = np.argsort(np.array(times, np.int64), kind="stable")
            self._loaded = np.array(times, np.int64)[order], np.array(rows, dtype)[order]
        return self._loaded


def sniff(path: Path) -> float:
    """Return 1 for a file that starts with `#!AER-DAT4.0`.

    Raises:
        FormatError: It does not.
    """
    if path.is_dir():
        raise FormatError("it is a folder")
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise FormatError("it does not start with #!AER-DAT4.0")
    return 1.0


def open_file(path: Path, sensor: Sensor | None, on_error: OnError) -> Recording:
    """Return the recording with the tracks `frames`, `imu` and `triggers` that the file has.

    Every packet is decompressed and checked once here. Of several event streams the first is read. Files whose
    events are out of order or outside the sensor are mended in memory, or refused, by `on_error`.

    Raises:
        FormatError: The file is damaged or cut off.
    """
    header = read_header(path)
    streams = {kind: _first_stream(header, kind) for kind in ("EVTS", "FRME", "IMUS", "TRIG")}
    stated = next((s for s in (streams["EVTS"], streams["FRME"]) if s is not None and s.width and s.height), None)
    size = sensor or (Sensor(*stated[2:]) if stated else None)
    gathered = Gathered(path.stat().st_size // _LEAST_BYTES)
    index = _index(path, header, streams, size, on_error, gathered)
    source = _PacketSource(path, header.compression)
    tracks = _tracks(source, streams, index)
    largest = ([index.largest[0]], [index.largest[1]]) if index.events else ([], [])
    size = choose_sensor(*largest, size)
    if index.whole:
        kept = gathered.kept(size, sum(count for count, _, _ in index.spans))
        return Aedat4Recording(source, index, size, tracks, kept)
    parts = [packets.events(data) for data in source.read(index.events)]
    return ArrayRecording(_checked(parts, size, on_error, str(path)), tracks, "aedat4")


def _index(
    path: Path,
    header: Header,
    streams: Mapping[str, Stream | None],
    size: Sensor | None,
    on_error: OnError,
    gathered: Gathered,
) -> _Index:
    kinds = {stream.number: kind for kind, stream in streams.items() if stream is not None}
    found: list[Packet] = []
    spans: list[tuple[int, int, int]] = []
    frames: list[tuple[int, Packet]] = []
    samples: dict[str, list[tuple[int, Packet]]] = {"IMUS": [], "TRIG": []}
    largest, whole, last_us = (0, 0), True, None
    with path.open("rb") as file:
        try:
            for packet in walk(file, header, path.stat().st_size):
                kind = kinds.get(packet.stream)
                if kind is None:
                    continue
                data = read_packet(file, packet, header.compression)
                if kind == "FRME":
                    frames.append((packets.frame_head(data).time_us, packet))
                elif kind != "EVTS":
                    samples[kind].append((packets.num_samples(data, kind), packet))
                elif len(rows := packets.events(data)):
                    t, x, y = rows["t"], rows["x"], rows["y"]
                    if max(abs(int(t.min())), abs(int(t.max()))) > _LARGEST_US:
                        raise FormatError(f"damaged: the packet at byte {packet.offset} has events years away")
                    right, bottom = int(x.max()), int(y.max())
                    ordered = (last_us is None or t[0] >= last_us) and not (t[1:] < t[:-1]).any()
                    inside = x.min() >= 0 and y.min() >= 0
                    inside = inside and (size is None or (right < size.width and bottom < size.height))
                    whole = bool(whole and ordered and inside and rows["p"].max() <= 1)
                    largest = max(largest[0], right), max(largest[1], bottom)
                    last_us = int(t[-1])
                    found.append(packet)
                    spans.append((len(rows), int(t[0]), last_us))
                    if whole:
                        gathered.add(Columns(x, y, t, rows["p"]))
        except FormatError as error:
            report_cut(f"{path}: {error}", on_error)
    return _Index(found, spans, largest, whole, frames, samples)


def _tracks(source: _PacketSource, streams: Mapping[str, Stream | None], index: _Index) -> dict[str, Track]:
    make: dict[str, tuple[str, Callable[[], Track]]] = {
        "FRME": ("frames", lambda: FrameTrack(source, index.frames)),
        "IMUS": ("imu", lambda: SampleTrack(source, "IMUS", index.samples["IMUS"])),
        "TRIG": ("triggers", lambda: SampleTrack(source, "TRIG", index.samples["TRIG"])),
    }
    return {name: build() for kind, (name, build) in make.items() if streams[kind] is not None}


def _first_stream(header: Header, kind: str) -> Stream | None:
    return next(
        (header.streams[number] for number in sorted(header.streams) if header.streams[number].kind == kind), None
    )


def _checked(parts: list[NDArray[np.void]], sensor: Sensor, on_error: OnError, source: str) -> Events:
    x, y, t, p = (np.concatenate([part[name] for part in parts]) for name in "xytp")
    return Events.checked(x, y, t, p, sensor, on_error=on_error, source=source)


READER = Reader(sniff, open_file)
