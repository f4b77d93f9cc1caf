from __future__ import annotations

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from eventfm.data.collection import Collection, Entry, open_collection
from eventfm.data.loader import Loader
from eventfm.data.pairs import WindowSamples, cut_collection, read_still
from eventfm.data.transforms import AugmentConfig
from eventfm.data.windows import Window, WindowConfig, WindowError, shifted
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, ArrayTrack, save_recordings
from eventfm.representations import VoxelGrid

SIDE = 32
EDGE = (8, 20)
"""A bright bar that starts at the first column and grows to the second, in rows 4 to 12 only."""


def moving_edge() -> ArrayRecording:
    """Return frames before and after an edge moved, and one ON event for each pixel that became bright."""
    before = np.zeros((SIDE, SIDE), np.uint8)
    before[4:12, : EDGE[0]] = 255
    after = before.copy()
    after[4:12, : EDGE[1]] = 255
    y, x = np.nonzero(after != before)
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    t = 1 + (x - EDGE[0]) * 100
    events = Events.checked(x, y, t, np.ones(len(x), np.uint8), Sensor(SIDE, SIDE))
    return ArrayRecording(events, {"frames": ArrayTrack([0, int(t[-1])], [before, after])})


def samples(
    collection: Collection, config: WindowConfig, augment: AugmentConfig, target: str | None, size: int = SIDE
) -> WindowSamples:
    windows, _ = cut_collection(collection, config)
    return WindowSamples(collection, tuple(windows), config, VoxelGrid(1), VoxelGrid(1), (size, size), augment, target)  # type: ignore[arg-type]


def filled(source: WindowSamples, seed: int | None, index: int = 0) -> dict[str, np.ndarray]:
    out = {name: np.full(shape, np.nan, np.float32) for name, shape in source.shapes.items()}
    source.fill(index, None if seed is None else np.random.default_rng(seed), out)
    return out


@pytest.fixture
def edge(tmp_path: Path) -> Collection:
    """Return the moving edge with its second frame as still."""
    recording = moving_edge()
    path = tmp_path / "still.png"
    cv2.imwrite(str(path), recording.tracks["frames"].read(1))
    return Collection((Entry("edge", recording, label=3, picture=path),), ("a", "b", "c", "d"))


FRAMES = WindowConfig(by="frames")


def test_sample_without_a_draw(edge: Collection) -> None:
    source = samples(edge, FRAMES, AugmentConfig(), "frames")
    assert source.shapes == {"input": (1, 32, 32), "target": (1, 32, 32), "label": (), "picture": (1, 32, 32)}
    out = filled(source, None)
    became_bright = np.zeros((SIDE, SIDE), np.float32)
    became_bright[4:12, EDGE[0] : EDGE[1]] = 1
    np.testing.assert_array_equal(out["input"][0], became_bright)
    np.testing.assert_array_equal(out["target"][0], became_bright)
    assert out["label"] == 3
    np.testing.assert_array_equal(out["picture"][0], edge.entries[0].recording.tracks["frames"].read(1) / 255)
    assert source.entry(0).name == "edge"


@pytest.mark.parametrize("seed", range(12))
def test_one_draw_moves_events_frames_and_picture_alike(edge: Collection, seed: int) -> None:
    """Each event stands for a pixel that became bright, so the input and the target must stay one picture."""
    augment = AugmentConfig(crop_min=0.5, flip=0.5, time_flip=0.5, erase=0, add=0)
    out = filled(samples(edge, FRAMES, augment, "frames"), seed)
    moved, target = out["input"][0], out["target"][0]
    assert np.abs(moved).sum() > 0
    sign = np.sign(moved.sum())
    # The crop is enlarged: nearest for events, linear for frames. They agree but for a pixel at each border.
    inside = cv2.erode(np.abs(moved), np.ones((3, 3)))
    outside = 1 - cv2.dilate(np.abs(moved), np.ones((3, 3)))
    assert (np.abs(target - sign) * inside).max() < 0.05
    assert (np.abs(target) * outside).max() < 0.05
    # Where light came, it is there in the picture of the end, whichever way time runs.
    assert (np.abs(out["picture"][0] - 1) * inside).max() < 0.05


def test_flips_do_what_they_say(edge: Collection) -> None:
    still = filled(samples(edge, FRAMES, AugmentConfig.none(), "frames"), 0)
    none = {"crop_min": 1.0, "erase": 0.0, "add": 0.0}
    mirrored = filled(samples(edge, FRAMES, AugmentConfig(flip=1, time_flip=0, **none), "frames"), 0)
    backwards = filled(samples(edge, FRAMES, AugmentConfig(flip=0, time_flip=1, **none), "frames"), 0)
    for name in ("input", "target", "picture"):
        np.testing.assert_array_equal(mirrored[name], still[name][..., ::-1])
    for name in ("input", "target"):
        np.testing.assert_array_equal(backwards[name], -still[name])
    np.testing.assert_array_equal(backwards["picture"], still["picture"])


def noise(count: int, seed: int, duration_us: int = 10_000) -> ArrayRecording:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, SIDE, count), rng.integers(0, SIDE, count)
    t = np.sort(rng.integers(0, duration_us, count))
    return ArrayRecording(Events.checked(x, y, t, rng.integers(0, 2, count), Sensor(SIDE, SIDE)))


