from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from eventfm.config import ConfigError
from eventfm.data.animate import AnimatedPictures
from eventfm.data.build import (
    DataConfig,
    Samples,
    TeacherInput,
    build_samples,
    open_source,
    resolve_target,
    scenes_of,
)
from eventfm.data.collection import CollectionError, open_collection
from eventfm.data.loader import Loader, evaluation_batches
from eventfm.data.pairs import WindowSamples
from eventfm.data.token_cache import CacheError, TokenCache
from eventfm.data.token_writer import open_writer
from eventfm.data.windows import WindowError
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, ArrayTrack, convert, save_recording, save_recordings
from eventfm.representations import VoxelGrid


def recording(seed: int, count: int = 600, frames: bool = False, frame_size: int = 32) -> ArrayRecording:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 32, (2, count))
    t = np.sort(rng.integers(0, 100_000, count))
    events = Events.checked(x, y, t, rng.integers(0, 2, count), Sensor(32, 32))
    pictures = rng.integers(0, 256, (11, frame_size, frame_size)).astype(np.uint8)
    return ArrayRecording(events, {"frames": ArrayTrack(np.arange(11) * 10_000, pictures)} if frames else {})


def store(path: Path, count: int, frames: bool = False) -> Path:
    return save_recordings(path, {f"r{seed:02d}": recording(seed, frames=frames) for seed in range(count)})


def built(teacher: TeacherInput | None = None, **values: object) -> Samples:
    config = DataConfig.parse({"window": {"duration_us": 10_000}, **values})
    return build_samples(open_source(config), config, VoxelGrid(3), VoxelGrid(1), (32, 32), teacher)


SHOWN = TeacherInput((8, 12))
TEACHER = {"name": "made up"}


def cached(folder: Path, leave_out: int = 0, **values: object) -> TokenCache:
    """Return a cache of the data that `values` say; tokens are the mean of the picture, and its number."""
    config = DataConfig.parse(values)
    scenes = scenes_of(open_source(config), config)
    with open_writer(folder, TEACHER, 2, (1, 1), scenes.field) as writer:
        for number in range(leave_out, len(scenes)):
            try:
                mean = scenes.read(number, (8, 8)).mean()
                writer.add(scenes.key(number), np.array([[mean, number]], np.float16))
            except CollectionError as error:
                writer.failed[scenes.name(number)] = str(error)
    return TokenCache.open(folder)


def windows(samples: object) -> tuple[tuple[int, tuple], ...]:
    assert isinstance(samples, WindowSamples)
    return samples.windows


def test_target_is_frames_where_every_recording_has_them(tmp_path: Path) -> None:
    with_frames = built(path=str(store(tmp_path / "a.h5", 2, frames=True)))
    assert with_frames.target == "frames"
    assert all(window.frames for _, window in windows(with_frames.training))
    mixed = {"a": recording(0, frames=True), "b": recording(1)}
    without = built(path=str(save_recordings(tmp_path / "b.h5", mixed)))
    assert without.target == "events"
    assert not any(window.frames for _, window in windows(without.training))


def test_windows_without_frames_take_the_events_as_target(tmp_path: Path) -> None:
    path = str(store(tmp_path / "a.h5", 2, frames=True))
    by_count = {"by": "count", "num_events": 50}
    assert built(path=path, window=by_count).target == "events"
    with pytest.raises(WindowError, match=r"needs windows between frames, got data\.window\.by=count"):
        built(path=path, window=by_count, target="frames")
    between = built(path=path, window={"by": "frames"}, target="events")
    assert between.target == "events"
    assert all(window.frames for _, window in windows(between.training))


def test_frames_asked_for_and_not_there(tmp_path: Path) -> None:
    path = store(tmp_path / "a.h5", 1)
    assert resolve_target(open_collection(path), DataConfig(target="frames")) == "frames"
    with pytest.raises(WindowError, match=r"a recording with frames .* target=events"):
        built(path=str(path), target="frames")


def test_of_few_recordings_the_end_is_held_out(tmp_path: Path) -> None:
    samples = built(path=str(store(tmp_path / "a.h5", 3)), holdout=0.2)
    held_out = windows(samples.held_out)
    assert {number for number, _ in held_out} == {0, 1, 2}
    for number in range(3):
        last = max(window.stop for n, window in windows(samples.training) if n == number)
        assert last <= min(window.start for n, window in held_out if n == number)
    assert len(samples.identity) == 3


