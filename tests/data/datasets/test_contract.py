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

import numpy as np
import pytest
import torch
from fixtures import writers
from fixtures.truth import Truth

from eventfm.data.build import DataConfig, Source, build_samples
from eventfm.data.collection import Collection, open_collection
from eventfm.data.datasets.card import DatasetError
from eventfm.data.datasets.checking import check
from eventfm.data.datasets.contract import Dataset, Problem
from eventfm.data.datasets.opening import locate, open_dataset
from eventfm.data.datasets.registry import DATASETS
from eventfm.data.datasets.storing import store_dataset
from eventfm.data.loader import Loader
from eventfm.data.pool import run_here
from eventfm.data.table import class_names
from eventfm.data.targets import Labelled
from eventfm.data.windows import WindowConfig, cut, read
from eventfm.protocols import Recording
from eventfm.representations import VoxelGrid

FIXTURES = writers()
NAMES = sorted(FIXTURES)
RECOGNITION = [name for name in NAMES if DATASETS.get(name).card.task == "recognition"]

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


@pytest.mark.parametrize("name", NAMES)
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


@pytest.mark.parametrize("name", NAMES)
def test_check_finds_what_is_wrong_and_no_more(name: str, written: Callable[[str], tuple[Path, Truth]]) -> None:
    root, truth = written(name)
    report = check(locate(name, root), looks=None)
    assert counted(report.problems) == truth.problems
    assert report.counts == Counter(sample.split for sample in truth.samples.values())
    assert report.num_looked_at == len(truth.samples)
    assert report.complete == (not truth.problems)
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
        assert kept.recording.sensor == entry.recording.sensor
        for track in expected.entries:
            one, other = kept.recording.tracks[track], entry.recording.tracks[track]
            np.testing.assert_array_equal(one.times, other.times)
            np.testing.assert_array_equal(one.read(1), other.read(1))
            assert getattr(one, "classes", ()) == getattr(other, "classes", ())


@pytest.mark.parametrize("name", NAMES)
def test_another_folder_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    card = DATASETS.get(name).card
    with pytest.raises(DatasetError, match="there are no files"):
        open_dataset(name, tmp_path / "empty")
    with pytest.raises(DatasetError, match="there is none at"):
        open_dataset(name, tmp_path / "nowhere")
    (tmp_path / "empty/Train.zip").write_bytes(b"PK")
    with pytest.raises(DatasetError, match=r"unpack the archives in it first \(Train.zip\)"):
        open_dataset(name, tmp_path / "empty")
    with pytest.raises(DatasetError, match="is an archive; unpack it"):
        open_dataset(name, tmp_path / "empty/Train.zip")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/accordion_1.npy").write_bytes(b"")
    with pytest.raises(DatasetError, match=f"no sample of {card.title}.*1 of .npy"):
        open_dataset(name, tmp_path / "other")


def test_nothing_is_loaded_before_it_is_asked_for() -> None:
    code = (
        "import sys; from eventfm.data.datasets.registry import DATASETS; names = list(DATASETS); "
        "loaded = [name for name in sys.modules if name.startswith('eventfm.data.datasets.')]; "
        "assert loaded == ['eventfm.data.datasets.registry'], loaded; "
        "[DATASETS.get(name) for name in names]; "
        "assert 'torch' not in sys.modules and 'PIL' not in sys.modules, 'cards load heavy packages'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
