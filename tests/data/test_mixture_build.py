from __future__ import annotations

import warnings
from collections import Counter
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from trio_files import write_lists, write_sequence

from eventfm.data.build import DataConfig, Samples, TeacherInput, build_samples, open_source, scenes_of
from eventfm.data.loader import Loader
from eventfm.data.mixture import MixedSamples
from eventfm.data.table import CollectionError
from eventfm.data.trio_samples import TrioSamples
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, save_recording
from eventfm.protocols import Representation
from eventfm.representations import EventVolume, VoxelGrid

SHOWN = TeacherInput((12, 16))
AS_PICTURES = EventVolume(coding="imagenet")


def built(
    config: DataConfig, teacher: TeacherInput | None = SHOWN, representation: Representation = AS_PICTURES
) -> Samples:
    return build_samples(open_source(config), config, representation, VoxelGrid(1), (24, 32), teacher, 8)


def write_recording(file: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    x, y, p = (rng.integers(0, high, 400) for high in (32, 24, 2))
    events = Events.checked(x, y, np.arange(400) * 1000, p, Sensor(32, 24))
    file.parent.mkdir(parents=True, exist_ok=True)
    return save_recording(file, ArrayRecording(events))


def two_sets(tmp_path: Path, **values: object) -> DataConfig:
    for number in range(3):
        write_sequence(tmp_path / "one" / f"s{number}", 4, seed=number)
    write_sequence(tmp_path / "two" / "s0", 6, seed=9)
    sources = [{"path": str(tmp_path / name), "weight": weight} for name, weight in (("one", 1), ("two", 2))]
    return DataConfig.parse({"sources": sources, "holdout": 0.0, **values})


def test_a_trio_set_is_opened_by_its_path(tmp_path: Path) -> None:
    write_sequence(tmp_path / "a", 4)
    write_sequence(tmp_path / "b", 4)
    samples = built(DataConfig(path=str(tmp_path), holdout=0.25))
    assert isinstance(samples.training, TrioSamples)
    assert samples.target == "none"
    assert [(trio.sequence, trio.number) for trio in samples.held_out.trios] == [("a", 4), ("b", 4)]  # type: ignore[union-attr]
    assert len(samples.training) == 6
    assert [item.split()[0] for item in samples.identity] == ["a", "b"]
    assert set(samples.training.shapes) == {"input", "active", "view", "teacher_picture"}


def test_whole_sequences_of_many_are_held_out(tmp_path: Path) -> None:
    for number in range(10):
        write_sequence(tmp_path / f"s{number}", 2, size=(8, 8))
    samples = built(DataConfig(path=str(tmp_path), holdout=0.2))
    held = {trio.sequence for trio in samples.held_out.trios}  # type: ignore[union-attr]
    kept = {trio.sequence for trio in samples.training.trios}  # type: ignore[attr-defined]
    assert (len(held), len(kept), held & kept) == (2, 8, set())


def test_labels_are_the_list_of_a_trio_set(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_sequence(tmp_path / "set" / name, 2)
    lists = write_lists(tmp_path / "specs", "set", {"b": 2})
    config = DataConfig(path=str(tmp_path / "set"), labels=str(lists), holdout=0.0)
    assert [item.split()[0] for item in built(config).identity] == ["b"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"target": "frames"}, "nothing else to learn"),
        ({"augment": {"time_flip": 0.5}}, r"data\.augment\.time_flip=0"),
        ({"split": "train"}, r"data\.split belongs to recordings"),
    ],
)
def test_settings_that_do_not_fit_a_trio_set(tmp_path: Path, values: dict, message: str) -> None:
    write_sequence(tmp_path / "a", 2)
    with pytest.raises(CollectionError, match=message):
        built(DataConfig.parse({"path": str(tmp_path), **values}))


def test_methods_and_representations_that_do_not_fit_a_trio_set(tmp_path: Path) -> None:
    write_sequence(tmp_path / "a", 2)
    config = DataConfig(path=str(tmp_path))
    with pytest.raises(CollectionError, match="choose a method with a teacher"):
        built(config, teacher=None)
    for other in (VoxelGrid(3), EventVolume()):
        with pytest.raises(CollectionError, match=r"representation\.name=event_volume representation\.coding=imagenet"):
            built(config, representation=other)


def test_a_mixture_draws_from_all_parts_in_shares(tmp_path: Path) -> None:
    samples = built(two_sets(tmp_path))
    assert isinstance(samples.training, MixedSamples)
    assert samples.training.quotas == (6, 12)
    assert samples.held_out is None
    assert [item.split()[0] for item in samples.identity] == ["one/s0", "one/s1", "one/s2", "two/s0"]
    batches = list(islice(Loader(samples.training, 6, seed=4, num_workers=2)(0), 12))
    times = Counter(index for batch in batches for index in batch["index"].tolist())
    assert [times[index] for index in range(18)] == [2] * 12 + [8] * 6
    keys = torch.cat([batch["key"] for batch in batches])
    assert len(torch.unique(keys)) == 72


