"""Recordings held in memory: a corpus of ten thousand is opened and read once, and not by each of a dozen runs.

The results are those of the files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any
from unittest import mock

import numpy as np

from eventfm.data import opening
from eventfm.data.collection import Collection
from eventfm.data.sequences import open_recordings
from eventfm.io.recording import ArrayRecording, ArrayTrack
from eventfm.protocols import Recording


@contextmanager
def remembering() -> Iterator[Callable[..., Collection]]:
    """Let runs open each collection once; what is yielded opens one in the same way."""

    @cache
    def once(path: str, **options: Any) -> Collection:
        found = open_recordings(path, **options)
        entries, found = list(found.entries), replace(found, entries=())
        for number, entry in enumerate(entries):  # one after the other, so that files are closed on the way
            entries[number] = replace(entry, recording=in_memory(entry.recording))
        return replace(found, entries=tuple(entries))

    with mock.patch.object(opening, "open_recordings", once):
        yield once


def in_memory(recording: Recording) -> ArrayRecording:
    """Return the same recording with all its events and its frames in memory."""
    first, last = recording.t_range
    events = replace(recording.events(first, last + 1), window=None, noise=None)
    tracks = {}
    if "frames" in recording.tracks:
        frames = recording.tracks["frames"]
        tracks["frames"] = ArrayTrack(frames.times, np.stack([frames.read(i) for i in range(len(frames.times))]))
    return ArrayRecording(events, tracks, recording.format)
