"""CIFAR10-DVS, ASL-DVS and UCF101-DVS: which way up they are, their lists, and the copies that others made."""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from fixtures.mat_events import write_mat
from fixtures.truth import draw

from eventfm.data.datasets import asl_dvs, cifar10_dvs
from eventfm.data.datasets.card import Division
from eventfm.data.datasets.checking import check
from eventfm.data.datasets.contract import Dataset, Found, list_digest
from eventfm.data.datasets.layout import Tree
from eventfm.data.datasets.opening import locate, open_dataset
from eventfm.data.datasets.registry import DATASETS
from eventfm.events import Events, Sensor
from eventfm.io import open_recording
from eventfm.io.aedat4_writer import save_aedat4
from eventfm.io.recording import ArrayRecording

pytestmark = pytest.mark.filterwarnings("ignore:.*eventfm datasets check")

AEDAT = "cat/cifar10_cat_7.aedat"
MATS = {"asl-dvs": "k/k_0001.mat", "ucf101-dvs": "YoYo/v_YoYo_g09_c01.mat"}


def rows(name: str, root: Path) -> list[tuple[int, int, int, int]]:
    """Return x, y, t and p of the events of the only sample there is."""
    (entry,) = open_dataset(name, root).entries
    events = entry.recording.events_by_index(0, 10**6)
    return list(zip(*(column.tolist() for column in (events.x, events.y, events.t, events.p)), strict=True))


def found_of(name: str, files: list[str], division: str | None = None) -> tuple[Division, Found]:
    """Return what is found where these files are, of which none is read."""
    dataset: Dataset = DATASETS.get(name)
    chosen = dataset.card.division(division)
    return chosen, dataset.find(Tree(Path("nowhere"), tuple(sorted(files))), chosen)


def test_cifar10_dvs_is_upright_as_its_owners_turn_it(tmp_path: Path) -> None:
    # Address: bits of y 3, bits of x 10, bit 0 set, which is OFF; then y 0, x 127, bit 0 not set.
    words = [(3 << 8 | 10 << 1 | 1, 1000), (0 << 8 | 127 << 1 | 0, 1001)]
    assert [address for address, _ in words] == [0x0315, 0x00FE]
    file = tmp_path / AEDAT
    file.parent.mkdir()
    file.write_bytes(b"#!AER-DAT2.0\r\n" + b"".join(struct.pack(">II", *word) for word in words))
    assert rows("cifar10-dvs", tmp_path) == [(124, 117, 1000, 0), (127, 0, 1001, 1)]


def test_a_plain_reader_of_the_dvs128_exchanges_x_and_y(tmp_path: Path) -> None:
    file = tmp_path / AEDAT
    file.parent.mkdir()
    file.write_bytes(b"#!AER-DAT2.0\r\n" + struct.pack(">II", 0x0315, 1000))
    with pytest.raises(ValueError, match="does not name the chip"):
        open_recording(file)
    plain = open_recording(file, "aedat2_dvs128").events_by_index(0, 1)
    assert [(plain.y[0], plain.x[0], plain.p[0])] == [row[:2] + row[3:] for row in rows("cifar10-dvs", tmp_path)]


def test_asl_dvs_is_turned_upright_and_ucf101_dvs_is_not(tmp_path: Path) -> None:
    held = tuple(np.array(column) for column in ([0, 239, 5], [179, 0, 20], [7, 7, 9], [1, 0, 1]))
    for name, file in MATS.items():
        write_mat(tmp_path / name / file, held)
    assert rows("asl-dvs", tmp_path / "asl-dvs") == [(239, 0, 7, 1), (0, 179, 7, 0), (234, 159, 9, 1)]
    assert rows("ucf101-dvs", tmp_path / "ucf101-dvs") == [(0, 179, 7, 1), (239, 0, 7, 0), (5, 20, 9, 1)]


