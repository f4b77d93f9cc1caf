"""What every public data set must do, tried on its official layout written small."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures import writers
from fixtures.truth import Truth

from eventfm.api import finetune, pretrain
from eventfm.api.pretraining import untrained
from eventfm.data.build import DataConfig, Source, TeacherInput, build_samples, open_source, scenes_of
from eventfm.data.collection import Collection, open_collection
from eventfm.data.datasets.card import DatasetError
from eventfm.data.datasets.checking import check
from eventfm.data.datasets.contract import Dataset, Problem
from eventfm.data.datasets.opening import locate, open_dataset, open_stored
from eventfm.data.datasets.registry import DATASETS
from eventfm.data.datasets.storing import store_dataset
from eventfm.data.loader import Loader, SampleSet, evaluation_batches
from eventfm.data.pool import run_here
from eventfm.data.problems import UnreadableError
from eventfm.data.table import class_names
from eventfm.data.targets import Labelled
from eventfm.data.windows import WindowConfig, cut, read
from eventfm.deployment.predict import load
from eventfm.engine.teacher_cache import build_cache
from eventfm.protocols import Recording
from eventfm.representations import EventVolume, VoxelGrid

FIXTURES = writers()
EVERY = sorted(FIXTURES)
STORED = [name for name in EVERY if DATASETS.get(name).stored is not None]
"""Sets that are stored ready-made."""
NAMES = [name for name in EVERY if name not in STORED]
"""Sets of recordings."""
RECOGNITION = [name for name in NAMES if DATASETS.get(name).card.task == "recognition"]
PRETRAINING = [name for name in EVERY if DATASETS.get(name).card.task == "pretraining"]

pytestmark = pytest.mark.filterwarnings("ignore:.*eventfm datasets check")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Truth]]:
    """Return the folder of a data set that is never changed, and what it holds."""

    @cache
    def write(name: str) -> tuple[Path, Truth]:
        root = tmp_path_factory.mktemp(name)
        return root, FIXTURES[name](root)

    return write


@pytest.fixture
def folder(written: Callable[[str], tuple[Path, Truth]], tmp_path: Path) -> Callable[[str], tuple[Path, Truth]]:
    """Return a copy of such a folder, to be spoilt."""

    def copy(name: str) -> tuple[Path, Truth]:
        root, truth = written(name)
        return shutil.copytree(root, tmp_path / "copy"), truth

    return copy


def columns(recording: Recording) -> tuple[np.ndarray, ...]:
    events = recording.events_by_index(0, recording.num_events)
    return events.x, events.y, events.t, events.p


def assert_same_events(recording: Recording, expected: tuple[np.ndarray, ...]) -> None:
    for found, column in zip(columns(recording), expected, strict=True):
        np.testing.assert_array_equal(found, column)


def test_every_data_set_has_a_fixture() -> None:
    assert set(FIXTURES) == set(DATASETS)


@pytest.mark.parametrize("name", EVERY)
def test_cards_are_whole(name: str) -> None:
    dataset: Dataset = DATASETS.get(name)
    card = dataset.card
    assert card.name == name
    assert all((card.title, card.camera, card.units, card.licence, card.citation, card.download))
    assert card.home_page.startswith("https://")
    assert len({division.name for division in card.divisions}) == len(card.divisions)
    for division in card.divisions:
        assert set(division.counts) <= {"train", "val", "test"}
        assert len(division.sha256) in (0, 64)
        assert division.about
    assert len(card.colours) in (0, len(card.classes))
    assert len(set(card.classes)) == len(card.classes)
    if card.task == "recognition":  # a table of labels numbers them alike
        assert class_names([{"label": label} for label in card.classes]) == card.classes
    assert WindowConfig.model_validate(card.window)
    with pytest.raises(DatasetError, match="no division 'offical'"):
        card.division("offical")


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_those_written(name: str, written: Callable[[str], tuple[Path, Truth]]) -> None:
    root, truth = written(name)
    found = open_dataset(name, root)
    assert {e.name: (e.label, e.split) for e in found.entries} == {
        sample: (expected.label, expected.split) for sample, expected in truth.samples.items()
    }
    assert [entry.name for entry in found.entries] == sorted(truth.samples)
    card = DATASETS.get(name).card
    assert found.classes == (card.classes if card.task == "recognition" else ())
    assert (found.sensor.width, found.sensor.height) == truth.sensor
    for entry in found.entries:
        recording, expected = entry.recording, truth.samples[entry.name]
        assert_same_events(recording, expected.events)
        assert tuple(column.dtype for column in columns(recording)) == (np.uint16, np.uint16, np.int64, np.uint8)
        assert recording.t_range[0] <= expected.events[2][0]
        assert recording.t_range[1] >= expected.events[2][-1]
        for track, count in expected.entries.items():
            assert len(recording.tracks[track].times) == count


@pytest.mark.parametrize("name", NAMES)
def test_labels_of_pixels(name: str, written: Callable[[str], tuple[Path, Truth]]) -> None:
    root, truth = written(name)
    card = DATASETS.get(name).card
    for entry in open_dataset(name, root).entries:
        for track, number, (y, x), value in truth.samples[entry.name].values:
            values = Labelled(track, entry.recording, number, entry.name).read(len(card.classes) or None)
            assert values.shape[-2:] == truth.sensor[::-1]
            if value is None:
                assert np.isnan(values[..., y, x]).all()
            else:
                np.testing.assert_allclose(values[..., y, x], value, atol=1e-4)
        windows = cut(entry.recording, WindowConfig.model_validate(card.window))
        assert windows
        assert any(len(read(entry.recording, window)) for window in windows)


WANTED = {"recognition": "label", "segmentation": "semantic", "flow": "flow", "depth": "depth", "pretraining": "seen"}


@pytest.mark.parametrize("name", NAMES)
def test_batches_of_its_task(name: str, written: Callable[[str], tuple[Path, Truth]]) -> None:
    root, truth = written(name)
    card = DATASETS.get(name).card
    collection = open_dataset(name, root).select("train")
    wanted = WANTED[card.task]
    target = "frames" if card.task == "pretraining" else "none"
    config = DataConfig.parse({"path": str(root), "window": card.window, "target": target, "holdout": 0})
    grid = VoxelGrid(num_bins=5)
    source = Source(collection.sensor, collection)
    made = build_samples(source, config, grid, VoxelGrid(num_bins=1), (24, 32), wanted=tuple({wanted, "seen"}))
    batch = next(Loader(made.training, 2, seed=0)(0))
    assert batch["input"].shape == (2, 5, 24, 32)
    assert batch["input"].any()
    assert 0 < batch["seen"].mean() <= 1
    if card.task == "pretraining":
        assert batch["target"].shape == (2, 1, 24, 32)
        assert torch.isfinite(batch["target"]).all()
    shapes = {"label": (2,), "flow": (2, 2, 24, 32), "depth": (2, 1, 24, 32)}
    assert batch[wanted].shape == shapes.get(wanted, (2, 24, 32))
    assert batch[wanted].dtype == (torch.int64 if wanted in ("label", "semantic") else torch.float32)
    if wanted == "label":
        assert set(batch["label"].tolist()) <= {sample.label for sample in truth.samples.values()}


@pytest.mark.parametrize("name", NAMES)
def test_random_access_is_sequential_access(name: str, written: Callable[[str], tuple[Path, Truth]]) -> None:
    root, truth = written(name)
    entry = open_dataset(name, root).entries[-1]
    recording, expected = entry.recording, truth.samples[entry.name].events
    first, last = recording.t_range
    edges = [first - 5, *np.sort(np.random.default_rng(0).integers(first, last, 4)).tolist(), last + 5]
    parts = [recording.events(a, b) for a, b in pairwise(edges)]
    assert [part.window for part in parts] == list(pairwise(edges))
    for index, column in enumerate("xytp"):
        np.testing.assert_array_equal(np.concatenate([getattr(part, column) for part in parts]), expected[index])
    halves = [recording.events_by_index(*span) for span in ((-3, 100), (100, recording.num_events + 9))]
    np.testing.assert_array_equal(np.concatenate([half.t for half in halves]), expected[2])
    assert not len(recording.events(last + 1, last + 1000))


@pytest.mark.parametrize("name", NAMES)
def test_collections_are_pickled_unopened(name: str, written: Callable[[str], tuple[Path, Truth]]) -> None:
    root, truth = written(name)
    found = open_dataset(name, root)
    sent = pickle.dumps(found)
    assert len(sent) < 4000 * len(found.entries)  # names and paths, no events
    for collection in (pickle.loads(sent), pickle.loads(pickle.dumps(opened(found)))):
        entry = collection.entries[0]
        assert_same_events(entry.recording, truth.samples[entry.name].events)


def counted(problems: Iterable[Problem]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for problem in problems:
        counts[problem.kind] += problem.count
    return counts


def opened(collection: Collection) -> Collection:
    for entry in collection.entries:
        assert entry.recording.num_events
    return collection


@pytest.mark.parametrize("name", EVERY)
def test_check_finds_what_is_wrong_and_no_more(name: str, written: Callable[[str], tuple[Path, Truth]]) -> None:
    root, truth = written(name)
    report = check(locate(name, root), looks=None)
    assert counted(report.problems) == truth.problems
    assert report.counts == Counter(sample.split for sample in truth.samples.values())
    assert report.num_looked_at == len(truth.samples)
    there = all(report.counts[split] == count for split, count in report.division.counts.items())
    assert report.complete == (not truth.problems and there)
    text = "\n".join(report.lines())
    assert len(text.splitlines()) < 40
    assert str(root) in text
    assert all(problem.what and problem.remedy for problem in report.problems)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_missing_is_named(name: str, folder: Callable[[str], tuple[Path, Truth]]) -> None:
    root, truth = folder(name)
    if not truth.needed:
        pytest.skip("the list of this set is not known")
    (root / truth.needed).unlink()
    with pytest.warns(UserWarning, match="eventfm datasets check"):
        left = open_dataset(name, root)
    assert len(left.entries) <= len(truth.samples)
    named = [problem.path for problem in locate(name, root).found.problems if problem.kind == "missing"]
    assert truth.named in named


@pytest.mark.parametrize("name", NAMES)
def test_damage_is_named_and_the_rest_is_read(name: str, folder: Callable[[str], tuple[Path, Truth]]) -> None:
    root, truth = folder(name)
    spoilt, expected = next(iter(truth.samples.items()))
    file = root / expected.file
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2 + 1])
    report = check(locate(name, root), looks=None)
    damaged = [problem for problem in report.problems if problem.kind == "damaged"]
    assert {problem.path for problem in damaged} == {expected.file}
    assert counted(problem for problem in report.problems if problem.kind != "damaged") == truth.problems
    by_name = {entry.name: entry for entry in open_dataset(name, root).entries}
    with pytest.raises((ValueError, OSError), match=file.name):
        columns(by_name[spoilt].recording)
    whole = next(key for key, other in truth.samples.items() if other.file != expected.file)
    assert_same_events(by_name[whole].recording, truth.samples[whole].events)


@pytest.mark.parametrize("name", NAMES)
def test_names_may_be_in_another_case(name: str, folder: Callable[[str], tuple[Path, Truth]]) -> None:
    root, truth = folder(name)
    for path in sorted(root.rglob("*"), reverse=True):
        path.rename(path.with_name(path.name.upper()))
    found = open_dataset(name, root)
    assert [entry.name for entry in found.entries] == sorted(truth.samples)
    entry = found.entries[0]
    assert_same_events(entry.recording, truth.samples[entry.name].events)


@pytest.mark.parametrize("name", RECOGNITION)
def test_the_same_sample_twice_is_named(name: str, folder: Callable[[str], tuple[Path, Truth]]) -> None:
    root, truth = folder(name)
    files = list(dict.fromkeys(sample.file for sample in truth.samples.values() if sample.split == "train"))
    if len(files) < 2:
        pytest.skip("samples of this set are stretches of one file")
    first, second = files[:2]
    shutil.copyfile(root / first, root / second)
    again = root / "unpacked again" / first
    again.parent.mkdir(parents=True)
    shutil.copyfile(root / first, again)
    doubled = [p for p in check(locate(name, root), looks=None).problems if p.kind == "doubled"]
    # One is the file of another sample with the same events, the other the second file of one sample.
    assert {first, second} & {problem.path for problem in doubled}
    assert {first, f"unpacked again/{first}"} & {problem.path for problem in doubled}
    assert len(doubled) >= 2
    assert len(open_dataset(name, root).entries) == len(truth.samples)


@pytest.mark.parametrize("name", NAMES)
def test_a_prepared_copy_is_the_same(name: str, written: Callable[[str], tuple[Path, Truth]], tmp_path: Path) -> None:
    root, truth = written(name)
    made = store_dataset(locate(name, root), tmp_path / "out", run_here)
    assert (made.num_samples, made.num_written, made.failed) == (len(truth.samples), len(truth.samples), {})
    direct = open_dataset(name, root)
    copy = open_collection(tmp_path / "out", labels=tmp_path / "out/labels.csv")
    assert len(copy.entries) == len(direct.entries)
    for kept, entry in zip(copy.entries, direct.entries, strict=True):
        expected = truth.samples[entry.name]
        assert kept.split == entry.split
        assert (kept.label is None) == (entry.label is None)
        if entry.label is not None and kept.label is not None:
            assert copy.classes[kept.label] == direct.classes[entry.label]
        assert_same_events(kept.recording, expected.events)
        assert kept.fingerprint == entry.fingerprint, "what was learnt from is known again, prepared or not"
        assert kept.recording.sensor == entry.recording.sensor
        for track in expected.entries:
            one, other = kept.recording.tracks[track], entry.recording.tracks[track]
            np.testing.assert_array_equal(one.times, other.times)
            np.testing.assert_array_equal(one.read(1), other.read(1))
            assert getattr(one, "classes", ()) == getattr(other, "classes", ())


@pytest.mark.parametrize("name", EVERY)
def test_another_folder_is_refused(name: str, tmp_path: Path) -> None:
    opened: Callable[[str, Path], object] = open_stored if name in STORED else open_dataset
    (tmp_path / "empty").mkdir()
    card = DATASETS.get(name).card
    with pytest.raises(DatasetError, match="there are no files"):
        opened(name, tmp_path / "empty")
    with pytest.raises(DatasetError, match="there is none at"):
        opened(name, tmp_path / "nowhere")
    (tmp_path / "empty/Train.zip").write_bytes(b"PK")
    with pytest.raises(DatasetError, match=r"unpack the archives in it first \(Train.zip\)"):
        opened(name, tmp_path / "empty")
    with pytest.raises(DatasetError, match="is an archive; unpack it"):
        opened(name, tmp_path / "empty/Train.zip")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/accordion_1.npy").write_bytes(b"")
    with pytest.raises(DatasetError, match=f"no sample of {card.title}.*1 of .npy"):
        opened(name, tmp_path / "other")


@pytest.mark.parametrize("name", STORED)
def test_what_is_stored_ready_made_is_what_was_written(name: str, written: Callable[[str], tuple[Path, Truth]]) -> None:
    root, truth = written(name)
    located, stored = locate(name, root), open_stored(name, root)
    found = {sample.name: sample for sample in located.found.samples}
    assert {key: (s.label, s.split) for key, s in found.items()} == {
        key: (expected.label, expected.split) for key, expected in truth.samples.items()
    }
    assert (stored.sensor.width, stored.sensor.height) == truth.sensor
    for key, expected in truth.samples.items():
        assert found[key].files[0] == expected.file
        read: dict[str, list[np.ndarray]] = {}
        for part in located.dataset.parts(stored, found[key]):
            assert isinstance(part.values, np.ndarray), part
            assert (root / part.file).is_file()
            read.setdefault(part.kind, []).append(part.values)
        for kind, number, (y, x), value in expected.values:
            values = read[kind][number]
            there = values[y, x] if values.dtype == np.uint8 else values[:, y, x]
            np.testing.assert_allclose(there.astype(float), value, atol=3 if values.dtype == np.uint8 else 0)
        assert read.keys() == {kind for kind, *_ in expected.values}


READ_AS: dict[str, tuple[Any, dict[str, tuple[int, ...]]]] = {
    "ef-imagenet": (VoxelGrid(num_bins=5), {"input": (5, 24, 32), "target": (1, 24, 32), "teacher_tokens": (16, 8)}),
    "scaleevent-trio": (
        EventVolume(coding="imagenet"),
        {"input": (3, 24, 32), "active": (3, 4), "teacher_picture": (3, 16, 16)},
    ),
}
"""Representation of what is stored, and shapes of what training needs of a sample of 24x32 pixels."""


def stored_samples(name: str, root: Path) -> SampleSet:
    """Return the training samples of a set that is stored ready-made, as they are."""
    config = DataConfig.parse(
        {"path": str(root), "dataset": name, "holdout": 0, "augment": {"time_flip": 0, "crop_min": 1, "flip": 0}}
    )
    source = open_source(config)
    teacher, patch = TeacherInput((16, 16), source.tokens), 8 if source.trio else None
    return build_samples(source, config, READ_AS[name][0], VoxelGrid(1), (24, 32), teacher, patch).training


@pytest.mark.filterwarnings("ignore:.*are test sequences")
@pytest.mark.parametrize("name", STORED)
def test_batches_of_what_is_stored_ready_made(name: str, written: Callable[[str], tuple[Path, Truth]]) -> None:
    root, _ = written(name)
    batch = next(Loader(stored_samples(name, root), 2, seed=0)(0))
    for key, shape in READ_AS[name][1].items():
        assert batch[key].shape == (2, *shape)
        assert torch.isfinite(batch[key]).all()
        assert batch[key].std() > 0
    by_layout, by_name = (open_source(DataConfig(path=str(root), dataset=dataset)) for dataset in (None, name))
    assert by_layout == by_name


@pytest.mark.filterwarnings("ignore:.*are test sequences")
@pytest.mark.parametrize("name", STORED)
def test_what_is_missing_of_what_is_stored_is_named(name: str, folder: Callable[[str], tuple[Path, Truth]]) -> None:
    root, truth = folder(name)
    (root / truth.needed).unlink()
    report = check(locate(name, root), looks=None)
    assert [(problem.kind, problem.path) for problem in report.problems] == [("missing", truth.named)]
    assert not report.complete
    with pytest.warns(UserWarning, match=r"are not whole|are missing"):
        assert len(stored_samples(name, root))


@pytest.mark.filterwarnings("ignore:.*are test sequences")
@pytest.mark.parametrize("name", STORED)
def test_damage_to_what_is_stored_is_named_and_the_rest_is_read(
    name: str, folder: Callable[[str], tuple[Path, Truth]]
) -> None:
    root, _ = folder(name)
    files = [file for sample in locate(name, root).found.samples[:1] for file in sample.files]
    for spoilt in files:
        whole = (root / spoilt).read_bytes()
        (root / spoilt).write_bytes(whole[: len(whole) // 2 + 1])
        (problem,) = check(locate(name, root), looks=None).problems
        assert (problem.kind, problem.path) == ("damaged", spoilt)
        assert all((problem.what, problem.remedy))
        (root / spoilt).write_bytes(whole)
    for spoilt in files:
        (root / spoilt).write_bytes(b"")
    with pytest.warns(UserWarning, match="passed over"):
        batches = list(evaluation_batches(stored_samples(name, root), 2))
    assert all(torch.isfinite(values).all() for batch in batches for values in batch.values())


@pytest.mark.parametrize("name", STORED)
def test_what_is_stored_ready_made_is_pickled_by_its_names(
    name: str, written: Callable[[str], tuple[Path, Truth]]
) -> None:
    root, truth = written(name)
    stored, located = open_stored(name, root), locate(name, root)
    sent = pickle.dumps((stored, located))
    assert len(sent) < 8000 * len(truth.samples)
    again, also = pickle.loads(sent)
    assert again == stored
    parts = also.dataset.parts(again, also.found.samples[0])
    assert not any(isinstance(part.values, UnreadableError) for part in parts)


@pytest.mark.parametrize("name", STORED)
def test_what_is_stored_ready_made_is_not_prepared(
    name: str, written: Callable[[str], tuple[Path, Truth]], tmp_path: Path
) -> None:
    root, _ = written(name)
    said = rf"is stored ready-made and holds no recordings.* data=FOLDER data\.dataset={name}"
    with pytest.raises(DatasetError, match=said):
        open_dataset(name, root)
    with pytest.raises(DatasetError, match=said):
        store_dataset(locate(name, root), tmp_path / "out", run_here)
    assert not (tmp_path / "out").exists()


class Means:
    """A teacher of 2x2 tokens, each the mean of its part of a picture, eight times over."""

    dim, grid, input_size = 8, (2, 2), (16, 16)
    identity: dict[str, Any] = {"name": "means", "input_size": [16, 16]}  # noqa: RUF012

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        patches = pictures.unfold(2, 8, 8).unfold(3, 8, 8).mean((1, 4, 5)).flatten(1)
        return patches[:, :, None].expand(-1, -1, self.dim)


def run_settings(name: str, root: Path, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    """Return the smallest recipe that a set is learnt by, and what is to be said besides."""
    if name == "scaleevent-trio":
        config = DataConfig(path=str(root), dataset=name)
        build_cache(tmp_path / "cache", scenes_of(open_source(config), config), Means(), num_workers=1)
        teacher = {"name": "means", "cache": str(tmp_path / "cache")}
        mask = {"by": "stored"}
        return "scaleevent-tiny", {
            "teacher": teacher,
            "method.mask": mask,
            "representation.coding": "imagenet",
            "data.augment.time_flip": 0,
        }
    tiny = {"method.backbone.name": "vit_nano", "method.decoder": {"dim": 32, "depth": 1, "num_heads": 2}}
    span = {"representation.span": "events"} if name == "ef-imagenet" else {}
    return "difference-vit-tiny", {**tiny, **span, "data.window": dict(DATASETS.get(name).card.window)}


@pytest.mark.filterwarnings("ignore:.*are test sequences")
@pytest.mark.parametrize("name", PRETRAINING)
def test_a_step_of_pretraining(name: str, written: Callable[[str], tuple[Path, Truth]], tmp_path: Path) -> None:
    root, _ = written(name)
    recipe, settings = run_settings(name, root, tmp_path)
    result = pretrain(
        recipe, data=root, out=tmp_path / "run",
        **{
            "data.dataset": name, "data.image_size": 32, "data.num_workers": 0, "data.holdout": 0,
            "train": {"num_steps": 1, "batch_size": 2, "device": "cpu"}, **settings,
        },
    )  # fmt: skip
    assert result.step == 1
    assert np.isfinite(result.metrics["loss"])
    assert 0 < result.metrics["grad_norm"] < np.inf
    encoder = load(result.encoder)
    start = untrained(encoder.card, 0).state_dict()
    assert any(not torch.equal(value, start[key]) for key, value in encoder.backbone.state_dict().items())


@pytest.fixture(scope="module")
def encoder(written: Callable[[str], tuple[Path, Truth]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an encoder as a step of pretraining leaves it."""
    root, out = written("mvsec-pairs")[0], tmp_path_factory.mktemp("encoder")
    recipe, settings = run_settings("mvsec-pairs", root, out)
    result = pretrain(
        recipe, data=root, out=out / "run",
        **{
            "data.dataset": "mvsec-pairs", "data.image_size": 32, "data.num_workers": 0, "data.holdout": 0,
            "train": {"num_steps": 1, "batch_size": 2, "device": "cpu"}, **settings,
        },
    )  # fmt: skip
    return result.encoder


