from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from eventfm.data.collection import Collection, Entry, open_collection
from eventfm.data.loader import Loader
from eventfm.data.pairs import WindowSamples, cut_collection, require_scenes, scene_of
from eventfm.data.scenes import Frame, Still, TeacherInput
from eventfm.data.table import CollectionError
from eventfm.data.transforms import AugmentConfig
from eventfm.data.windows import Window, WindowConfig, WindowError, shifted, spread
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, ArrayTrack, FormatError, save_recordings
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


SHOWN = TeacherInput((SIDE, SIDE))


def samples(
    collection: Collection,
    config: WindowConfig,
    augment: AugmentConfig,
    target: str | None,
    teacher: TeacherInput | None = None,
) -> WindowSamples:
    windows, _ = cut_collection(collection, config)
    grid, size = VoxelGrid(1), (SIDE, SIDE)
    return WindowSamples(
        collection,
        tuple(windows),
        config,
        grid,
        grid,
        size,
        augment,
        target,
        teacher=teacher,  # type: ignore[arg-type]
    )


def part(picture: np.ndarray, view: np.ndarray) -> np.ndarray:
    """Return the part of a picture (h, w) that a view shows, (SIDE, SIDE), by the definition of `view`."""
    left, top, right, bottom, flip = view
    place = (np.arange(SIDE) + 0.5) / SIDE
    x = (left + (right - left) * (1 - place if flip else place)) * picture.shape[1] - 0.5
    y = (top + (bottom - top) * place) * picture.shape[0] - 0.5
    x, y = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    return cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


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
    source = samples(edge, FRAMES, AugmentConfig(), "frames", TeacherInput((16, 48)))
    assert source.shapes == {
        "input": (1, 32, 32),
        "target": (1, 32, 32),
        "label": (),
        "view": (5,),
        "teacher_picture": (3, 16, 48),
    }
    out = filled(source, None)
    became_bright = np.zeros((SIDE, SIDE), np.float32)
    became_bright[4:12, EDGE[0] : EDGE[1]] = 1
    np.testing.assert_array_equal(out["input"][0], became_bright)
    np.testing.assert_array_equal(out["target"][0], became_bright)
    assert out["label"] == 3
    np.testing.assert_array_equal(out["view"], [0, 0, 1, 1, 0])
    # All of the still, its shape not kept.
    still = edge.entries[0].recording.tracks["frames"].read(1) / 255
    for channel in out["teacher_picture"]:
        rows, columns = channel.mean(1), channel.mean(0).reshape(16, 3).mean(1)
        np.testing.assert_allclose(rows, still.mean(1).reshape(16, 2).mean(1), atol=0.02)
        np.testing.assert_allclose(columns, still.mean(0).reshape(16, 2).mean(1), atol=0.02)
    assert source.entry(0).name == "edge"


@pytest.mark.parametrize("seed", range(12))
def test_one_draw_moves_events_frames_and_picture_alike(edge: Collection, seed: int) -> None:
    """Each event stands for a pixel that became bright, so the input and the target must stay one picture."""
    augment = AugmentConfig(crop_min=0.5, flip=0.5, time_flip=0.5, erase=0, add=0)
    out = filled(samples(edge, FRAMES, augment, "frames", SHOWN), seed)
    moved, target = out["input"][0], out["target"][0]
    assert np.abs(moved).sum() > 0
    sign = np.sign(moved.sum())
    # The crop is enlarged: nearest for events, linear for frames. They agree but for a pixel at each border.
    inside = cv2.erode(np.abs(moved), np.ones((3, 3)))
    outside = 1 - cv2.dilate(np.abs(moved), np.ones((3, 3)))
    assert (np.abs(target - sign) * inside).max() < 0.05
    assert (np.abs(target) * outside).max() < 0.05
    # Where light came, it is there in the teacher's picture of the end, whichever way time runs.
    seen = part(out["teacher_picture"][0], out["view"])
    assert (np.abs(seen - 1) * inside).max() < 0.2  # at its border the crop is enlarged from its own pixels alone


def test_flips_do_what_they_say(edge: Collection) -> None:
    still = filled(samples(edge, FRAMES, AugmentConfig.none(), "frames", SHOWN), 0)
    none = {"crop_min": 1.0, "erase": 0.0, "add": 0.0}
    mirrored = filled(samples(edge, FRAMES, AugmentConfig(flip=1, time_flip=0, **none), "frames", SHOWN), 0)
    backwards = filled(samples(edge, FRAMES, AugmentConfig(flip=0, time_flip=1, **none), "frames", SHOWN), 0)
    for name in ("input", "target"):
        np.testing.assert_array_equal(mirrored[name], still[name][..., ::-1])
        np.testing.assert_array_equal(backwards[name], -still[name])
    np.testing.assert_array_equal(still["view"], [0, 0, 1, 1, 0])
    np.testing.assert_array_equal(mirrored["view"], [0, 0, 1, 1, 1])
    np.testing.assert_array_equal(backwards["view"], still["view"])
    for other in (mirrored, backwards):
        np.testing.assert_array_equal(other["teacher_picture"], still["teacher_picture"])


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


