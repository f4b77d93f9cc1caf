"""Recordings and tracks that are held in memory, and pictures read when asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eventfm.events import Events
from eventfm.io.contract import FormatError
from eventfm.io.png import require_sound
from eventfm.protocols import Track


class ArrayRecording:
    """A recording in memory: `Events` and named tracks."""

    def __init__(self, events: Events, tracks: Mapping[str, Track] | None = None, format: str = "memory") -> None:
        self._events = events
        self.format = format
        self.sensor = events.sensor
        self.num_events = len(events)
        self.t_range = (int(events.t[0]), int(events.t[-1])) if len(events) else (0, -1)
        self.tracks: Mapping[str, Track] = dict(tracks or {})

    def events(self, t0: int, t1: int) -> Events:
        """Return the events of `[t0, t1)` in microseconds as views."""
        return self._events.between(t0, t1)

    def events_by_index(self, start: int, stop: int) -> Events:
        """Return events `start` to `stop` (exclusive) as views; the range is cut to the recording."""
        return self._events.take(max(start, 0), max(stop, 0))


class ArrayTrack:
    """A track in memory: `times` (N,) microseconds and `data` (N, ...) or a sequence of N arrays.

    `classes` are the names of the numbers in it, of a track of classes; the native store keeps them with it.
    """

    def __init__(self, times: ArrayLike, data: Sequence[Any] | NDArray[Any], classes: Sequence[str] = ()) -> None:
        self.times: NDArray[np.int64] = as_track_times(times)
        self.classes = tuple(classes)
        if len(data) != len(self.times):
            raise FormatError(f"expected one entry per time of the track, got {len(data)} for {len(self.times)} times")
        self._data = data

    def __len__(self) -> int:
        return len(self.times)

    def read(self, i: int) -> NDArray[Any]:
        """Return entry `i`."""
        return np.asarray(self._data[i])


class PictureTrack:
    """A track of picture files, decoded when read: `times` (N,) microseconds and N paths."""

    def __init__(self, times: ArrayLike, paths: Sequence[str | Path]) -> None:
        self.times: NDArray[np.int64] = as_track_times(times)
        if len(paths) != len(self.times):
            raise FormatError(f"expected one picture per time, got {len(paths)} for {len(self.times)} times")
        self.paths = tuple(map(str, paths))

    def __len__(self) -> int:
        return len(self.times)

    def read(self, i: int) -> NDArray[Any]:
        """Return picture `i` as stored, (H, W) or (H, W, 3) RGB; an alpha channel is dropped.

        Raises:
            FormatError: The file is gone or is not a picture.
        """
        import cv2

        try:
            data = Path(self.paths[i]).read_bytes()
        except OSError as error:
            raise FormatError(f"expected a picture in {self.paths[i]}, which cannot be read: {error}") from error
        require_sound(data, self.paths[i])
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
        if picture is None:
            raise FormatError(f"expected a picture in {self.paths[i]}, which cannot be decoded")
        return np.asarray(picture) if picture.ndim == 2 else np.ascontiguousarray(picture[..., 2::-1])


def as_track_times(times: ArrayLike) -> NDArray[np.int64]:
    """Return the times of a track, (N,) int64 microseconds.

    Raises:
        FormatError: They decrease.
    """
    out = np.asarray(times, np.int64).reshape(-1)
    backwards = np.flatnonzero(out[1:] < out[:-1])
    if len(backwards):
        raise FormatError(
            f"expected the times of a track to increase; {len(backwards)} do not, first entry {int(backwards[0]) + 1}"
        )
    return out
