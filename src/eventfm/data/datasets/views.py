"""Recordings seen differently: a stretch of one, one with other tracks, one whose pixels are rectified."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventfm.events import Events, Sensor
from eventfm.io.fingerprint import fingerprint
from eventfm.io.recording import as_track_times
from eventfm.protocols import Recording, Track


class View:
    """A recording with other tracks, or only the stretch `[t0, t1)` microseconds of it."""

    def __init__(self, recording: Recording, tracks: Mapping[str, Track], span: tuple[int, int] | None = None) -> None:
        self._recording = recording
        self.format = recording.format
        self.sensor = recording.sensor
        self.tracks: Mapping[str, Track] = dict(tracks)
        self._span = span
        self._start, stop = 0, recording.num_events
        if span is not None:
            self._start, stop = (_first_event(recording, time) for time in span)
        self.num_events = stop - self._start
        self.t_range = recording.t_range
        if span is not None and self.num_events:
            first, last = (recording.events_by_index(i, i + 1).t[0] for i in (self._start, stop - 1))
            self.t_range = (int(first), int(last))
        elif span is not None:
            self.t_range = (0, -1)

    def events(self, t0: int, t1: int) -> Events:
        """Return the events of `[t0, t1)` in microseconds that lie in the stretch."""
        if self._span is None:
            return self._recording.events(t0, t1)
        start, stop = max(t0, self._span[0]), min(t1, self._span[1])
        if start >= stop:
            return Events.empty(self.sensor, (t0, t1))
        return replace(self._recording.events(start, stop), window=(t0, t1))

    def events_by_index(self, start: int, stop: int) -> Events:
        """Return events `start` to `stop` (exclusive) of the stretch; the range is cut to it."""
        start, stop = max(start, 0), min(stop, self.num_events)
        if start >= stop:
            return Events.empty(self.sensor)
        return self._recording.events_by_index(self._start + start, self._start + stop)


class Rectified:
    """A recording whose events are moved to where they would be without distortion; `num_events` counts those before.

    Each goes to the pixel that is nearest to its place on the map; what falls beside `sensor` is left out when it is
    read, so that `events_by_index` may return fewer events than it was asked for. It counts as the same recording as
    the one it was made from.
    """

    def __init__(
        self, recording: Recording, places: NDArray[np.float32], sensor: Sensor, tracks: Mapping[str, Track]
    ) -> None:
        self._recording = recording
        self._places = np.rint(np.nan_to_num(places, nan=-1)).astype(np.int32)
        self.format = recording.format
        self.sensor = sensor
        self.tracks: Mapping[str, Track] = dict(tracks)
        self.num_events = recording.num_events
        self.t_range = recording.t_range

    def events(self, t0: int, t1: int) -> Events:
        """Return the events of `[t0, t1)` in microseconds."""
        return replace(self._moved(self._recording.events(t0, t1)), window=(t0, t1))

    def events_by_index(self, start: int, stop: int) -> Events:
        """Return what is left of events `start` to `stop` (exclusive), counted before rectification."""
        return self._moved(self._recording.events_by_index(start, stop))

    @cached_property
    def fingerprint(self) -> str:
        """What tells the recording before rectification from others; a store keeps it."""
        return fingerprint(self._recording)

    def _moved(self, events: Events) -> Events:
        x, y = self._places[events.y, events.x].T
        kept = (x >= 0) & (x < self.sensor.width) & (y >= 0) & (y < self.sensor.height)
        return Events(x[kept].astype(np.uint16), y[kept].astype(np.uint16), events.t[kept], events.p[kept], self.sensor)


class Selected:
    """Some entries of a track, by number."""

    def __init__(self, track: Track, numbers: Sequence[int]) -> None:
        self._track = track
        self._numbers = list(numbers)
        self.times: NDArray[np.int64] = as_track_times(track.times[self._numbers])
        self.classes: tuple[str, ...] = getattr(track, "classes", ())

    def __len__(self) -> int:
        return len(self._numbers)

    def read(self, i: int) -> NDArray[Any]:
        """Return entry `i` of those that were selected."""
        return self._track.read(self._numbers[i])


def _first_event(recording: Recording, time: int) -> int:
    """Return the number of the first event at `time` or later."""
    return bisect_left(range(recording.num_events), time, key=lambda i: int(recording.events_by_index(i, i + 1).t[0]))
