"""Recordings that are made piece by piece and may be larger than memory: kept in plain files until they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from eventfm.events import Events, Sensor
from eventfm.protocols import Track

_COLUMNS: dict[str, Any] = {"x": np.uint16, "y": np.uint16, "t": np.int64, "p": np.uint8, "noise": np.uint8}
_FRAMES = "frames"


class Spool:
    """Collects events and frames of one sensor in a folder; `recording` then reads them from there.

    Written by plain file operations: a full disk is an OSError.
    """

    def __init__(self, folder: Path, sensor: Sensor) -> None:
        self._folder = folder
        self._sensor = sensor
        self._open = ExitStack()
        self._files: dict[str, Any] = {}
        self._num_events = 0
        self._frame_times: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def add_events(self, events: Events) -> None:
        """Append events that follow those before; all have noise labels or none."""
        if not len(events):
            return
        assert not self._num_events or (events.noise is not None) == ("noise" in self._files)
        for name, dtype in _COLUMNS.items():
            column = getattr(events, name)
            if column is not None:
                self._append(name, np.ascontiguousarray(column, dtype))
        self._num_events += len(events)

    def add_frame(self, t_us: int, frame: NDArray[np.uint16]) -> None:
        """Append a frame (H, W)."""
        self._frame_times.append(t_us)
        self._append(_FRAMES, np.ascontiguousarray(frame))

    def recording(self, format: str) -> SpooledRecording:
        """Return what was collected, with a track `frames` if there are any; the spool must have been closed."""
        held = {name: dtype for name, dtype in _COLUMNS.items() if name in self._files}
        tracks: dict[str, Track] = {}
        if self._frame_times:
            tracks[_FRAMES] = SpooledFrames(self._folder / _FRAMES, self._frame_times, self._sensor)
        return SpooledRecording(self._folder, held, self._num_events, self._sensor, tracks, format)

    def _append(self, name: str, values: NDArray[Any]) -> None:
        if name not in self._files:
            self._files[name] = self._open.enter_context((self._folder / name).open("wb"))
        self._files[name].write(values.data)


class SpooledRecording:
    """A recording whose columns are plain files, read piece by piece: mapped into memory they would fill it."""

    def __init__(
        self,
        folder: Path,
        columns: Mapping[str, Any],
        num_events: int,
        sensor: Sensor,
        tracks: Mapping[str, Track],
        format: str,
    ) -> None:
        self._folder = folder
        self._columns = dict(columns)
        self.num_events = num_events
        self.sensor = sensor
        self.tracks = tracks
        self.format = format
        ends = [int(self.events_by_index(i, i + 1).t[0]) for i in (0, num_events - 1)] if num_events else [0, -1]
        self.t_range = (ends[0], ends[1])

    def events(self, t0: int, t1: int) -> Events:
        """Return the events of `[t0, t1)` in microseconds."""
        if not self.num_events:
            return Events.empty(self.sensor, (t0, t1))
        times = np.memmap(self._folder / "t", np.int64, "r")
        start, stop = np.searchsorted(times, (t0, t1), side="left")
        return self.events_by_index(int(start), int(stop)).between(t0, t1)

    def events_by_index(self, start: int, stop: int) -> Events:
        """Return events `start` to `stop` (exclusive); the range is cut to the recording."""
        start, stop = max(start, 0), min(stop, self.num_events)
        if start >= stop:
            return Events.empty(self.sensor)
        columns = {
            name: np.fromfile(self._folder / name, dtype, stop - start, offset=start * np.dtype(dtype).itemsize)
            for name, dtype in self._columns.items()
        }
        return Events(**columns, sensor=self.sensor)


class SpooledFrames:
    """A track of frames (H, W) uint16 that lie one after the other in a file."""

    def __init__(self, path: Path, times: list[int], sensor: Sensor) -> None:
        self._path = path
        self._shape = sensor.height, sensor.width
        self.times = np.array(times, np.int64)

    def __len__(self) -> int:
        return len(self.times)

    def read(self, i: int) -> NDArray[np.uint16]:
        """Return frame `i`."""
        count = self._shape[0] * self._shape[1]
        i = range(len(self.times))[i]
        return np.fromfile(self._path, np.uint16, count, offset=2 * count * i).reshape(self._shape)
