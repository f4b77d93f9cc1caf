"""Columns that are kept from when a file was looked through: those of its blocks, within a budget."""

from __future__ import annotations

import gc
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_event_stream import written as written_as_es

from eventfm.events import EventError, Events, Sensor
from eventfm.io import ArrayRecording, convert, gathered, open_recording

FORMATS = ("evt2", "evt3", "dat", "aedat4", "es")


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep columns after all, unlike the other tests of this folder."""
    monkeypatch.setattr(gathered, "_latest", [])


def write(events: Events, kind: str, folder: Path) -> Path:
    suffix = {"evt2": "raw", "evt3": "raw"}.get(kind, kind)
    path = folder / f"{kind}.{suffix}"
    if kind == "es":
        path.write_bytes(written_as_es(events))
    else:
        convert(ArrayRecording(events), path, to=kind)
    return path


def same(a: Events, b: Events) -> None:
    for name in "xytp":
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_kept_is_what_blocks_say(kind: str, make_events: Any, tmp_path: Path) -> None:
    events = make_events(2_000)
    recording: Any = open_recording(write(events, kind, tmp_path))
    blocks: Any = pickle.loads(pickle.dumps(recording))  # a copy has nothing kept
    assert recording._kept.columns is not None
    assert blocks._kept is None
    same(recording.events_by_index(0, len(events)), events)
    rng = np.random.default_rng(0)
    for _ in range(30):
        t0, t1 = np.sort(rng.integers(0, 70_000, 2)).tolist()
        found = recording.events(t0, t1)
        same(found, blocks.events(t0, t1))
        assert found.window == (t0, t1)
        start, stop = np.sort(rng.integers(-10, len(events) + 10, 2)).tolist()
        same(recording.events_by_index(start, stop), blocks.events_by_index(start, stop))


@pytest.mark.parametrize("kind", FORMATS)
def test_pixels_beyond_the_sensor_are_found_as_ever(kind: str, make_events: Any, tmp_path: Path) -> None:
    events = make_events(500)
    path = write(events, kind, tmp_path)
    with pytest.raises(EventError, match="outside the 20x30"):
        open_recording(path, sensor=Sensor(20, 30)).events(0, 100_000)
    with pytest.warns(UserWarning, match="dropped"):
        found = open_recording(path, sensor=Sensor(20, 30), on_error="sort").events(0, 100_000)
    assert len(found) == int((events.x < 20).sum())


def test_later_files_take_the_room_of_earlier_ones(
    make_events: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = make_events(1_000)
    monkeypatch.setattr(gathered, "BUDGET", 2_500 * 13)
    opened: list[Any] = []
    for number in range(4):
        (tmp_path / str(number)).mkdir()
        opened.append(open_recording(write(events, "evt2", tmp_path / str(number))))
    assert [recording._kept.columns is not None for recording in opened] == [False, False, True, True]
    for recording in opened:
        same(recording.events(0, 100_000), events)
    del opened[3], recording
    gc.collect()
    opened.append(open_recording(write(events, "dat", tmp_path)))
    assert [recording._kept.columns is not None for recording in opened] == [False, False, True, True]


def test_too_many_events_are_not_kept(make_events: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = make_events(1_000)
    monkeypatch.setattr(gathered, "BUDGET", 999 * 13)
    for kind in FORMATS:
        recording: Any = open_recording(write(events, kind, tmp_path))
        assert recording._kept is None
        same(recording.events_by_index(0, 1_000), events)


def test_columns_grow_where_more_come_than_expected(make_events: Any) -> None:
    events = make_events(1_000)
    grown = gathered.Gathered(10)
    for start in range(0, 1_000, 130):
        grown.add(gathered.Columns(*(getattr(events.take(start, start + 130), name) for name in "xytp")))
    kept = grown.kept(events.sensor, 1_000)
    assert kept is not None
    found = gathered.events_of(kept, events.sensor)
    assert found is not None
    same(found, events)
    assert grown.kept(events.sensor, 999) is None
