"""Labels of pixels: how tracks are read, what is refused, and what samples hold of them."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eventfm.data.build import DataConfig, Samples, build_samples, open_source
from eventfm.data.collection import Collection, Entry
from eventfm.data.loader import Loader, evaluation_batches
from eventfm.data.pairs import WindowSamples, cut_collection
from eventfm.data.table import CollectionError
from eventfm.data.targets import LabelError, Labelled, check_labels, named_classes
from eventfm.data.windows import Window, WindowConfig, WindowError, cut
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, ArrayTrack, open_recording, save_recordings
from eventfm.representations import VoxelGrid

SENSOR = Sensor(12, 8)
SIZE = (8, 12)
PLAIN = {"crop_min": 1.0, "flip": 0.0, "erase": 0.0, "add": 0.0}
STEP_US = 10_000


def recording(seed: int = 0, steps: int = 6, **tracks: ArrayTrack) -> ArrayRecording:
    """Return events at random for some steps of time, and the tracks."""
    rng = np.random.default_rng(seed)
    count = 200 * steps
    t = np.sort(rng.integers(0, steps * STEP_US, count))
    events = Events.checked(rng.integers(0, 12, count), rng.integers(0, 8, count), t, rng.integers(0, 2, count), SENSOR)
    return ArrayRecording(events, tracks)


def labelled(seed: int = 0, steps: int = 6) -> ArrayRecording:
    """Return a recording with frames, and flow, depth and classes that are all their own, at every step."""
    rng = np.random.default_rng(100 + seed)
    times = STEP_US * np.arange(steps + 1)
    classes = rng.integers(0, 5, (steps + 1, *SIZE)).astype(np.uint8)
    classes[:, 0, :3] = 255
    depth = rng.uniform(1, 80, (steps + 1, *SIZE)).astype(np.float32)
    depth[:, 1, 1] = 0
    return recording(
        seed,
        steps,
        frames=ArrayTrack(times, rng.integers(0, 255, (steps + 1, *SIZE)).astype(np.uint8)),
        semantic=ArrayTrack(times, classes),
        depth=ArrayTrack(times, depth),
        flow=ArrayTrack(times[:-1], rng.normal(0, 3, (steps, 2, *SIZE)).astype(np.float32)),
        valid=ArrayTrack(times[:-1], (rng.random((steps, *SIZE)) < 0.8).astype(np.uint8)),
    )


def read(kind: Any, data: np.ndarray, num_classes: int | None = None, **more: ArrayTrack) -> np.ndarray:
    source = recording(**{kind: ArrayTrack([77], [data])}, **more)
    return Labelled(kind, source, 0, "night/3").read(num_classes)


# Maps as they are stored.


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.uint16, np.int64])
def test_classes_of_any_integers(dtype: type) -> None:
    stored = np.arange(96).reshape(SIZE).astype(dtype)
    stored[0, 0] = -1 if dtype in (np.int8, np.int64) else 255
    got = read("semantic", stored, 96)
    assert got.dtype == np.int64
    assert got.ravel().tolist() == [255, *range(1, 96)]
    np.testing.assert_array_equal(got, read("semantic", stored))


@pytest.mark.parametrize(
    ("stored", "num_classes", "said"),
    [
        (np.full(SIZE, 5, np.uint8), 5, r"classes from 0 to 4, or 255 where there is none, got 5$"),
        (np.full(SIZE, 254, np.uint8), 19, "got 254"),
        (np.full(SIZE, -2, np.int64), None, "classes from 0 to 254, or 255 where there is none, got -2"),
        (np.full(SIZE, 65535, np.uint16), None, "got 65535"),
        (np.zeros(SIZE, np.float32), 5, "class numbers as integers, got float32"),
        (
            np.zeros((6, 12), np.uint8),
            5,
            r"as large as the sensor, 12x8 pixels, got shape \(6, 12\); where labels cover",
        ),
        (np.zeros((12, 8), np.uint8), 5, r"got shape \(12, 8\)"),
    ],
)
def test_classes_that_cannot_be(stored: np.ndarray, num_classes: int | None, said: str) -> None:
    with pytest.raises(LabelError, match=f"^night/3, semantic at 77 us: .*{said}"):
        read("semantic", stored, num_classes)


def test_flow_of_either_layout_and_where_it_is_known() -> None:
    stored = np.random.default_rng(0).normal(size=(2, *SIZE)).astype(np.float64)
    stored[0, 1, 2], stored[1, 3, 4] = np.nan, np.inf
    got = read("flow", stored)
    assert got.dtype == np.float32
    unknown = np.zeros(SIZE, bool)
    unknown[1, 2] = unknown[3, 4] = True
    np.testing.assert_array_equal(got, np.where(unknown, np.nan, stored).astype(np.float32))
    np.testing.assert_array_equal(read("flow", np.moveaxis(stored, 0, 2)), got)
    valid = np.ones(SIZE, np.uint8)
    valid[5, 6] = 0
    masked = read("flow", stored, valid=ArrayTrack([77], [valid]))
    np.testing.assert_array_equal(np.isnan(masked), np.broadcast_to(unknown | (valid == 0), (2, *SIZE)))


def test_depth_is_known_where_it_is_above_zero() -> None:
    stored = np.full(SIZE, 2.5)
    stored[0, :4] = [0, -1, np.nan, np.inf]
    got = read("depth", stored)
    assert got.dtype == np.float32
    assert np.isnan(got[0, :4]).all()
    assert (got.ravel()[4:] == 2.5).all()


@pytest.mark.parametrize(
    ("kind", "stored", "more", "said"),
    [
        ("depth", np.zeros(SIZE, np.uint16), {}, "metres as floating-point numbers, got uint16"),
        ("depth", np.zeros((1, *SIZE)), {}, r"got shape \(1, 8, 12\)"),
        ("flow", np.zeros((2, *SIZE), np.int16), {}, "pixels as floating-point numbers, got int16"),
        ("flow", np.zeros((3, *SIZE)), {}, r"flow of shape \(2, 8, 12\), got \(3, 8, 12\)"),
        ("flow", np.zeros(SIZE), {}, r"flow of shape \(2, 8, 12\), got \(8, 12\)"),
        ("flow", np.zeros((9, 12, 2)), {}, r"as large as the sensor, .* got shape \(9, 12\)"),
        ("flow", np.zeros((2, *SIZE)), {"valid": ArrayTrack([78], [np.ones(SIZE)])}, "entry of the track 'valid' for"),
        ("flow", np.zeros((2, *SIZE)), {"valid": ArrayTrack([77], [np.ones((2, 2))])}, r"got shape \(2, 2\)"),
    ],
)
def test_maps_that_cannot_be(kind: str, stored: np.ndarray, more: dict, said: str) -> None:
    with pytest.raises(LabelError, match=f"^night/3, {kind} at 77 us: .*{said}"):
        read(kind, stored, **more)


def test_labels_are_looked_at_until_one_says_anything() -> None:
    maps = np.full((120, *SIZE), 255, np.uint8)
    maps[117, 3, 3] = 2
    source = recording(steps=40, semantic=ArrayTrack(3000 * np.arange(120), maps))
    collection = Collection((Entry("a", source),))
    windows = [(0, w) for w in cut(source, WindowConfig(by="frame", track="semantic", duration_us=1000))]
    assert len(windows) == 120
    check_labels(collection, windows, "semantic", 3)
    with pytest.raises(LabelError, match="got 2"):
        check_labels(collection, windows, "semantic", 2)
    with pytest.raises(LabelError, match="nothing is labelled in the semantic of any of 117 windows, the first of a"):
        check_labels(collection, windows[:117], "semantic", 3)
    blank = recording(depth=ArrayTrack([0], [np.zeros(SIZE)]))
    with pytest.raises(LabelError, match="nothing is labelled in the depth of any of 1 windows, the first of the rec"):
        check_labels(Collection((Entry("", blank),)), [(0, Window(0, 10, entry=0))], "depth")


# What samples hold.


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labelled") / "a.h5"
    return save_recordings(path, {f"r{seed}": labelled(seed) for seed in range(2)})


WINDOW = {
    "semantic": {"by": "frame", "track": "semantic", "frame_at": "end", "duration_us": STEP_US},
    "depth": {"by": "frame", "track": "depth", "frame_at": "end", "duration_us": STEP_US},
    "flow": {"by": "frames", "track": "flow"},
}


def built(
    path: Path | None,
    kind: str,
    *more: str,
    size: tuple[int, int] = SIZE,
    num_classes: int | None = None,
    **values: object,
) -> Samples:
    given = {"window": WINDOW[kind], "target": "none", "holdout": 0, "augment": PLAIN, **values}
    config = DataConfig.parse({**given, **({"path": str(path)} if path else {})})
    wanted = (kind, *more)
    source = open_source(config)
    return build_samples(source, config, VoxelGrid(2), VoxelGrid(1), size, wanted=wanted, num_classes=num_classes)


def batch_of(samples: Samples) -> dict[str, torch.Tensor]:
    (batch,) = evaluation_batches(samples.training, 100)
    return batch


def test_classes_at_the_ends_of_their_windows(store: Path) -> None:
    samples = built(store, "semantic", "seen")
    batch = batch_of(samples)
    assert set(batch) == {"input", "semantic", "seen", "key", "index"}
    assert (batch["semantic"].dtype, batch["semantic"].shape) == (torch.int64, (12, *SIZE))
    assert (batch["seen"].dtype, batch["seen"].shape) == (torch.float32, (12, *SIZE))
    for n in range(12):
        source, number = labelled(n // 6), n % 6 + 1  # no window ends with the first map
        np.testing.assert_array_equal(batch["semantic"][n], source.tracks["semantic"].read(number))
        events = source.events((number - 1) * STEP_US + 1, number * STEP_US + 1)
        np.testing.assert_array_equal(
            batch["seen"][n], np.histogram2d(events.y, events.x, SIZE, [[0, 8], [0, 12]])[0] > 0
        )
    assert isinstance(samples.training, WindowSamples)
    assert samples.training.num_classes() == 5
    assert (samples.window.by, samples.window.track, samples.window.duration_us) == ("time", "frames", STEP_US)


def test_depth_and_flow_of_every_window(store: Path) -> None:
    depth, flow = batch_of(built(store, "depth")), batch_of(built(store, "flow"))
    assert (depth["depth"].dtype, depth["depth"].shape) == (torch.float32, (12, 1, *SIZE))
    assert (flow["flow"].dtype, flow["flow"].shape) == (torch.float32, (12, 2, *SIZE))
    for n in range(12):
        tracks = labelled(n // 6).tracks
        metres = tracks["depth"].read(n % 6 + 1)
        np.testing.assert_array_equal(depth["depth"][n, 0], np.where(metres > 0, metres, np.nan))
        known = tracks["valid"].read(n % 6) > 0
        np.testing.assert_array_equal(flow["flow"][n], np.where(known, tracks["flow"].read(n % 6), np.nan))
        source = labelled(n // 6)
        events = source.events(n % 6 * STEP_US + 1, (n % 6 + 1) * STEP_US + 1)
        np.testing.assert_allclose(flow["input"][n], VoxelGrid(2)(events), atol=1e-6)


@pytest.mark.parametrize(("size", "crop"), [((4, 6), (0, 12)), ((16, 24), (0, 12)), ((16, 16), (2, 10))])
def test_labels_of_the_size_of_the_sensor_are_as_they_are_stored(
    store: Path, size: tuple[int, int], crop: tuple[int, int]
) -> None:
    """Whatever the size of the input: of a sensor that is wider, the part in the middle that the input shows."""
    columns = slice(*crop)
    for kind in ("semantic", "depth", "flow"):
        small = built(store, kind, "seen", size=size).training
        assert isinstance(small, WindowSamples)
        stored, drawn = batch_of(built(store, kind, "seen")), next(evaluation_batches(small, 100))
        (found,) = evaluation_batches(replace(small, label_size="sensor"), 100)
        assert found.keys() == drawn.keys()
        assert found["seen"].any()
        torch.testing.assert_close(found["input"], drawn["input"])
        for name in (kind, "seen"):
            assert found[name].dtype == drawn[name].dtype
            torch.testing.assert_close(found[name], stored[name][..., columns], rtol=0, atol=0, equal_nan=True)


def test_names_of_classes_are_those_of_the_track(tmp_path: Path) -> None:
    maps = np.zeros((1, *SIZE), np.uint8)
    names = {"a": ("road", "car"), "b": (), "c": ("road", "car"), "d": ("car", "road")}
    path = save_recordings(
        tmp_path / "a.h5",
        {key: recording(semantic=ArrayTrack([STEP_US], maps, classes)) for key, classes in names.items()},
    )
    entries = [Entry(name, open_recording(f"{path}::{name}")) for name in names]
    assert named_classes(entries[:3]) == ("road", "car")
    assert named_classes(entries[1:2]) == named_classes([Entry("e", recording())]) == ()
    with pytest.raises(LabelError, match=r"got road, car in a and car, road in d; .*give classes=\[NAME, \.\.\.\]"):
        named_classes(entries)


def test_the_window_before_is_the_input_of_the_one_before(store: Path) -> None:
    samples = built(store, "flow", "seen", "before")
    batch, single = batch_of(samples), batch_of(built(store, "flow"))
    assert len(batch["flow"]) == 10  # nothing is before the first flow of each recording
    rest = [n for n in range(12) if n % 6]
    for name in ("input", "flow"):
        np.testing.assert_array_equal(batch[name], single[name][rest])
    np.testing.assert_allclose(batch["before"], single["input"][[n - 1 for n in rest]], atol=1e-6)
    assert batch["before"].shape == (10, 2, *SIZE)


def test_all_that_is_wanted_is_drawn_alike(store: Path) -> None:
    """The whole is enlarged twice and flipped: every array is the one without, enlarged and flipped."""
    for kind in ("semantic", "depth", "flow"):
        more = ("seen", "before") if kind == "flow" else ("seen",)
        plain = batch_of(built(store, kind, *more))
        flipped = built(store, kind, *more, size=(16, 24), augment={**PLAIN, "flip": 1.0})
        found = next(Loader(flipped.training, len(flipped.training), seed=0)(0))
        for name in ("input", kind, *more):
            expected = plain[name][found["index"]].repeat_interleave(2, -2).repeat_interleave(2, -1).flip(-1)
            if name == "flow":
                expected = expected * torch.tensor([-2.0, 2.0])[:, None, None]
            torch.testing.assert_close(found[name], expected, equal_nan=True)


def test_labels_do_not_depend_on_what_disturbs_the_events(store: Path) -> None:
    kept = {**PLAIN, "erase": 0.5, "add": 0.5}
    calm = batch_of(built(store, "flow", "seen", "before"))
    samples = built(store, "flow", "seen", "before", augment=kept)
    found = next(Loader(samples.training, 10, seed=0)(0))
    for name in ("flow", "seen"):
        torch.testing.assert_close(found[name], calm[name][found["index"]], equal_nan=True)
    for name in ("input", "before"):
        assert not torch.equal(found[name], calm[name][found["index"]])


@pytest.mark.parametrize(("kind", "more"), [("semantic", ("seen",)), ("flow", ("seen", "before"))])
def test_workers_change_nothing(store: Path, kind: str, more: tuple[str, ...]) -> None:
    def batches(workers: int) -> list[dict]:
        augment = {"crop_min": 0.5, "flip": 0.5, "erase": 0.1, "add": 0.1}
        samples = built(store, kind, *more, size=(16, 16), augment=augment)
        stream = Loader(samples.training, 4, seed=3, num_workers=workers)(0)
        found = list(islice(stream, 6))
        stream.close()
        return found

    alone = batches(0)
    for workers in (1, 3):
        for expected, got in zip(alone, batches(workers), strict=True):
            assert expected.keys() == got.keys() == {"input", kind, *more, "key", "index"}
            for name in expected:
                torch.testing.assert_close(got[name], expected[name], rtol=0, atol=0, equal_nan=True)
    assert len({batch[kind].nan_to_num().sum().item() for batch in alone}) == 6


def test_no_training_window_is_before_one_that_is_held_out(store: Path) -> None:
    samples = built(store, "flow", "before", holdout=0.2)
    for number in range(2):
        training, held = (
            [w.entry for n, w in part.windows if n == number]  # type: ignore[union-attr]
            for part in (samples.training, samples.held_out)
        )
        assert (training, held) == ([1, 2, 3], [5])
    plain = built(store, "flow", holdout=0.2)
    assert [w.entry for n, w in plain.training.windows if n == 0] == [0, 1, 2, 3]  # type: ignore[attr-defined]
    short = Collection((Entry("a", labelled(steps=1)),))
    with pytest.raises(
        WindowError, match="no window of kind 'frames' in 1 recordings has another of its length before"
    ):
        cut_collection(short, WindowConfig(**WINDOW["flow"]), with_before=True)


# What is refused.


def test_windows_must_be_those_of_the_labels(store: Path) -> None:
    for kind, by, wrong in (
        ("semantic", "frame", {"by": "time"}),
        ("semantic", "frame", {"by": "frame"}),
        ("depth", "frame", WINDOW["semantic"]),
        ("flow", "frames", {"by": "frame", "track": "flow"}),
    ):
        said = f"labels of {kind} need windows at .*data.window.by={by} data.window.track={kind}, got data.window.by="
        with pytest.raises(WindowError, match=said):
            built(store, kind, window=wrong)
    config = DataConfig.parse({"path": str(store), "window": {"by": "count"}})
    source = open_source(config)
    with pytest.raises(WindowError, match="no window by count has another"):
        build_samples(source, config, VoxelGrid(2), VoxelGrid(1), SIZE, wanted=("before",))


def test_time_cannot_run_backwards_with_labels(store: Path) -> None:
    for kind in ("semantic", "depth", "flow"):
        with pytest.raises(LabelError, match=f"backwards, {kind} says nothing; give data.augment.time_flip=0"):
            built(store, kind, augment={**PLAIN, "time_flip": 0.5})


def test_labels_that_are_not_there(tmp_path: Path, store: Path) -> None:
    path = save_recordings(tmp_path / "a.h5", {"day": labelled(), "night": recording(1)})
    with pytest.raises(WindowError, match=r"^::night: expected a recording with a track 'depth' .* got tracks none"):
        built(path, "depth")
    with pytest.raises(LabelError, match=r"::r0, semantic at \d+ us: expected classes from 0 to 3, .* got 4"):
        built(store, "semantic", num_classes=4)
    blank = ArrayTrack([STEP_US, 2 * STEP_US], np.full((2, *SIZE), 255, np.uint8))
    path = save_recordings(tmp_path / "b.h5", {"fog": recording(semantic=blank)})
    with pytest.raises(LabelError, match="nothing is labelled in the semantic of any of 2 windows, the first of ::fog"):
        built(path, "semantic")


def test_a_class_beyond_the_others_is_found_when_its_turn_comes(tmp_path: Path) -> None:
    maps = np.ones((200, *SIZE), np.uint8)
    maps[101, 4, 4] = 7
    path = save_recordings(tmp_path / "a.h5", {"a": recording(semantic=ArrayTrack(300 * np.arange(200), maps))})
    window = {**WINDOW["semantic"], "duration_us": 300}
    samples = built(path, "semantic", num_classes=2, window=window)
    assert isinstance(samples.training, WindowSamples)
    assert samples.training.num_classes() == 8
    with pytest.raises(LabelError, match=r"::a, semantic at 30300 us: expected classes from 0 to 1, .* got 7"):
        list(evaluation_batches(samples.training, 16))


def test_a_target_between_frames_does_not_go_with_labels(store: Path) -> None:
    assert built(store, "flow", target="auto").target == "events"
    with pytest.raises(WindowError, match=r"got data\.window\.by=frames of data\.window\.track=flow"):
        built(store, "flow", target="frames")


def test_what_is_no_recording_has_no_labels(tmp_path: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((16, 16), np.uint8))
    config = DataConfig.parse({"images": str(tmp_path)})
    with pytest.raises(CollectionError, match="labels belong to recordings"):
        build_samples(open_source(config), config, VoxelGrid(2), VoxelGrid(1), SIZE, wanted=("label",))


def test_every_recording_needs_its_label(tmp_path: Path, store: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("path,label\nr0,cat\nr1,\n")
    config = DataConfig.parse({"path": str(store), "labels": str(table), "target": "none", "holdout": 0})
    with pytest.raises(CollectionError, match=r"1 of 2 recordings have no label, e.g. 'r1'"):
        build_samples(open_source(config), config, VoxelGrid(2), VoxelGrid(1), SIZE, wanted=("label",))
    table.write_text("path,label\nr0,cat\nr1,dog\n")
    (batch,) = evaluation_batches(
        build_samples(open_source(config), config, VoxelGrid(2), VoxelGrid(1), SIZE, wanted=("label",)).training, 99
    )
    assert batch["label"].unique().tolist() == [0, 1]


def test_parts_of_a_mixture_have_the_same_labels(tmp_path: Path, store: Path) -> None:
    other = save_recordings(tmp_path / "b.h5", {"x": labelled(7)})
    both = [{"path": str(store)}, {"path": str(other)}]
    samples = built(None, "semantic", "seen", num_classes=5, sources=both)
    (batch,) = evaluation_batches(samples.training, 100)
    assert batch["semantic"].shape == (18, *SIZE)
    np.testing.assert_array_equal(batch["semantic"][12:], batch_of(built(other, "semantic"))["semantic"])
    with pytest.raises(LabelError, match="got 4"):
        built(None, "semantic", num_classes=4, sources=both)
    tables = []
    for name, rows in (("a", "path,label\nr0,cat\nr1,dog\n"), ("b", "path,label\nx,dog\n")):
        (tmp_path / f"{name}.csv").write_text(rows)
        tables.append(str(tmp_path / f"{name}.csv"))
    parts = [{"path": str(store), "labels": tables[0]}, {"path": str(other), "labels": tables[1]}]
    config = DataConfig.parse({"sources": parts, "target": "none"})
    with pytest.raises(CollectionError, match=r"with the same classes, got .*\('cat', 'dog'\).*\('dog',\)"):
        build_samples(open_source(config), config, VoxelGrid(2), VoxelGrid(1), SIZE, wanted=("label",))
