from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from eventfm.data.animate import MotionConfig
from eventfm.data.collection import Collection, labels_of, open_collection
from eventfm.data.corpus import TABLE, Subject, film
from eventfm.data.windows import WindowConfig, cut, frame_difference, read
from eventfm.io import FormatError

MOTION = MotionConfig(sensor=(32, 24), duration_us=30_000, speed_px_s=(100.0, 200.0), pause_probability=0.0)


def subjects(names: str = "abc") -> Iterator[Subject]:
    for place, name in enumerate(names):
        light = np.random.default_rng(ord(name)).random((8, 8)).astype(np.float32).repeat(8, 0).repeat(8, 1)
        yield Subject(name, light, label=name.upper(), split="test" if place == 2 else "train", fold=place % 2)


def opened(folder: Path, names: str = "abc", seed: int = 0) -> Collection:
    store, table = film(folder, subjects(names), MOTION, seed)
    return open_collection(store, labels=table)


def events_of(collection: Collection, number: int) -> np.ndarray:
    recording = collection.entries[number].recording
    return recording.events_by_index(0, recording.num_events).to_structured()


def test_what_is_filmed_reads_back(tmp_path: Path) -> None:
    found = opened(tmp_path / "new" / "folder")
    assert [(e.name, e.split, e.fold) for e in found.entries] == [
        ("a", "train", 0),
        ("b", "train", 1),
        ("c", "test", 0),
    ]
    assert found.classes == ("A", "B", "C")
    assert labels_of(found).tolist() == [0, 1, 2]
    assert (found.sensor.width, found.sensor.height, found.sensor.inferred) == (32, 24, False)
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == [TABLE, "recordings.h5"]


def test_frames_bound_the_events(tmp_path: Path) -> None:
    recording = opened(tmp_path).entries[0].recording
    frames = recording.tracks["frames"]
    assert frames.times.tolist() == [0, 30_000]
    assert frames.read(0).dtype == np.uint16
    (window,) = cut(recording, WindowConfig(by="frames"))
    events = read(recording, window)
    assert len(events) == recording.num_events > 50
    assert 0 < events.t[0] <= events.t[-1] <= 30_000
    # More light at the end than at the start is where there are more ON than OFF events.
    difference = frame_difference(recording, window)
    balance = np.zeros(difference.shape)
    np.add.at(balance, (events.y, events.x), np.where(events.p, 1, -1))
    strong = np.abs(difference) > 0.55  # well over the largest threshold, wherever a pixel started
    assert strong.sum() > 5
    assert (np.sign(balance[strong]) == np.sign(difference[strong])).mean() > 0.95


def test_one_seed_gives_equal_events_whoever_else_is_filmed(tmp_path: Path) -> None:
    first, second = opened(tmp_path / "1"), opened(tmp_path / "2", "cb")
    np.testing.assert_array_equal(events_of(first, 1), events_of(second, 1))
    np.testing.assert_array_equal(events_of(first, 2), events_of(second, 0))
    frames = [c.entries[n].recording.tracks["frames"].read(1) for c, n in ((first, 1), (second, 1))]
    np.testing.assert_array_equal(*frames)
    assert not np.array_equal(events_of(first, 1), events_of(opened(tmp_path / "3", "ab", seed=1), 1))


def test_filming_again_replaces(tmp_path: Path) -> None:
    assert len(opened(tmp_path).entries) == 3
    assert len(opened(tmp_path, "xy").entries) == 2


def test_subjects_have_names_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="'a'"):
        film(tmp_path, subjects("aba"), MOTION, 0)
    assert not (tmp_path / "recordings.h5").exists()


def test_saccades_keep_a_frame_at_each_turn(tmp_path: Path) -> None:
    motion = MotionConfig(sensor=(32, 24), kind="saccades", duration_us=60_000, speed_px_s=(200.0, 200.0))
    store, _ = film(tmp_path, subjects("a"), motion, 0)
    recording = open_collection(store).entries[0].recording
    frames = recording.tracks["frames"]
    assert frames.times.tolist() == [0, 20_000, 40_000, 60_000]
    # Round a triangle: the last frame is the first again, and the turns between are elsewhere.
    np.testing.assert_allclose(frames.read(3), frames.read(0), atol=2)
    assert np.abs(frames.read(1).astype(int) - frames.read(0)).max() > 5000
    assert np.abs(frames.read(2).astype(int) - frames.read(1)).max() > 5000
    assert len(cut(recording, WindowConfig(by="frames"))) == 3