@pytest.mark.parametrize(("holdout", "expected"), [(0.25, 3), (0.02, 1)])
def test_of_many_recordings_whole_ones_are_held_out(tmp_path: Path, holdout: float, expected: int) -> None:
    path = str(store(tmp_path / "a.h5", 12))
    samples = built(path=path, holdout=holdout)
    kept, held = ({number for number, _ in windows(part)} for part in (samples.training, samples.held_out))
    assert len(held) == expected
    assert kept | held == set(range(12))
    assert not kept & held
    assert len(samples.identity) == 12 - expected
    assert not any(f"r{number:02d}" in item for item in samples.identity for number in held)
    assert {number for number, _ in windows(built(path=path, holdout=holdout).held_out)} == held


def test_names_decide_what_is_held_out_not_their_order(tmp_path: Path) -> None:
    path = store(tmp_path / "a.h5", 12)
    table = tmp_path / "t.csv"

    def trained_on(names: list[str]) -> set[str]:
        table.write_text("\n".join(["path", *names]) + "\n")
        return set(built(path=str(path), labels=str(table), holdout=0.25).identity)

    names = [f"r{n:02d}" for n in range(12)]
    assert trained_on(names) == trained_on(names[::-1])


def test_nothing_is_held_out_where_nothing_is_asked(tmp_path: Path) -> None:
    for count in (2, 12):
        samples = built(path=str(store(tmp_path / f"{count}.h5", count)), holdout=0)
        assert samples.held_out is None
        assert len(samples.identity) == count


def test_nothing_is_left_to_train_on(tmp_path: Path) -> None:
    empty = {f"r{n}": recording(n, count=0) for n in range(12)}
    with pytest.raises(WindowError, match="are they empty"):
        built(path=str(save_recordings(tmp_path / "a.h5", empty)))
    held_out = windows(built(path=str(store(tmp_path / "b.h5", 12))).held_out)[0][0]
    only = {f"r{n:02d}": recording(n, count=600 if n == held_out else 0) for n in range(12)}
    with pytest.raises(WindowError, match=r"1 of 12 recordings are held out and the others are empty"):
        built(path=str(save_recordings(tmp_path / "c.h5", only)))


def test_fingerprint_tells_the_content_not_the_name_or_format(tmp_path: Path) -> None:
    save_recording(tmp_path / "one.h5", recording(5))
    convert(tmp_path / "one.h5", tmp_path / "other.npz")
    save_recordings(tmp_path / "many.h5", {"x": recording(5), "y": recording(6), "z": recording(5, count=601)})
    collections = [open_collection(tmp_path / name) for name in ("one.h5", "other.npz", "many.h5")]
    one, other, x = (collection.entries[0].fingerprint for collection in collections)
    assert one == other == x
    assert len({x, collections[2].entries[1].fingerprint, collections[2].entries[2].fingerprint}) == 3


def test_identity_lists_name_and_content(tmp_path: Path) -> None:
    path = store(tmp_path / "a.h5", 2)
    collection = open_collection(path)
    expected = tuple(f"::r{n:02d} {collection.entries[n].fingerprint}" for n in range(2))
    assert built(path=str(path)).identity == expected
    single = save_recording(tmp_path / "alone.h5", recording(0))
    assert built(path=str(single)).identity == (f"alone.h5 {collection.entries[0].fingerprint}",)


def test_split_and_fold_choose(tmp_path: Path) -> None:
    path = store(tmp_path / "a.h5", 4)
    table = tmp_path / "t.csv"
    table.write_text("path,split,fold\nr00,train,0\nr01,train,1\nr02,test,0\nr03,test,1\n")
    chosen = built(path=str(path), labels=str(table), split="train", exclude_fold=1)
    assert [item.split()[0] for item in chosen.identity] == ["r00"]


def test_pictures_alone_are_animated(tmp_path: Path) -> None:
    for n in range(10):
        grey = np.random.default_rng(n).integers(0, 256, (16, 16)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"{n}.png"), grey)
    samples = built(images=str(tmp_path), motion={"sensor": [32, 32]})
    assert isinstance(samples.training, AnimatedPictures)
    assert samples.target == "frames"
    assert isinstance(samples.held_out, AnimatedPictures)
    assert [path.name for path in samples.held_out.pictures] == ["6.png"]  # by its hash, not by its place
    kept = [f"{n}.png" for n in range(10) if n != 6]
    assert [path.name for path in samples.training.pictures] == kept
    assert [item.split()[0] for item in samples.identity] == kept
    with pytest.raises(CollectionError, match=r"data\.split chooses among recordings"):
        built(images=str(tmp_path), split="train")
    with pytest.raises(CollectionError, match=r"leave data\.target out"):
        built(images=str(tmp_path), target="events")


