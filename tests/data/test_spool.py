from __future__ import annotations

import resource
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eventfm.data.spool import Spool
from eventfm.events import Events, Sensor

SENSOR = Sensor(8, 6)


def some(count: int, start: int, noise: bool) -> Events:
    t = start + np.arange(count)
    events = Events.checked(t % 8, t % 6, t, t % 2, SENSOR)
    return replace(events, noise=(t % 3 == 0).astype(np.uint8)) if noise else events


@pytest.mark.parametrize("noise", [False, True])
def test_pieces_become_one_recording(tmp_path: Path, noise: bool) -> None:
    parts = [some(100, 0, noise), Events.empty(SENSOR), some(50, 100, noise)]
    frames = np.arange(2 * 48).reshape(2, 6, 8).astype(np.uint16)
    with Spool(tmp_path, SENSOR) as spool:
        for part in parts:
            spool.add_events(part)
        for t, frame in zip((5, 90), frames, strict=True):
            spool.add_frame(t, frame)
    recording = spool.recording("made")
    whole = recording.events_by_index(0, 150)
    expected = some(150, 0, noise)
    for name in ("x", "y", "t", "p", "noise"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(expected, name))
    assert (whole.noise is not None) == noise
    part, expected_part = recording.events(40, 120), expected.between(40, 120)
    assert part.window == (40, 120)
    np.testing.assert_array_equal(part.t, expected_part.t)
    np.testing.assert_array_equal(recording.events_by_index(-5, 3).x, expected.x[:3])
    assert len(recording.events_by_index(150, 160)) == len(recording.events(500, 600)) == 0
    assert recording.t_range == (0, 149)
    assert recording.tracks["frames"].times.tolist() == [5, 90]
    np.testing.assert_array_equal(recording.tracks["frames"].read(1), frames[1])


def test_nothing_at_all(tmp_path: Path) -> None:
    with Spool(tmp_path, SENSOR) as spool:
        pass
    recording = spool.recording("made")
    assert (recording.num_events, recording.t_range, dict(recording.tracks)) == (0, (0, -1), {})
    assert len(recording.events(0, 10)) == len(recording.events_by_index(0, 10)) == 0


def fill(folder: Path) -> None:
    with Spool(folder, SENSOR) as spool:
        for start in range(0, 100_000, 1000):
            spool.add_events(some(1000, start, False))


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no file size limits on this system")
def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        with pytest.raises(OSError, match="File too large"):
            fill(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