@pytest.mark.parametrize("suffix", [".mat", ".aedat4"])
def test_copies_of_cifar10_dvs_are_read_as_they_stand(tmp_path: Path, suffix: str) -> None:
    x, y, t, p = draw(0, 50, 128, 128, 1_000_000)
    file = (tmp_path / AEDAT).with_suffix(suffix)
    if suffix == ".mat":
        write_mat(file, (x, y, t, p))
    else:
        file.parent.mkdir()
        save_aedat4(file, ArrayRecording(Events.checked(x, y, t, p, Sensor(128, 128))))
    assert rows("cifar10-dvs", tmp_path) == list(zip(*map(np.ndarray.tolist, (x, y, t, p)), strict=True))
    (tmp_path / AEDAT).write_bytes(b"#!AER-DAT2.0\r\n")
    (double,) = [problem for problem in locate("cifar10-dvs", tmp_path).found.problems if problem.kind == "doubled"]
    assert "cat/007" in double.what


@pytest.mark.parametrize("start", [b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n", b"<!DOCTYPE html>"])
def test_what_is_no_aedat_2_is_not_taken_for_events(tmp_path: Path, start: bytes) -> None:
    file = tmp_path / AEDAT
    file.parent.mkdir()
    file.write_bytes(start + bytes(80))
    with pytest.raises(ValueError, match=r"cifar10_cat_7\.aedat: expected AEDAT 2\.0"):
        rows("cifar10-dvs", tmp_path)


LISTS = {
    ("cifar10-dvs", "eventfm"): cifar10_dvs.split_of("eventfm"),
    ("cifar10-dvs", "tebn"): cifar10_dvs.split_of("tebn"),
    ("asl-dvs", "eventfm"): asl_dvs.split_of(),
}


@pytest.mark.parametrize(("name", "division"), LISTS)
def test_lists_are_the_published_ones(name: str, division: str) -> None:
    splits, card = LISTS[name, division], DATASETS.get(name).card
    published = card.division(division)
    assert Counter(splits.values()) == published.counts
    assert list_digest((split, sample) for sample, split in splits.items()) == published.sha256
    shares = Counter((sample.split("/")[0], split) for sample, split in splits.items())
    assert {kind for kind, _ in shares} == set(card.classes)
    for split, count in published.counts.items():  # each class has the same share
        assert {shares[kind, split] for kind in card.classes} == {count // len(card.classes)}


def test_lists_of_ours_go_by_the_hash_of_a_name() -> None:
    for name, first, last in (("cifar10-dvs", 0, 999), ("asl-dvs", 1, 4200)):
        splits, width = LISTS[name, "eventfm"], len(str(last))
        names = [f"a/{number:0{width}d}" for number in range(first, last + 1)]
        names = [sample.replace("a/", "airplane/") for sample in names] if name == "cifar10-dvs" else names
        order = sorted(names, key=lambda sample: hashlib.sha256(sample.encode()).hexdigest())
        tenth = len(names) // 10
        assert [splits[sample] for sample in order] == (
            ["test"] * 2 * tenth + ["val"] * tenth + ["train"] * (len(names) - 3 * tenth)
        )


def test_the_division_of_tebn_goes_by_number() -> None:
    splits = LISTS["cifar10-dvs", "tebn"]
    assert {sample: splits[sample] for sample in ("dog/000", "dog/099", "dog/100", "dog/999")} == {
        "dog/000": "test", "dog/099": "test", "dog/100": "train", "dog/999": "train",
    }  # fmt: skip


def test_whole_sets_are_complete() -> None:
    kinds = DATASETS.get("cifar10-dvs").card.classes
    for name, files in {
        "cifar10-dvs": [f"{kind}/cifar10_{kind}_{n}.aedat" for kind in kinds for n in range(1000)],
        "asl-dvs": [f"{a}/{a}_{n:04d}.mat" for a in "abcdefghiklmnopqrstuvwxy" for n in range(1, 4201)],
    }.items():
        division, found = found_of(name, [*files, "j/j_0001.mat", "z/z_0001.mat"])
        assert not found.problems
        assert Counter(sample.split for sample in found.samples) == division.counts
        assert list_digest((sample.split, sample.name) for sample in found.samples) == division.sha256


def test_a_number_too_many_is_named_and_in_no_split() -> None:
    _, found = found_of("cifar10-dvs", ["dog/cifar10_dog_1000.aedat"])
    assert [sample.split for sample in found.samples] == [""]
    (problem,) = [problem for problem in found.problems if problem.kind == "unexpected"]
    assert problem.path == "dog/cifar10_<class>_1000.aedat"


def clips() -> list[str]:
    """Return a file of each class and group of UCF101-DVS, two of the last class."""
    kinds = DATASETS.get("ucf101-dvs").card.classes
    files = [f"{kind}/v_{kind}_g{group:02d}_c01.mat" for kind in kinds for group in range(1, 26)]
    return [file.replace("v_HandstandPush", "v_HandStandPush") for file in files] + ["YoYo/v_YoYo_g25_c02.mat"]


@pytest.mark.parametrize(("division", "first", "last"), [("split1", 1, 7), ("split2", 8, 14), ("split3", 15, 21)])
def test_ucf101_divides_by_groups(division: str, first: int, last: int) -> None:
    _, found = found_of("ucf101-dvs", clips(), division)
    assert not found.problems
    tested = {sample.name.split("/")[1][:3] for sample in found.samples if sample.split == "test"}
    trained = {sample.name.split("/")[1][:3] for sample in found.samples if sample.split == "train"}
    assert tested == {f"g{group:02d}" for group in range(first, last + 1)}
    assert tested | trained == {f"g{group:02d}" for group in range(1, 26)}
    assert not tested & trained
    assert Counter(sample.split for sample in found.samples) == {"test": 101 * 7, "train": 101 * 18 + 1}


def test_the_card_of_ucf101_dvs() -> None:
    card = DATASETS.get("ucf101-dvs").card
    assert len(card.classes) == 101
    assert [division.name for division in card.divisions] == ["split1", "split2", "split3"]
    assert [sum(division.counts.values()) for division in card.divisions] == [13_320] * 3
    assert card.classes.index("HammerThrow") + 1 == card.classes.index("Hammering")
    assert card.classes.index("JumpRope") + 1 == card.classes.index("JumpingJack")


def test_other_names_are_no_clips_of_ucf101_dvs() -> None:
    _, found = found_of("ucf101-dvs", ["Brush/v_BrushHair_g01_c01.mat", "YoYo/v_YoYo_g26_c01.mat"])
    assert [(sample.name, sample.split) for sample in found.samples] == [("YoYo/g26_c01", "")]
    (problem,) = [problem for problem in found.problems if problem.kind == "unexpected"]
    assert problem.path == "YoYo/v_<class>_g26_c*.mat"


WRONG = {
    "a key is missing": ({"x": [1, 2], "y": [1, 2], "ts": [1, 2]}, "expected columns x, y, ts, pol"),
    "of unequal lengths": ({"x": [1, 2], "y": [1, 2], "ts": [1, 2, 3], "pol": [0, 1]}, "length"),
    "outside the sensor": ({"x": [1, 240], "y": [1, 2], "ts": [1, 2], "pol": [0, 1]}, "240"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", MATS)
def test_wrong_columns_are_named(name: str, wrong: str, tmp_path: Path) -> None:
    columns, said = WRONG[wrong]
    file = tmp_path / MATS[name]
    file.parent.mkdir()
    scipy.io.savemat(file, {key: np.array(column)[:, None] for key, column in columns.items()})
    (damaged,) = [p for p in check(locate(name, tmp_path), looks=None).problems if p.kind == "damaged"]
    assert damaged.path == MATS[name]
    assert said in damaged.what
    with pytest.raises(ValueError, match=file.name):
        rows(name, tmp_path)