def test_nothing_pointed_at() -> None:
    with pytest.raises(CollectionError, match="nothing to train on"):
        open_source(DataConfig())


@pytest.mark.parametrize(
    "values", [{"holdout": 1.0}, {"image_size": 0}, {"num_workers": -1}, {"window": {"num_events": 0}}]
)
def test_values_out_of_range(values: dict) -> None:
    with pytest.raises(ConfigError):
        DataConfig.parse(values)


def test_windows_between_frames_become_windows_by_time_for_the_encoder(tmp_path: Path) -> None:
    path, shorter = str(store(tmp_path / "a.h5", 3, frames=True)), {"duration_us": 7000}
    between = built(path=path, window=shorter)
    assert (between.target, between.window.by, between.window.duration_us) == ("frames", "time", 10_000)
    assert built(path=path, window=shorter, target="events").window.duration_us == 7000


def test_a_teacher_is_shown_frames_or_reads_its_tokens_of_them(tmp_path: Path) -> None:
    path = str(store(tmp_path / "a.h5", 3, frames=True))
    live = built(SHOWN, path=path)
    tokens = built(TeacherInput((8, 12), cached(tmp_path / "cache", path=path)), path=path)
    for kept, other in ((live.training, tokens.training), (live.held_out, tokens.held_out)):
        assert kept is not None
        assert other is not None
        assert kept.shapes.keys() - other.shapes.keys() == {"teacher_picture"}
        for shown, said in zip(evaluation_batches(kept, 8), evaluation_batches(other, 8), strict=True):
            means = shown["teacher_picture"].mean((1, 2, 3))
            np.testing.assert_allclose(said["teacher_tokens"][:, 0, 0], means, atol=0.02)
            np.testing.assert_array_equal(shown["view"], said["view"])
            assert len(means.unique()) == len(means)


def test_recordings_without_pictures_have_nothing_to_teach(tmp_path: Path) -> None:
    path = str(store(tmp_path / "a.h5", 2))
    with pytest.raises(CollectionError, match=r"2 of 2 recordings have neither frames nor a still"):
        built(SHOWN, path=path)


def test_a_cache_of_other_pictures_is_refused(tmp_path: Path) -> None:
    path = str(store(tmp_path / "a.h5", 2, frames=True))
    few = cached(tmp_path / "few", leave_out=3, path=path)
    with pytest.raises(CacheError, match=r"lacks the tokens of 3 of 22 pictures, first ::r00, frame 0"):
        built(TeacherInput((8, 8), few), path=path)
    for n in range(3):
        cv2.imwrite(str(tmp_path / f"{n}.png"), np.random.default_rng(n).integers(0, 256, (16, 16)).astype(np.uint8))
    square = {"images": str(tmp_path), "motion": {"sensor": [32, 32]}}
    cache = TeacherInput((8, 8), cached(tmp_path / "cache", **square))
    assert built(cache, **square).training.shapes["teacher_tokens"] == (1, 2)
    with pytest.raises(CacheError, match="32x32 pixels there, 48x32 needed"):
        built(cache, **{**square, "motion": {"sensor": [48, 32]}})


def test_pictures_that_cannot_be_read_end_nothing_and_are_listed(tmp_path: Path) -> None:
    for n in range(5):
        cv2.imwrite(str(tmp_path / f"{n}.png"), np.random.default_rng(n).integers(0, 256, (16, 16)).astype(np.uint8))
    trained_on, looked_at = "3.png", "0.png"
    (tmp_path / trained_on).write_text("no picture")
    (tmp_path / looked_at).unlink()
    (tmp_path / looked_at).symlink_to(tmp_path / "nowhere.png")
    values = {"images": str(tmp_path), "motion": {"sensor": [32, 32]}, "holdout": 0.4}
    tokens = TeacherInput((8, 8), cached(tmp_path / "cache", **values))
    for teacher in (None, SHOWN, tokens):
        samples = built(teacher, **values)
        assert samples.problems == {}
        assert samples.held_out is not None
        assert samples.identity[1].startswith(f"{trained_on} ")
        with pytest.warns(UserWarning, match="passed over"):
            batch = next(Loader(samples.training, 3, seed=0)(0))
        assert sorted(batch["index"].tolist()) == [0, 1, 2]
        assert samples.problems.keys() == {str(tmp_path / trained_on)}
        with pytest.warns(UserWarning, match="passed over"):
            next(evaluation_batches(samples.held_out, 2))
        assert samples.problems.keys() == {str(tmp_path / trained_on), str(tmp_path / looked_at)}