def framed(times: list[int], count: int = 400) -> ArrayRecording:
    """Return noise with grey frames, each as bright as its number says, at `times`."""
    frames = [np.full((SIDE, SIDE), 10 * number, np.uint8) for number in range(len(times))]
    return ArrayRecording(noise(count, 0, 100).events(0, 100), {"frames": ArrayTrack(times, frames)})


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (Window(1, 41, frames=(0, 1)), 1),
        (Window(0, 41), 1),
        (Window(0, 60), 1),  # ends with microsecond 59: 40 is nearer than 80
        (Window(0, 62), 2),
        (Window(0, 10_000), 3),
        (Window(-50, -10), 0),
    ],
)
def test_a_teacher_is_shown_the_frame_at_the_end_of_the_window(window: Window, expected: int) -> None:
    entry = Entry("a", framed([0, 40, 80, 99]))
    scene = scene_of(entry, window, (window.start, window.stop))
    assert isinstance(scene, Frame)
    assert scene.number == expected
    np.testing.assert_allclose(scene.read((4, 4)), np.full((3, 4, 4), 10 * expected / 255), atol=1e-6)
    assert scene.key == f"{entry.fingerprint}#{expected}"
    still = Entry("a", entry.recording, picture=Path("still.png"))
    assert scene_of(still, window, (window.start, window.stop), time_flip=True) == Still(Path("still.png"))


def test_where_time_runs_backwards_the_teacher_sees_the_frame_that_the_window_began_with():
    times = np.array([0, 1000, 2000])
    recording = SimpleNamespace(tracks={"frames": SimpleNamespace(times=times)})
    entry = SimpleNamespace(picture=None, recording=recording)
    between = Window(1001, 2001, frames=(1, 2))
    assert [scene_of(entry, between, (1001, 2001), flip).number for flip in (False, True)] == [2, 1]
    by_time = Window(900, 1900)
    assert [scene_of(entry, by_time, (900, 1900), flip).number for flip in (False, True)] == [2, 1]
    early = Window(-700, 300)
    assert [scene_of(entry, early, (-700, 300), flip).number for flip in (False, True)] == [0, 0]


def test_windows_by_count_are_shown_the_frame_at_their_last_event() -> None:
    recording = framed([0, 20, 40, 60, 80, 99])
    source = samples(
        Collection((Entry("a", recording),)), WindowConfig(by="count", num_events=100), AugmentConfig(), None, SHOWN
    )
    for index in range(4):
        out = filled(source, None, index)
        last = recording.events_by_index(0, 100 * (index + 1)).t[-1]
        nearest = int(np.abs(recording.tracks["frames"].times - last).argmin())
        np.testing.assert_allclose(out["teacher_picture"], 10 * nearest / 255, atol=1e-6)


class Said:
    """Tokens by key, as a cache has them."""

    dim, grid = 2, (1, 3)

    def __init__(self, keys: list[str]) -> None:
        self.failed: dict[str, str] = {}
        self._tokens = {key: np.full((3, 2), number, np.float16) for number, key in enumerate(keys)}

    def __contains__(self, key: object) -> bool:
        return key in self._tokens

    def read(self, key: str) -> np.ndarray:
        return self._tokens[key]

    def check(self, **needed: object) -> None:
        raise AssertionError("not by a sample set")


def test_tokens_come_from_the_cache_by_key() -> None:
    entry = Entry("a", framed([0, 50, 99]))
    cache = Said([f"{entry.fingerprint}#{number}" for number in range(3)])
    source = samples(Collection((entry,)), FRAMES, AugmentConfig(), "frames", TeacherInput((8, 8), cache))
    assert source.shapes["teacher_tokens"] == (3, 2)
    assert "teacher_picture" not in source.shapes
    for index, number in ((0, 1), (1, 2)):
        out = filled(source, 3, index)
        np.testing.assert_array_equal(out["teacher_tokens"], np.full((3, 2), number))
    # One that the cache does not have is passed over, and said.
    one = TeacherInput((8, 8), Said([Frame(entry, 2).key]))
    few = samples(Collection((entry,)), FRAMES, AugmentConfig(), "frames", one)
    with pytest.warns(UserWarning, match=r"a, frame 1 is not in the cache of the teacher's tokens; passed over"):
        out = filled(few, 3, 0)
    np.testing.assert_array_equal(out["teacher_tokens"], np.zeros((3, 2)))
    assert list(few.problems) == ["a, frame 1"]