@pytest.mark.parametrize("start", [0, 1, 3, 7])
def test_a_mixture_resumes_exactly(tmp_path: Path, start: int) -> None:
    """At any batch, for any number of workers, and for ranks together as for one alone."""
    samples = built(two_sets(tmp_path)).training
    whole = list(islice(Loader(samples, 4, seed=4)(0), 9))
    rest = list(islice(Loader(samples, 4, seed=4, num_workers=3)(start), 9 - start))
    ranks = [list(islice(Loader(samples, 2, seed=4, rank=rank, world_size=2)(start), 9 - start)) for rank in (0, 1)]
    for expected, got, *halves in zip(whole[start:], rest, *ranks, strict=True):
        for name in expected:
            assert torch.equal(expected[name], got[name])
            assert torch.equal(expected[name], torch.cat([half[name] for half in halves]))


def test_held_out_samples_of_every_part(tmp_path: Path) -> None:
    samples = built(two_sets(tmp_path, holdout=0.25))
    assert isinstance(samples.held_out, MixedSamples)
    assert [len(part) for part in samples.held_out.parts] == [3, 2]


def test_a_teacher_is_shown_the_pictures_of_all_parts(tmp_path: Path) -> None:
    config = two_sets(tmp_path)
    scenes = scenes_of(open_source(config), config)
    assert len(scenes) == 18
    assert all(Path(scenes.name(number)).parent.name == "image" for number in range(18))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"path": "x"}, r"leave data\.path out"),
        ({"sources": [{"path": "a", "weight": 1}, {"path": "b"}]}, "a weight for every part"),
    ],
)
def test_mixtures_that_make_no_sense(tmp_path: Path, values: dict, message: str) -> None:
    with pytest.raises(CollectionError, match=message):
        open_source(DataConfig.parse({**two_sets(tmp_path).model_dump(), **values}))


def test_parts_of_one_name(tmp_path: Path) -> None:
    write_sequence(tmp_path / "a" / "left" / "s", 1)
    write_sequence(tmp_path / "b" / "left" / "s", 1)
    sources = [{"path": str(tmp_path / name / "left")} for name in "ab"]
    with pytest.raises(CollectionError, match=r"names of their own, got \['left', 'left'\]"):
        open_source(DataConfig.parse({"sources": sources}))
    named = [{**source, "name": name} for source, name in zip(sources, "ab", strict=True)]
    assert len(built(DataConfig.parse({"sources": named, "holdout": 0.0})).training) == 2


def test_test_sequences_of_recordings_are_left_out(tmp_path: Path) -> None:
    for number, name in enumerate(("outdoor_day1_data", "outdoor_day2_data", "outdoor_night2_data")):
        write_recording(tmp_path / "mvsec" / f"{name}.h5", number)
    config = DataConfig(path=str(tmp_path / "mvsec"), target="events")
    with pytest.warns(
        UserWarning, match=r"2 of 3 .* outdoor_day1_data\.h5 \(MVSEC-Depth, MVSEC-Flow\), and are left out"
    ):
        source = open_source(config)
    assert source.collection is not None
    assert [entry.name for entry in source.collection.entries] == ["outdoor_day2_data.h5"]
    assert source.overlaps == {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept = open_source(config.model_copy(update={"keep_test_sequences": True}))
    assert kept.collection is not None
    assert len(kept.collection.entries) == 3
    assert kept.overlaps == {
        "outdoor_day1_data.h5": "MVSEC-Depth, MVSEC-Flow",
        "outdoor_night2_data.h5": "MVSEC-Depth",
    }


@pytest.mark.parametrize("name", ["zurich_city_14_c/events.h5", "zurich_city_14_c.h5"])
def test_nothing_but_a_test_sequence(tmp_path: Path, name: str) -> None:
    file = write_recording(tmp_path / name, 0)
    with pytest.raises(CollectionError, match=r"nothing is left to train on: 1 of 1 .*keep_test_sequences=true"):
        open_source(DataConfig(path=str(file if name.endswith("c.h5") else file.parent)))


def test_test_sequences_of_a_mixture_are_named_with_their_part(tmp_path: Path) -> None:
    for name in ("dir0", "dir1"):
        write_sequence(tmp_path / "ddd17" / name, 2)
    write_sequence(tmp_path / "dsec" / "zurich_city_00_a", 2)
    sources = [{"path": str(tmp_path / name)} for name in ("ddd17", "dsec")]
    config = DataConfig.parse({"sources": sources, "holdout": 0.0})
    with pytest.warns(UserWarning, match=r"1 of 2 .* dir1 \(DDD17-Seg\)"):
        samples = built(config)
    assert [item.split()[0] for item in samples.identity] == ["ddd17/dir0", "dsec/zurich_city_00_a"]
    kept = config.model_copy(update={"keep_test_sequences": True})
    assert open_source(kept).overlaps == {"ddd17/dir1": "DDD17-Seg"}
    assert len(built(kept).training) == 6


def test_a_mixture_of_trios_and_recordings_is_refused(tmp_path: Path) -> None:
    """Their samples differ: of one the active patches are stored, of the other the target."""
    write_sequence(tmp_path / "trio" / "a", 2)
    write_recording(tmp_path / "rec" / "r.h5", 0)
    (tmp_path / "stills").mkdir()
    assert cv2.imwrite(str(tmp_path / "stills" / "r.png"), np.zeros((24, 32, 3), np.uint8))
    sources = [
        {"path": str(tmp_path / "trio")},
        {"path": str(tmp_path / "rec"), "images": str(tmp_path / "stills")},
    ]
    with pytest.raises(CollectionError, match=r"expected parts of data\.sources with one kind of target"):
        built(DataConfig.parse({"sources": sources, "holdout": 0.0}))
