"""Recordings whose columns are read when asked for, where no index leads from times to events.

Time is searched by bisection over blocks of events, so that a window costs a few probes and the blocks it covers.
"""

from __future__ import annotations

import warnings
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from eventfm.events import Events, OnError, Sensor
from eventfm.io.columns import Columns
from eventfm.io.contract import FormatError, choose_sensor
from eventfm.protocols import Track

_BLOCK = 1 << 14
_FAR = 2**62


class Source(Protocol):
    """Columns of a file by position; picklable, and opened in the process that reads."""

    name: str
    """What messages call it: the path."""

    def __len__(self) -> int:
        """Return the number of events."""
        ...

    def read(self, start: int, stop: int) -> Columns:
        """Return events `start` to `stop` (exclusive, at most the length)."""
        ...

    def time(self, i: int) -> int:
        """Return the time of event `i` in microseconds."""
        ...


class SearchedRecording:
    """The events of a source, read when asked for.

    With `on_error="raise"` nothing but the ends is read when it is opened, and each slice is checked when it is read.
    Otherwise the whole source is read once, block by block, to find the places that no time crosses: what lies
    between two of them can be mended on its own, so that slices add up to what mending the whole would give. Events
    outside the sensor, and in blocks that are damaged, are then not counted in `num_events`.
    """

    def __init__(
        self,
        source: Source,
        format: str,
        sensor: Sensor,
        on_error: OnError,
        tracks: Mapping[str, Track] | None = None,
    ) -> None:
        self._source = source
        self._on_error = on_error
        self.format = format
        self.sensor = sensor
        self.tracks: Mapping[str, Track] = dict(tracks or {})
        self._blocks = _as_they_are(source) if on_error in ("raise", "keep") else _separable(source, sensor)
        self.num_events = int(self._blocks.kept[-1])
        self.t_range = (0, -1)
        if not self.num_events:
            return
        if on_error in ("raise", "keep"):
            self.t_range = (source.time(0), source.time(len(source) - 1))
            if on_error == "raise" and self.t_range[1] < self.t_range[0]:
                first, last = self.t_range
                raise FormatError(
                    f"{source.name}: the last event ({last} us) lies before the first ({first} us); "
                    "pass on_error='sort' or 'clamp' to mend it"
                )
        else:
            self.t_range = (self._blocks.earliest(on_error), self._blocks.latest)

    def events(self, t0: int, t1: int) -> Events:
        """Return the events of `[t0, t1)` in microseconds."""
        if t1 <= t0:
            return Events.empty(self.sensor, (t0, t1))
        blocks = range(len(self._blocks.starts) - 1)
        first = max(bisect_left(blocks, t0, key=self._first_time) - 1, 0)
        return self._read_blocks(first, bisect_left(blocks, t1, key=self._first_time)).between(t0, t1)

    def events_by_index(self, start: int, stop: int) -> Events:
        """Return events `start` to `stop` (exclusive); the range is cut to the recording."""
        start, stop = max(start, 0), min(stop, self.num_events)
        if start >= stop:
            return Events.empty(self.sensor)
        if self._on_error in ("raise", "keep"):
            return self._read(start, stop)
        kept = self._blocks.kept
        first = int(np.searchsorted(kept, start, side="right")) - 1
        found = self._read_blocks(first, int(np.searchsorted(kept, stop, side="left")))
        return found.take(start - int(kept[first]), stop - int(kept[first]))

    def _first_time(self, block: int) -> int:
        known = self._blocks.first_times
        if block not in known:
            known[block] = self._source.time(int(self._blocks.starts[block]))
        return known[block]

    def _read_blocks(self, first: int, stop: int) -> Events:
        return self._read(int(self._blocks.starts[first]), int(self._blocks.starts[max(first, stop)]))

    def _read(self, start: int, stop: int) -> Events:
        if start >= stop:
            return Events.empty(self.sensor)
        source = f"{self._source.name}, events {start} to {stop}"
        columns = self._source.read(start, stop) if not self._blocks.lost else self._read_around(start, stop)
        return Events.checked(*columns, self.sensor, on_error=self._on_error, source=source)

    def _read_around(self, start: int, stop: int) -> Columns:
        """Return the events of a range without those of the blocks that cannot be read."""
        bounds = [start]
        for first in self._blocks.lost:
            if start <= first < stop:
                bounds += [first, min(first + _BLOCK, stop)]
        bounds.append(stop)
        whole = [(a, b) for a, b in zip(bounds[::2], bounds[1::2], strict=True) if a < b]
        if not whole:
            return Columns(*np.empty((4, 0), np.int64))
        x, y, t, p = (np.concatenate(c) for c in zip(*(self._source.read(a, b) for a, b in whole), strict=True))
        return Columns(x, y, t, p)


