"""N-ImageNet and ES-ImageNet: variants as divisions, what is counted as missing, where pictures are placed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fixtures import esimagenet, nimagenet
from fixtures.truth import draw

from eventfm.data.datasets.imagenet_classes import WNIDS
from eventfm.data.datasets.opening import locate, open_dataset
from eventfm.data.datasets.registry import DATASETS
from eventfm.io import FormatError

pytestmark = pytest.mark.filterwarnings("ignore:.*eventfm datasets check")


def test_the_classes_are_those_of_imagenet() -> None:
    assert len(set(WNIDS)) == 1000
    assert list(WNIDS) == sorted(WNIDS)
    known = {0: "n01440764", 1: "n01443537", 207: "n02099601", 281: "n02123045", 999: "n15075141"}
    assert {number: WNIDS[number] for number in known} == known


@pytest.mark.parametrize("folder", ["extracted_val_mode_3", "val_mode_3", "extracted_mode_3", "Extracted_Val_Mode_3"])
def test_a_variant_is_tested_on_and_the_training_part_stays(folder: str, tmp_path: Path) -> None:
    nimagenet.write(tmp_path)
    events = draw(50, 200, 640, 480, 60_000)
    file = f"N_Imagenet_cam/{folder}/n01440764/ILSVRC2012_val_00000293.npz"
    nimagenet.write_structured(tmp_path / file, events)
    found = open_dataset("n-imagenet", tmp_path, division="mode-3")
    assert {entry.name: entry.split for entry in found.entries} == {
        "mode-3/n01440764/ILSVRC2012_val_00000293": "test",
        "train/n01440764/n01440764_10026": "train",
        "train/n01440764/n01440764_9": "train",
        "train/n15075141/n15075141_999": "train",
    }
    np.testing.assert_array_equal(found.entries[0].recording.events_by_index(0, 200).t, events[2])
    official = open_dataset("n-imagenet", tmp_path)
    assert "mode-3/n01440764/ILSVRC2012_val_00000293" not in {entry.name for entry in official.entries}


@pytest.mark.parametrize("folder", ["val_mode_brightness_7", "extracted_val_brightness_7"])
def test_brightness_has_two_names(folder: str, tmp_path: Path) -> None:
    file = f"{folder}/n01440764/ILSVRC2012_val_00000293.npz"
    nimagenet.write_structured(tmp_path / file, draw(0, 20, 640, 480, 60_000))
    (entry,) = open_dataset("n-imagenet", tmp_path, division="brightness-7").entries
    assert entry.name == "brightness-7/n01440764/ILSVRC2012_val_00000293"


def test_a_variant_alone_says_what_else_there_is_to_download(tmp_path: Path) -> None:
    events = draw(0, 20, 640, 480, 60_000)
    for number in range(50):
        nimagenet.write_structured(tmp_path / f"val_mode_1/n01440764/ILSVRC2012_val_{number:08d}.npz", events)
    found = locate("n-imagenet", tmp_path, "mode-1").found
    assert len(found.samples) == 50
    by_path = {problem.path: problem for problem in found.problems}
    assert by_path["extracted_train"].count == 1_281_167
    assert "N_ImageNet.7z" in by_path["extracted_train"].remedy
    assert "extracted_val_mode_1/n01440764" not in by_path
    assert by_path["extracted_val_mode_1/n01443537"].count == 50
    assert len(found.problems) == 1000


def test_all_variants_are_divisions() -> None:
    names = [division.name for division in DATASETS.get("n-imagenet").card.divisions]
    assert names[0] == "official"
    assert sorted(names[1:]) == [*(f"brightness-{n}" for n in range(4, 8)), *(f"mode-{n}" for n in (1, 3, 5, 6, 7))]


def test_an_unknown_class_is_named(tmp_path: Path) -> None:
    nimagenet.write(tmp_path)
    nimagenet.write_structured(tmp_path / "extracted_train/n00000001/a.npz", draw(0, 20, 640, 480, 60_000))
    problems = [p for p in locate("n-imagenet", tmp_path).found.problems if p.kind == "unexpected"]
    assert [(p.path, p.count) for p in problems] == [("extracted_train/n00000001", 1)]


def es_sample(folder: Path, rows: list[tuple[int, int, int]], line: str) -> None:
    table = np.array(rows, np.uint8)
    (folder / "train").mkdir()
    np.savez(folder / "train/n01440764_1.npz", pos=table, neg=np.empty((0, 3), np.uint8))
    (folder / "trainlabel.txt").write_text(line)


@pytest.mark.parametrize(
    ("size", "corner"),
    [
        ("254 254", (-16, -16)),  # the corner of the picture, in x and y of the 224x224 pixels
        ("190 254", (-16, 16)),
        ("254 169", (26, -16)),
        ("169 254", (-16, 26)),
    ],
)
def test_pictures_stand_in_the_middle(size: str, corner: tuple[int, int], tmp_path: Path) -> None:
    right, down = corner
    es_sample(tmp_path, [(20, 30, 1), (160, 40, 8), (0, 0, 3)], f"n01440764_1.npz 7 {size}\n")
    (entry,) = open_dataset("es-imagenet", tmp_path).entries
    assert entry.label == 7
    events = entry.recording.events_by_index(0, 9)
    expected = [(1, 30 + right, 20 + down), (3, right, down), (8, 40 + right, 160 + down)]
    inside = [(t, x, y) for t, x, y in expected if 0 <= x < 224 and 0 <= y < 224]
    assert list(zip(events.t.tolist(), events.x.tolist(), events.y.tolist(), strict=True)) == inside
    assert (len(inside) == 3) == (min(corner) >= 0)


def test_lists_that_do_not_fit_the_files(tmp_path: Path) -> None:
    esimagenet.write(tmp_path)
    folder = tmp_path / "ES-imagenet-0.18"
    (folder / "train/n02123045_7.npz").write_bytes((folder / "train/n15075141_999.npz").read_bytes())
    with (folder / "trainlabel.txt").open("a") as file:
        file.write("n01440764_5.npz 1000 190 254\nn01440764_6.npz 3 190\n\n")
    problems = locate("es-imagenet", tmp_path).found.problems
    said = {(problem.kind, problem.path): problem.what for problem in problems}
    assert "1 samples have no line in trainlabel.txt, e.g. n02123045_7" in said["unexpected", "train"]
    of_list = [problem.what for problem in problems if problem.kind == "list"]
    assert [what.partition(":")[0] for what in of_list] == ["line 4", "line 5"]
    (folder / "vallabel.txt").unlink()
    found = locate("es-imagenet", tmp_path).found
    assert {sample.split for sample in found.samples} == {"train"}
    missing = next(problem for problem in found.problems if problem.path == "vallabel.txt")
    assert missing.count == 2


def test_many_that_are_missing_are_summed_up(tmp_path: Path) -> None:
    es_sample(tmp_path, [(20, 30, 1)], "".join(f"n01440764_{n}.npz 7 254 254\n" for n in range(1, 5000)))
    problems = [p for p in locate("es-imagenet", tmp_path).found.problems if p.path.startswith("train")]
    assert sum(problem.count for problem in problems) == 4998
    assert len(problems) == 21


def test_other_arrays_are_refused(tmp_path: Path) -> None:
    es_sample(tmp_path, [(20, 30, 1)], "n01440764_1.npz 7 254 254\n")
    np.savez(tmp_path / "train/n01440764_1.npz", frames=np.zeros((8, 2, 4, 4)))
    (entry,) = open_dataset("es-imagenet", tmp_path).entries
    with pytest.raises(FormatError, match=r"n01440764_1.npz: expected whole numbers \(n, 3\) as neg, got nothing"):
        _ = entry.recording.num_events