def test_pictures_that_cannot_be_read_are_passed_over_alike_in_any_order(tmp_path: Path) -> None:
    """Whatever was tried before, a sample is the same: what fails draws from the generator as it always does."""
    cv2.imwrite(str(tmp_path / "good.png"), np.full((SIDE, SIDE), 100, np.uint8))
    (tmp_path / "bad.png").write_text("no picture")
    names = ["bad", "good", "gone", "good"]
    entries = tuple(Entry(f"{i}", noise(300, i), picture=tmp_path / f"{name}.png") for i, name in enumerate(names))
    config = WindowConfig(by="time", duration_us=2_000)

    def fresh() -> WindowSamples:
        return samples(Collection(entries), config, AugmentConfig(time_flip=0.5), "events", SHOWN)

    one, other = fresh(), fresh()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        forwards = [filled(one, seed, seed % len(one)) for seed in range(40)]
        backwards = [filled(other, seed, seed % len(other)) for seed in reversed(range(40))][::-1]
    for first, second in zip(forwards, backwards, strict=True):
        for name, values in first.items():
            np.testing.assert_array_equal(values, second[name])
    assert one.problems == other.problems
    bad, gone = str(tmp_path / "bad.png"), str(tmp_path / "gone.png")
    assert one.problems[bad] == "cannot be read as a picture, or is cut off"
    assert "No such file" in one.problems[gone]
    assert len([w for w in heard if "passed over" in str(w.message)]) == 4  # once for each, in each set


def test_frames_that_cannot_be_read_are_passed_over() -> None:
    class Broken(ArrayTrack):
        def read(self, i: int) -> np.ndarray:
            if i == 1:
                raise FormatError("a hole in the file")
            return super().read(i)

    recording = framed([0, 30, 60, 99])
    frames = [recording.tracks["frames"].read(number) for number in range(4)]
    track = Broken(recording.tracks["frames"].times, frames)
    broken = ArrayRecording(recording.events(0, 100), {"frames": track})
    source = samples(Collection((Entry("a", broken),)), FRAMES, AugmentConfig(), "frames", SHOWN)
    assert len(source) == 3
    with pytest.warns(UserWarning, match="a hole in the file"):
        out = filled(source, 0, 0)
    np.testing.assert_allclose(out["teacher_picture"], 30 / 255, atol=1e-6)
    assert set(source.problems) == {"a, frames 0 and 1", "a, frames 1 and 2"}
    only = replace(source, windows=source.windows[:2])
    with pytest.raises(CollectionError, match=r"none of the 2 samples can be read, .*a hole"):
        filled(only, 0)


def test_damaged_events_end_a_run() -> None:
    """Pictures may be missing; that events are damaged nobody should have to find in a list."""

    class Damaged(ArrayRecording):
        def events(self, t0: int, t1: int) -> Events:
            raise FormatError("damaged events")

    recording = Damaged(noise(100, 0).events(0, 10**6))
    source = samples(Collection((Entry("a", recording),)), WindowConfig(), AugmentConfig(), "events")
    with pytest.raises(FormatError, match="damaged events"):
        filled(source, 0)


def test_recordings_that_show_a_teacher_nothing() -> None:
    entries = (Entry("a", noise(10, 0)), Entry("b", framed([0, 50])), Entry("c", noise(10, 0), picture=Path("c.png")))
    require_scenes(Collection(entries[1:]))
    with pytest.raises(CollectionError, match=r"1 of 3 recordings have neither .*e\.g\. 'a'; give data\.images=FOLDER"):
        require_scenes(Collection(entries))


def test_frames_of_another_size_are_not_shown() -> None:
    frames = ArrayTrack([0, 50], [np.zeros((6, 8), np.uint8)] * 2)
    entry = Entry("a", ArrayRecording(noise(100, 0).events(0, 100), {"frames": frames}))
    with pytest.raises(WindowError, match="as large as the sensor, 32x32 pixels, got 8x6"):
        Frame(entry, 0).read((8, 8))


def test_the_difference_of_logarithms(edge: Collection) -> None:
    source = samples(edge, FRAMES, AugmentConfig.none(), "frames")
    log = filled(replace(source, difference="log"), None)["target"][0]
    linear = filled(source, None)["target"][0]
    np.testing.assert_allclose(log, np.where(linear == 1, np.log(256), 0), rtol=1e-5)
    events = replace(source, target="events")
    np.testing.assert_array_equal(
        filled(events, None)["target"], filled(replace(events, difference="log"), None)["target"]
    )


@pytest.mark.parametrize("seed", range(6))
def test_times_far_from_zero_are_exact(seed: int) -> None:
    """Nanoseconds since 1970, about 1.5e18, are not float64's to keep, and float32 would put them 137 s apart."""
    offset = 1_500_000_000_123_456_789
    near = noise(3000, seed)
    columns = near.events(0, 10**6)
    far = ArrayRecording(replace(columns, t=columns.t + offset, window=None))
    augment = AugmentConfig(time_flip=0.5, erase=0.2, add=0.2)
    for config in (WindowConfig(by="time", duration_us=2_000), WindowConfig(by="count", num_events=500)):
        both = [samples(Collection((Entry("a", r),)), config, augment, "events") for r in (near, far)]
        grids = [filled(replace(s, representation=VoxelGrid(5)), seed, 1)["input"] for s in both]
        np.testing.assert_array_equal(grids[0], grids[1])
        assert np.abs(grids[0]).sum() > 0
        shift = 0 if config.by == "count" else offset
        moved = [w._replace(start=w.start - shift, stop=w.stop - shift) for w in spread(far, config, 7)]
        assert moved == spread(near, config, 7)


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
