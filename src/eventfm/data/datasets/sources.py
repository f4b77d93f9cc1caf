"""Recordings that are copied: what goes wrong with them is told from what goes wrong with their copy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

from eventfm.events import Events
from eventfm.protocols import Recording, Track


class SourceError(Exception):
    """Says that a file of a sample cannot be read: no fault of the system that writes, and so no OSError."""


@contextmanager
def reading() -> Iterator[None]:
    """Raise a SourceError in place of an OSError."""
    try:
        yield
    except OSError as error:
        raise SourceError(str(error)) from error


class SourceRecording:
    """A recording whose events and tracks raise a SourceError where its raise an OSError; the same in all else."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    def __getattr__(self, name: str) -> Any:
        with reading():
            return getattr(self._recording, name)

    @property
    def tracks(self) -> Mapping[str, Track]:
        """The tracks, likewise."""
        with reading():
            return {name: SourceTrack(track) for name, track in self._recording.tracks.items()}

    def events(self, t0: int, t1: int) -> Events:
        """Return the events of `[t0, t1)` in microseconds."""
        with reading():
            return self._recording.events(t0, t1)

    def events_by_index(self, start: int, stop: int) -> Events:
        """Return events `start` to `stop` (exclusive)."""
        with reading():
            return self._recording.events_by_index(start, stop)


class SourceTrack:
    """A track that raises a SourceError where the one it stands for raises an OSError; the same in all else."""

    def __init__(self, track: Track) -> None:
        self._track = track
        self.times = track.times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._track, name)

    def read(self, i: int) -> NDArray[Any]:
        """Return entry `i`."""
        with reading():
            return self._track.read(i)