def test_target_from_events_is_their_undisturbed_integral() -> None:
    source = noise(2000, 0)
    collection = Collection((Entry("a", source),))
    config = WindowConfig(by="time", duration_us=10_000)
    augment = AugmentConfig(crop_min=1, flip=0, erase=0.3, add=0.3)
    out = filled(samples(collection, config, augment, "events"), 5)
    events = source.events(source.t_range[0], source.t_range[0] + 10_000)
    expected = np.zeros((SIDE, SIDE))
    for x, y, p in zip(events.x, events.y, events.p, strict=True):
        expected[y, x] += 1 if p else -1
    np.testing.assert_array_equal(out["target"][0], expected)
    assert not np.array_equal(out["input"][0], expected)


def test_shapes_follow_what_every_recording_has() -> None:
    collection = Collection((Entry("a", noise(100, 0), label=0), Entry("b", noise(100, 1))), ("x",))
    source = samples(collection, WindowConfig(by="whole"), AugmentConfig(), None)
    assert source.shapes == {"input": (1, SIDE, SIDE)}
    assert len(source) == 2


@pytest.mark.parametrize(
    "config",
    [
        WindowConfig(by="time", duration_us=1000),
        WindowConfig(by="time", duration_us=1000, stride_us=300),
        WindowConfig(by="count", num_events=130),
    ],
)
def test_held_out_windows_never_meet_training_even_where_it_moves(config: WindowConfig) -> None:
    collection = Collection(tuple(Entry(str(seed), noise(1500, seed)) for seed in range(3)))
    training, held_out = cut_collection(collection, config, 0.25)
    assert training
    assert {number for number, _ in held_out} == {0, 1, 2}
    first = {number: min(w.start for n, w in held_out if n == number) for number in range(3)}
    rng = np.random.default_rng(0)
    for number, window in training:
        recording = collection.entries[number].recording
        stops = [shifted(window, recording, config, rng).stop for _ in range(50)]
        assert max([window.stop, *stops]) <= first[number]


def test_everything_is_used_without_holdout() -> None:
    collection = Collection((Entry("a", noise(1000, 0)),))
    training, held_out = cut_collection(collection, WindowConfig(by="count", num_events=100))
    assert len(training) == 10
    assert held_out == []


def test_windows_longer_than_the_recordings() -> None:
    collection = Collection((Entry("a", noise(50, 0, duration_us=500)),))
    long = WindowConfig(by="time", duration_us=10**6)
    source = samples(collection, long, AugmentConfig(crop_min=1, flip=0, erase=0, add=0), "events")
    assert len(source) == 1
    assert np.abs(filled(source, 3)["target"]).sum() > 0
    training, held_out = cut_collection(collection, long, 0.1)
    assert (len(training), len(held_out)) == (1, 0)


def test_no_events_at_all() -> None:
    collection = Collection((Entry("a", noise(0, 0)),))
    with pytest.raises(WindowError, match=r"no window of kind 'time' in 1 recordings; are they empty"):
        cut_collection(collection, WindowConfig())


def test_a_still_that_is_none(edge: Collection, tmp_path: Path) -> None:
    (tmp_path / "still.png").write_text("no picture")
    with pytest.raises(WindowError, match=r"the picture of edge, cannot be read"):
        read_still(edge.entries[0])


@pytest.mark.parametrize("num_workers", [1, 2])
def test_threads_read_one_store_as_one_does(tmp_path: Path, num_workers: int) -> None:
    """Every thread reads the same two HDF5 recordings at once, and frames with them."""
    rng = np.random.default_rng(0)
    recordings = {}
    for seed in range(2):
        source = noise(20_000, seed, duration_us=200_000)
        frames = ArrayTrack(np.arange(21) * 10_000, rng.integers(0, 256, (21, SIDE, SIDE)).astype(np.uint8))
        recordings[str(seed)] = ArrayRecording(source.events(0, 10**9), {"frames": frames})
    path = save_recordings(tmp_path / "store.h5", recordings)

    def batches(workers: int) -> list[dict]:
        source = samples(open_collection(path), FRAMES, AugmentConfig(), "frames")
        stream = Loader(source, 16, seed=1, num_workers=workers)(0)
        found = list(islice(stream, 8))
        stream.close()
        return found

    for expected, got in zip(batches(0), batches(num_workers), strict=True):
        assert expected.keys() == got.keys() == {"input", "target", "key", "index"}
        assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_window_is_read_only_where_it_lies() -> None:
    """One sample touches its own stretch of the recording and nothing else."""

    class Watched(ArrayRecording):
        def events(self, t0: int, t1: int) -> Events:
            asked.append((t0, t1))
            return super().events(t0, t1)

        def events_by_index(self, start: int, stop: int) -> Events:
            raise AssertionError("not by index")

    asked: list[tuple[int, int]] = []
    collection = Collection((Entry("a", Watched(noise(1000, 0).events(0, 10**6))),))
    source = samples(collection, WindowConfig(by="time", duration_us=1000), AugmentConfig(), "events")
    filled(source, None, index=4)
    assert asked == [source.windows[4][1][:2]]
    assert isinstance(source.windows[4][1], Window)
