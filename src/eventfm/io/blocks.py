"""Files that are decoded block by block: an index of where each block begins, made once, and random access by it."""

from __future__ import annotations

import os
import re
import tempfile
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from eventfm.events import EventError, Events, OnError, Sensor
from eventfm.io.columns import Columns
from eventfm.io.contract import DamagedFileError
from eventfm.io.gathered import Gathered, Kept, events_of
from eventfm.io.recording import ArrayRecording
from eventfm.protocols import Track

WORTH_KEEPING = 1 << 26
"""Size in bytes from which on a file's index is kept: a smaller one is made again in less than a second."""
_KEPT = 4
"""Decoded blocks that a recording keeps: windows that follow each other share one."""


class Block(NamedTuple):
    """A stretch of a file that can be decoded without what comes before it."""

    offset: int
    """Where it begins, bytes."""
    size: int
    """Bytes."""
    start: int
    """Number of its first event."""
    num_events: int
    """Events in it."""
    t_first: int
    """Earliest time in it, microseconds."""
    t_last: int
    """Latest time in it, microseconds."""
    state: tuple[int, ...] = ()
    """What the decoder must know to begin here."""


Decode = Callable[[NDArray[np.uint8], tuple[int, ...]], Columns]
"""Returns the columns of the bytes of a block, given its state; a function of a module, so that it can be pickled."""


class BlockRecording:
    """A recording of which the blocks that a slice touches are read and decoded, in the process that asks.

    Each slice is checked as `Events.checked` does, and mended by `on_error`.
    """

    def __init__(
        self,
        path: Path,
        format: str,
        sensor: Sensor,
        blocks: Sequence[Block],
        decode: Decode,
        on_error: OnError,
        tracks: Mapping[str, Track] | None = None,
        kept: Kept | None = None,
    ) -> None:
        """Take `kept`, all events of the blocks, for what lies on the sensor and goes forward in time."""
        self.path = path
        self.format = format
        self.sensor = sensor
        self.tracks: Mapping[str, Track] = dict(tracks or {})
        self._blocks = [block for block in blocks if block.num_events]
        self._decode = decode
        self._on_error = on_error
        self._cache: dict[int, Columns] = {}
        self._kept = kept
        self.num_events = sum(block.num_events for block in self._blocks)
        self.t_range = (0, -1)
        if self._blocks:
            self.t_range = (min(b.t_first for b in self._blocks), max(b.t_last for b in self._blocks))
        self._in_order = all(a.t_last <= b.t_first for a, b in pairwise(self._blocks))

    def events(self, t0: int, t1: int) -> Events:
        """Return the events of `[t0, t1)` in microseconds.

        Raises:
            FormatError: The file is damaged, or is another one than when it was opened.
            EventError: Events of these blocks are outside the sensor, or their times go backwards.
        """
        if t1 <= t0 or not self._blocks:
            return Events.empty(self.sensor, (t0, t1))
        if (whole := events_of(self._kept, self.sensor)) is not None:
            return whole.between(t0, t1)
        if self._in_order:
            first = bisect_left(self._blocks, t0, key=lambda block: block.t_last)
            stop = bisect_left(self._blocks, t1, key=lambda block: block.t_first)
            chosen = list(range(first, max(first, stop)))
        else:
            chosen = [i for i, block in enumerate(self._blocks) if block.t_last >= t0 and block.t_first < t1]
        if not chosen:
            return Events.empty(self.sensor, (t0, t1))
        columns, source = self._joined(chosen), f"{self.path}, {t0} to {t1} us"
        return Events.checked(*columns, self.sensor, on_error=self._on_error, source=source).between(t0, t1)

    def events_by_index(self, start: int, stop: int) -> Events:
        """Return events `start` to `stop` (exclusive) in the order of the file; the range is cut to the recording."""
        start, stop = max(start, 0), min(stop, self.num_events)
        if start >= stop:
            return Events.empty(self.sensor)
        if (whole := events_of(self._kept, self.sensor)) is not None:
            return whole.take(start, stop)
        first = bisect_right(self._blocks, start, key=lambda block: block.start) - 1
        last = bisect_left(self._blocks, stop, key=lambda block: block.start)
        before = self._blocks[first].start
        part = slice(start - before, stop - before)
        columns = Columns(*(column[part] for column in self._joined(range(first, last))))
        return Events.checked(
            *columns, self.sensor, on_error=self._on_error, source=f"{self.path}, events {start} to {stop}"
        )

    def _joined(self, numbers: Sequence[int]) -> Columns:
        """Return the events of these blocks; of many, each is decoded, copied to its place and let go of."""
        if len(numbers) == 1:
            return self._block(numbers[0])
        out: Columns | None = None
        at, count = 0, sum(self._blocks[number].num_events for number in numbers)
        for number in numbers:
            columns = self._block(number)
            if out is None:
                out = Columns(*(np.empty(count, column.dtype) for column in columns))
            for place, column in zip(out, columns, strict=True):
                place[at : at + len(column)] = column
            at += len(columns.t)
        assert out is not None
        return out

    def _block(self, number: int) -> Columns:
        if number not in self._cache:
            block = self._blocks[number]
            with self.path.open("rb") as file:
                file.seek(block.offset)
                data = np.frombuffer(file.read(block.size), np.uint8)
            if len(data) < block.size:
                raise DamagedFileError(
                    f"{self.path}: expected {block.size} bytes from byte {block.offset} on, got {len(data)}; the file "
                    "was changed or cut off after it was opened: open it again"
                )
            columns = self._decode(data, block.state)
            if len(columns.t) != block.num_events:
                raise DamagedFileError(
                    f"{self.path}: expected {block.num_events} events from byte {block.offset} on, got "
                    f"{len(columns.t)}; the file was changed after it was opened: open it again"
                )
            while len(self._cache) >= _KEPT:
                self._cache.pop(next(iter(self._cache)))
            self._cache[number] = columns
        return self._cache[number]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}, "_kept": None}


