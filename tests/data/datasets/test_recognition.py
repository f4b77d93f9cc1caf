"""Recognition sets: their lists, the copies that others made, and real files."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from fixtures import dvs128_gesture
from fixtures.truth import draw

from eventfm.data.datasets.checking import check
from eventfm.data.datasets.contract import Found, list_digest
from eventfm.data.datasets.dvs128_gesture import TRIALS
from eventfm.data.datasets.layout import Tree
from eventfm.data.datasets.ncaltech101 import COUNTS, DATASET, split_of
from eventfm.data.datasets.ncars import DATASET as NCARS
from eventfm.data.datasets.nmnist import DATASET as NMNIST
from eventfm.data.datasets.opening import Located, locate, open_dataset
from eventfm.io import open_recording

pytestmark = pytest.mark.filterwarnings("ignore:.*eventfm datasets check")


def test_a_digest_is_that_of_a_sorted_list() -> None:
    expected = hashlib.sha256(b"test a\ntrain b\ntrain c\n").hexdigest()
    assert list_digest([("train", "c"), ("test", "a"), ("train", "b")]) == expected


def test_the_list_of_n_caltech101_is_the_published_one() -> None:
    assert sum(COUNTS.values()) == 8709
    division = DATASET.card.division("eventfm")
    splits = split_of()
    assert Counter(splits.values()) == division.counts
    assert list_digest((split, name) for name, split in splits.items()) == division.sha256
    assert {name.split("/")[0] for name, split in splits.items() if split == "val"} == set(COUNTS)


def cars() -> list[str]:
    """Return the names of all files of N-Cars."""
    counts = {"train/cars": 7940, "train/background": 7482, "test/cars": 4396, "test/background": 4211}
    return [f"n-cars_{kind}/obj_{number:06d}_td.dat" for kind, count in counts.items() for number in range(count)]


def located(root: Path, files: list[str]) -> Located:
    """Return what is found of N-Cars where these files are, of which none is read."""
    tree, division = Tree(root, tuple(sorted(files))), NCARS.card.division()
    return Located(NCARS, division, tree, NCARS.find(tree, division))


def test_a_whole_list_is_said_to_be_as_published(tmp_path: Path) -> None:
    report = check(located(tmp_path, [file.upper() for file in cars()]), looks=0)
    assert report.complete
    assert report.counts == report.division.counts
    assert "list: as published" in "\n".join(report.lines())
    assert report.sha256 == list_digest((s.split, s.name) for s in report.samples)


def test_a_list_with_gaps_is_said_to_be_another(tmp_path: Path) -> None:
    files = [file for file in cars() if "test" not in file and "000123" not in file]
    report = check(located(tmp_path, [*files, "n-cars_train/cars/obj_007940_td.dat"]), looks=0)
    assert [(problem.kind, problem.path) for problem in report.problems] == [
        ("missing", "n-cars_train/cars/obj_000123_td.dat"),
        ("missing", "n-cars_train/background/obj_000123_td.dat"),
        ("missing", "n-cars_test/cars"),
        ("missing", "n-cars_test/background"),
        ("unexpected", "n-cars_train/cars/obj_007940_td.dat"),
    ]
    assert "list: not the published one" in "\n".join(report.lines())
    assert not report.complete


def test_long_lists_of_problems_are_cut_short(tmp_path: Path) -> None:
    report = check(located(tmp_path, cars()[::2]), looks=5)
    lines = report.lines()
    assert sum(problem.kind == "missing" for problem in report.problems) == len(cars()) // 2
    assert len(lines) < 60
    assert f"  ... and {len(cars()) // 2 - 20:,} more" in lines
    damaged = [problem for problem in report.problems if problem.kind == "damaged"]
    assert len(damaged) == 5  # none of the files is there
    assert "no file or folder at" in damaged[0].what


def test_a_file_too_many_or_a_label_that_cannot_be_is_not_complete(tmp_path: Path) -> None:
    whole = located(tmp_path, [*cars(), "n-cars_train/cars/obj_007940_td.dat"])
    report = check(whole, looks=0)
    assert [problem.kind for problem in report.problems] == ["unexpected"]
    assert not report.complete
    first, *rest = located(tmp_path, cars()).found.samples
    wrong = whole._replace(found=Found((first._replace(label=2), *rest), ()))
    (problem,) = check(wrong, looks=0).problems
    assert (problem.kind, problem.path, problem.what) == ("label", first.name, "label 2 of 2 classes")


def test_a_gesture_without_events_is_named(tmp_path: Path) -> None:
    dvs128_gesture.write(tmp_path)
    with (tmp_path / "DvsGesture/user02_led_labels.csv").open("a") as file:
        file.write("3,200000,300000\n")
    (problem,) = [p for p in check(locate("dvs128-gesture", tmp_path)).problems if p.kind == "damaged"]
    assert problem.what == "train/user02_led/04 has no events"
    empty = open_dataset("dvs128-gesture", tmp_path).entries[-1].recording
    assert (empty.num_events, empty.t_range) == (0, (0, -1))
    assert not len(empty.events(0, 400_000))
    assert not len(empty.events_by_index(0, 5))


def test_all_numbers_of_n_mnist_are_all_there_is(tmp_path: Path) -> None:
    counts = {"Train": 60_000, "Test": 10_000}
    files = [f"{split}/{n % 10}/{n:05d}.bin" for split, count in counts.items() for n in range(1, count + 1)]
    division = NMNIST.card.division()
    found = NMNIST.find(Tree(tmp_path, tuple(files)), division)
    assert not found.problems
    assert Counter(sample.split for sample in found.samples) == division.counts


def test_a_number_of_n_mnist_in_two_folders_is_named(tmp_path: Path) -> None:
    for digit in (3, 8):
        (tmp_path / f"train/{digit}").mkdir(parents=True)
        (tmp_path / f"train/{digit}/00007.bin").touch()
    problems = locate("n-mnist", tmp_path).found.problems
    (doubled,) = [problem for problem in problems if problem.kind == "doubled"]
    assert doubled.path == "train/8/00007.bin"
    assert "number 00007 of train" in doubled.what


def test_the_copy_of_est_is_read(tmp_path: Path) -> None:
    x, y, t, p = draw(0, 200, 200, 150, 300_000)
    for folder, kind in (("training", "accordion"), ("validation", "ant"), ("testing", "yin_yang")):
        file = tmp_path / "N-Caltech101" / folder / kind / f"{kind}_7.npy"
        file.parent.mkdir(parents=True)
        np.save(file, np.stack([x, y, t / 1e6, 2.0 * p - 1], axis=1))
    found = open_dataset("n-caltech101", tmp_path, division="est")
    assert [(e.name, e.split, found.classes[e.label or 0]) for e in found.entries] == [
        ("test/yin_yang/yin_yang_7", "test", "yin_yang"),
        ("train/accordion/accordion_7", "train", "accordion"),
        ("val/ant/ant_7", "val", "ant"),
    ]
    events = found.entries[1].recording.events_by_index(0, 200)
    for column, expected in zip((events.x, events.y, events.t, events.p), (x, y, t, p), strict=True):
        np.testing.assert_array_equal(column, expected)
    problems = locate("n-caltech101", tmp_path, "est").found.problems
    assert len(problems) == 3 * 101 - 3
    assert problems[0].path == "training/BACKGROUND_Google"


def test_the_lists_of_gestures(tmp_path: Path) -> None:
    assert Counter(TRIALS.values()) == {"train": 98, "test": 24}
    truth = dvs128_gesture.write(tmp_path)
    folder = tmp_path / "DvsGesture"
    (folder / "trials_to_test.txt").unlink()
    words = (folder / "trials_to_train.txt").read_text().split()
    (folder / "trials_to_train.txt").write_text("\n".join(words[1:]))
    found = locate("dvs128-gesture", tmp_path).found
    assert {sample.name for sample in found.samples} == set(truth.samples)
    named = {problem.kind: problem for problem in found.problems if "trials_to" in problem.path}
    assert named["missing"].path == "trials_to_test.txt"
    assert "in 1 recordings, e.g. user01_fluorescent" in named["list"].what


@pytest.mark.parametrize(
    ("row", "said"),
    [("12,5,9", "line 2"), ("1,9,5", "line 2"), ("1,5", "line 2"), ("a,5,9", "line 2"), ("", "found none")],
)
def test_a_damaged_table_of_gestures_is_named(tmp_path: Path, row: str, said: str) -> None:
    dvs128_gesture.write(tmp_path)
    (tmp_path / "DvsGesture/user02_led_labels.csv").write_text(f"class,startTime_usec,endTime_usec\n{row}\n")
    found = locate("dvs128-gesture", tmp_path).found
    (damaged,) = [problem for problem in found.problems if problem.kind == "damaged"]
    assert damaged.path == "DvsGesture/user02_led_labels.csv"
    assert said in damaged.what
    assert {sample.name.split("/")[1] for sample in found.samples} == {"user24_fluorescent_led"}


def test_rows_of_gestures_in_any_order_are_numbered_by_time(tmp_path: Path) -> None:
    truth = dvs128_gesture.write(tmp_path)
    file = tmp_path / "DvsGesture/user02_led_labels.csv"
    head, *rows = file.read_text().splitlines()
    file.write_text("\n".join([head, *rows[::-1], ""]))
    found = {entry.name: entry for entry in open_dataset("dvs128-gesture", tmp_path).entries}
    for name, sample in truth.samples.items():
        assert found[name].label == sample.label
        assert found[name].recording.num_events == len(sample.events[0])


def test_real_n_mnist(real_data: Path, tmp_path: Path) -> None:
    labels = [line.split(",") for line in (real_data / "labelled/nmnist/labels.csv").read_text().splitlines()[1:41]]
    for name, label, split, _ in labels:
        file = tmp_path / split.capitalize() / label / f"{int(Path(name).stem):05d}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.symlink_to(real_data / "labelled/nmnist" / name)
    report = check(locate("n-mnist", tmp_path), looks=None)
    assert not [problem for problem in report.problems if problem.kind != "missing"]
    assert report.num_looked_at == 40
    for entry in open_dataset("n-mnist", tmp_path).entries:
        assert entry.recording.events_by_index(0, 10**6).x.max() < 34
        assert 250_000 < entry.recording.t_range[1] < 350_000


def test_real_n_caltech101_and_n_cars(real_data: Path, tmp_path: Path) -> None:
    files = {"Helicopter": "helicopter", "car": "car_side", "chair": "chair", "umbrella": "umbrella"}
    for name, kind in {**files, "faces_easy_0001": "Faces_easy"}.items():
        (tmp_path / "Caltech101" / kind).mkdir(parents=True)
        (tmp_path / f"Caltech101/{kind}/image_0001.bin").symlink_to(real_data / f"labelled/ncaltech101/{name}.bin")
    found = open_dataset("n-caltech101", tmp_path)
    assert {e.name: e.recording.num_events for e in found.entries} == {
        "Faces_easy/0001": 67_445,
        "car_side/0001": 113_549,
        "chair/0001": 82_318,
        "helicopter/0001": 95_827,
        "umbrella/0001": 58_862,
    }
    for number, name in enumerate(("ncars.dat", "ncars_2.dat")):
        file = tmp_path / f"cars/n-cars_train/cars/obj_{number:06d}_td.dat"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.symlink_to(real_data / "formats" / name)
    report = check(locate("n-cars", tmp_path / "cars"), looks=None)
    assert not [problem for problem in report.problems if problem.kind != "missing"]
    assert report.num_events == 4407 + 2009
    first = open_dataset("n-cars", tmp_path / "cars").entries[0].recording
    plain = open_recording(real_data / "formats/ncars.dat")
    np.testing.assert_array_equal(first.events_by_index(0, 10**6).y, plain.events_by_index(0, 10**6).y)