def test_the_first_frame_may_be_unreadable_but_not_all(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    (folder / "images").mkdir(parents=True)
    lines = [f"{t / 1e6:.6f} {t % 30} 3 1" for t in range(0, 100_000, 100)]
    (folder / "events.txt").write_text("\n".join(lines) + "\n")
    names = [f"images/{n}.png" for n in range(5)]
    (folder / "images.txt").write_text("\n".join(f"{0.02 * n:.6f} {name}" for n, name in enumerate(names)) + "\n")
    for name in names:
        cv2.imwrite(str(folder / name), np.zeros((32, 32), np.uint8))
    (folder / names[0]).write_text("no picture")
    values = {"path": str(folder), "sensor": [32, 32], "holdout": 0}
    with pytest.warns(UserWarning, match=r"frames 0 and 1 cannot be read"):
        samples = built(**values)
    assert len(samples.problems) == 1
    for name in names:
        (folder / name).write_text("no picture")
    with (
        pytest.warns(UserWarning, match="cannot be read"),
        pytest.raises(CollectionError, match="none of the 4 samples can be read"),
    ):
        built(**values)


@pytest.mark.parametrize("kind", ["linear", "log"])
def test_the_kind_of_difference_reaches_the_samples(tmp_path: Path, kind: str) -> None:
    path = str(store(tmp_path / "a.h5", 2, frames=True))
    cv2.imwrite(str(tmp_path / "p.png"), np.random.default_rng(0).integers(0, 256, (16, 16)).astype(np.uint8))
    for values in ({"path": path}, {"images": str(tmp_path), "motion": {"sensor": [32, 32]}}):
        assert built(difference=kind, holdout=0.0, **values).training.difference == kind  # type: ignore[attr-defined]


def test_nmnist_with_what_it_was_recorded_from(tmp_path: Path, real_data: Path) -> None:
    """The digits, with a border of 3 pixels: where they have edges there are events, in every crop and flip."""
    digits = np.loadtxt(real_data / "labelled/mnist_stimuli/mnist_train_100.csv", delimiter=",", dtype=np.uint8)
    table = ["path,label,picture"]
    for number, (label, *values) in enumerate(digits[:20].tolist(), 1):
        digit = np.pad(np.array(values, np.uint8).reshape(28, 28), 3)
        cv2.imwrite(str(tmp_path / f"{number}.png"), digit)
        table.append(f"{number}.bs2,{label},{number}.png")
    (tmp_path / "table.csv").write_text("\n".join(table) + "\n")
    values = {"path": str(real_data / "labelled/nmnist"), "labels": str(tmp_path / "table.csv"), "holdout": 0.0}
    samples = built(TeacherInput((34, 34)), **values, window={"by": "whole"}, augment={"erase": 0, "add": 0})
    batch = next(Loader(samples.training, 20, seed=0)(0))
    agreement, mirrored = [], []
    for events, picture, view in zip(batch["input"], batch["teacher_picture"], batch["view"].tolist(), strict=True):
        left, top, right, bottom, flip = view
        part = picture[0].numpy()[round(top * 34) : round(bottom * 34), round(left * 34) : round(right * 34)]
        part = cv2.resize(part[:, ::-1] if flip else part, (32, 32))
        edges = np.hypot(cv2.Sobel(part, cv2.CV_32F, 1, 0), cv2.Sobel(part, cv2.CV_32F, 0, 1))
        count = cv2.GaussianBlur(events.abs().sum(0).numpy(), (0, 0), 1.5)
        smooth = cv2.GaussianBlur(edges, (0, 0), 1.5)
        agreement.append(np.corrcoef(smooth.ravel(), count.ravel())[0, 1])
        mirrored.append(np.corrcoef(smooth[:, ::-1].ravel(), count.ravel())[0, 1])
    assert np.mean(agreement) > 0.8
    assert np.mean(mirrored) < 0.6
    assert 0 < batch["view"][:, 4].sum() < 20