def recording_of(
    path: Path,
    format: str,
    sensor: Sensor,
    blocks: Sequence[Block],
    decode: Decode,
    on_error: OnError,
    backwards: int,
    tracks: Mapping[str, Track] | None = None,
    gathered: Gathered | None = None,
) -> BlockRecording | ArrayRecording:
    """Return a file's recording; one whose time goes `backwards` so often is refused, or held in memory and mended.

    `gathered` has all events where the blocks were found by decoding them, and not kept from the last time.

    Raises:
        EventError: Times go backwards, and `on_error` is `"raise"`.
    """
    if not backwards:
        kept = None if gathered is None else gathered.kept(sensor, sum(block.num_events for block in blocks))
        return BlockRecording(path, format, sensor, blocks, decode, on_error, tracks, kept)
    if on_error == "raise":
        raise EventError(
            f"{path}: time goes backwards {backwards} times; pass on_error='sort' or 'clamp', or mend it with "
            "`eventfm doctor --fix`"
        )
    whole = [decode(np.fromfile(path, np.uint8, block.size, offset=block.offset), block.state) for block in blocks]
    x, y, t, p = (np.concatenate(parts) for parts in zip(*whole, strict=True))
    events = Events.checked(x, y, t, p, sensor, on_error=on_error, source=str(path))
    return ArrayRecording(events, tracks, format)


def stretches(path: Path, start: int, stop: int, size: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield where each `size` bytes of a file from `start` to `stop` begin, and them, good until the next ones.

    The last are fewer where `size` does not divide them.
    """
    room = np.empty(min(size, max(stop - start, 0)), np.uint8)
    with open(path, "rb", buffering=0) as file:
        file.seek(start)
        for offset in range(start, stop, size):
            data = room[: min(size, stop - offset)]
            yield offset, data[: file.readinto(data.data)]


def cached_index(
    path: Path, name: str, version: int, scan: Callable[[Path], list[Block]], size: int | None = None
) -> list[Block]:
    """Return what `scan(path)` returns, kept from the last time where the file is the same since.

    It is kept beside the file, as `.FILE.NAME.eventfm-index.npz`, or in the user's cache folder where nothing may be
    written there. `name` and `version` tell kinds of index apart. What cannot be kept or read is worked out again, and
    so is what belongs to little data (`WORTH_KEEPING`); `size` is how much there is, bytes, if not in `path` alone.
    """
    if (path.stat().st_size if size is None else size) < WORTH_KEEPING:
        return scan(path)
    kind = re.sub(r"[^\w.-]+", "_", name)
    known_by = _identity(path, kind, version)
    beside = path.with_name(f".{path.name}.{kind}.eventfm-index.npz")
    away = _cache_folder() / f"{known_by:016x}.npz"
    for file in (beside, away):
        if (found := _load(file, known_by)) is not None:
            return found
    blocks = scan(path)
    for file in (beside, away):
        if _save(file, known_by, blocks):
            break
    return blocks


def _identity(path: Path, kind: str, version: int) -> int:
    import hashlib

    facts = path.stat()
    text = f"{path.resolve()} {kind} {version} {facts.st_size} {facts.st_mtime_ns}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eventfm"


def _load(file: Path, known_by: int) -> list[Block] | None:
    try:
        with np.load(file, allow_pickle=False) as found:
            if int(found["known_by"]) != known_by:
                return None
            rows, states, ends = found["rows"], found["states"], found["ends"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    starts = [0, *ends.tolist()]
    return [
        Block(offset, size, start, num_events, t_first, t_last, tuple(states[begin:end].tolist()))
        for (offset, size, start, num_events, t_first, t_last), begin, end in zip(
            rows.tolist(), starts, starts[1:], strict=False
        )
    ]


def _save(file: Path, known_by: int, blocks: list[Block]) -> bool:
    """Keep an index; return whether that was possible."""
    rows = np.array([block[:-1] for block in blocks], np.int64).reshape(-1, len(Block._fields) - 1)
    states = np.array([value for block in blocks for value in block.state], np.int64)
    ends = np.cumsum([len(block.state) for block in blocks], dtype=np.int64)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=file.parent, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as out:
                np.savez_compressed(out, known_by=np.int64(known_by), rows=rows, states=states, ends=ends)
            Path(temporary).replace(file)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError:
        return False
    return True