class _Blocks(NamedTuple):
    """Parts of a source, one after the other; `starts` and `kept` have one entry more, for the end."""

    starts: NDArray[np.int64]
    """First event of each block."""
    kept: NDArray[np.int64]
    """Events on the sensor before each block."""
    first_times: dict[int, int]
    """No event of the block is earlier; filled when asked for where the source is taken as it is."""
    first_kept: int = 0
    latest: int = -1
    lost: tuple[int, ...] = ()
    """First events of the blocks that cannot be read."""

    def earliest(self, on_error: OnError) -> int:
        """Return the first time after mending: the earliest if sorted, that of the first event if clamped."""
        return self.first_times[0] if on_error == "sort" else self.first_kept


def _as_they_are(source: Source) -> _Blocks:
    starts = np.append(np.arange(0, len(source), _BLOCK, dtype=np.int64), len(source))
    return _Blocks(starts, starts, {})


def _separable(source: Source, sensor: Sensor) -> _Blocks:
    """Return blocks such that no event is later than any of a later block; what cannot be read is left out.

    Raises:
        FormatError: Nothing can be read.
    """
    total = len(source)
    starts = _as_they_are(source).starts
    if not total:
        return _Blocks(starts, starts, {})
    low, high, counts = [], [], [0]
    lost: list[int] = []
    first_kept: int | None = None
    for start in starts[:-1].tolist():
        stop = min(start + _BLOCK, total)
        try:
            columns = source.read(start, stop)
        except FormatError as error:
            lost.append(start)
            if len(lost) == len(starts) - 1:
                raise
            warnings.warn(f"{error}; events {start} to {stop} were left out", stacklevel=4)
            columns = Columns(*np.empty((4, 0), np.int64))
        inside = (columns.x >= 0) & (columns.x < sensor.width) & (columns.y >= 0) & (columns.y < sensor.height)
        t = columns.t[inside]
        if first_kept is None and len(t):
            first_kept = int(t[0])
        low.append(int(t.min()) if len(t) else _FAR)
        high.append(int(t.max()) if len(t) else -_FAR)
        counts.append(len(t))
    reached = np.maximum.accumulate(np.array(high, np.int64))
    ahead = np.minimum.accumulate(np.array(low, np.int64)[::-1])[::-1]
    begins = np.append(0, np.flatnonzero(reached[:-1] <= ahead[1:]) + 1)
    bounds = np.append(begins, len(low))
    first_times = dict(enumerate(ahead[begins].tolist()))
    kept = np.cumsum(counts)[bounds]
    return _Blocks(starts[bounds], kept, first_times, first_kept or 0, int(reached[-1]), tuple(lost))


def find_sensor(
    source: Source, hint: Sensor | None, stated: Sensor | None = None, known: Sequence[Sensor] = ()
) -> Sensor:
    """Return the sensor as `choose_sensor` does; the coordinates are read, block by block, if none is stated."""
    if hint is not None or stated is not None:
        return choose_sensor((), (), hint, stated)
    x, y = [], []
    for start in range(0, len(source), _BLOCK):
        columns = source.read(start, min(start + _BLOCK, len(source)))
        x.append(columns.x.max())
        y.append(columns.y.max())
    return choose_sensor(np.array(x), np.array(y), None, None, known)