FIGURES = {"recognition": "top1", "segmentation": "miou", "flow": "epe", "depth": "abs_rel"}


@pytest.mark.filterwarnings("ignore:.*are test sequences")
@pytest.mark.parametrize("name", [name for name in NAMES if name not in PRETRAINING])
def test_a_step_on_its_labels_and_the_figure_of_its_task(
    name: str, written: Callable[[str], tuple[Path, Truth]], encoder: Path, tmp_path: Path
) -> None:
    root, _ = written(name)
    card = DATASETS.get(name).card
    out = tmp_path / "prepared"
    store_dataset(locate(name, root), out, run_here)
    head, *rows = (out / "labels.csv").read_text().splitlines()
    # What is tested on serves to choose by here: a few samples are too few to keep a tenth apart.
    lines = [line.replace(",test,", ",val,") for line in rows]
    if not any(",val," in line for line in lines):
        lines[-1] = lines[-1].replace(",train,", ",val,")
    (out / "labels.csv").write_text("\n".join([head, *lines]) + "\n")
    result = finetune(
        card.task, data=out, encoder=encoder, out=tmp_path / "run",
        **{
            "data.labels": out / "labels.csv", "data.image_size": 32, "data.num_workers": 0,
            "data.keep_test_sequences": True, "data.window": dict(card.window), "task.head": {"name": "linear"},
            "train": {"num_steps": 1, "batch_size": 2, "device": "cpu"},
        },
    )  # fmt: skip
    assert np.isfinite(result.figures[FIGURES[card.task]])


def test_nothing_is_loaded_before_it_is_asked_for() -> None:
    code = (
        "import sys; from eventfm.data.datasets.registry import DATASETS; names = list(DATASETS); "
        "loaded = [name for name in sys.modules if name.startswith('eventfm.data.datasets.')]; "
        "assert loaded == ['eventfm.data.datasets.registry'], loaded; "
        "[DATASETS.get(name) for name in names]; "
        "assert 'torch' not in sys.modules and 'PIL' not in sys.modules, 'cards load heavy packages'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
