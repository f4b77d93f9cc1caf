"""DSEC-Semantic: the layouts of others, the split of ESS, masks that are not as they should be."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures import dsec_semantic

from eventfm.data.datasets.checking import check
from eventfm.data.datasets.dsec_semantic import ELEVEN, NINETEEN
from eventfm.data.datasets.opening import locate, open_dataset
from eventfm.visualization.masks import class_colours

pytestmark = pytest.mark.filterwarnings("ignore:.*eventfm datasets check")
SEQUENCE = "zurich_city_02_a"
MASKS = f"train_semantic_segmentation/train/{SEQUENCE}/11classes"
EVENTS = f"train_events/{SEQUENCE}/events/left"
TIMES = f"train_semantic_segmentation/train/{SEQUENCE}/{SEQUENCE}_semantic_timestamps.txt"
LAYOUTS = {
    "ess": (
        f"train/{SEQUENCE}/semantic/left/11classes/data",
        f"train/{SEQUENCE}/semantic/timestamps.txt",
        f"train/{SEQUENCE}/events/left",
    ),
    "eventpretrain": (
        f"{SEQUENCE}/semantic/left/11classes",
        f"{SEQUENCE}/semantic/left/{SEQUENCE}_semantic_timestamps.txt",
        f"{SEQUENCE}/events/left",
    ),
    "archives of single sequences": (
        f"{SEQUENCE}_semantic/{SEQUENCE}/11classes",
        f"{SEQUENCE}_semantic/{SEQUENCE}/{SEQUENCE}_semantic_timestamps.txt",
        f"{SEQUENCE}_events_left",
    ),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    dsec_semantic.write(tmp_path / "official", 11)
    return tmp_path / "official"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_layouts_are_read(root: Path, tmp_path: Path, layout: str) -> None:
    masks, times, events = (tmp_path / "other" / path for path in LAYOUTS[layout])
    shutil.copytree(root / MASKS, masks)
    shutil.copytree(root / EVENTS, events)
    times.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(root / TIMES, times)
    # The times of frames lie in DSEC's own folders, and are not those of masks.
    frames = tmp_path / f"other/train/{SEQUENCE}/images/timestamps.txt"
    frames.parent.mkdir(parents=True, exist_ok=True)
    frames.write_text("1\n2\n")
    (found,) = open_dataset("dsec-semantic-11", tmp_path / "other").entries
    (expected,) = (e for e in open_dataset("dsec-semantic-11", root).entries if e.name == f"train/{SEQUENCE}")
    assert found.name == expected.name
    one, other = found.recording.tracks["semantic"], expected.recording.tracks["semantic"]
    np.testing.assert_array_equal(one.times, other.times)
    np.testing.assert_array_equal(one.read(8), other.read(8))
    count = expected.recording.num_events
    np.testing.assert_array_equal(
        found.recording.events_by_index(0, count).to_structured(),
        expected.recording.events_by_index(0, count).to_structured(),
    )


def test_the_split_of_ess_takes_every_second_mask_from_the_seventh_on(root: Path) -> None:
    (entry,) = open_dataset("dsec-semantic-11", root, division="ess").entries  # the test sequence has four masks only
    track = entry.recording.tracks["semantic"]
    assert ((track.times - dsec_semantic.OFFSET_US) // 50_000).tolist() == [6, 8]
    assert [int(track.read(i)[439, 0]) for i in (0, 1)] == [6, 8]


def test_a_mask_that_is_missing_is_named_and_the_others_keep_their_times(root: Path) -> None:
    (root / MASKS / "000003.png").unlink()
    shutil.copyfile(root / MASKS / "000001.png", root / MASKS / "000012.png")
    problems = locate("dsec-semantic-11", root).found.problems
    paths = {problem.kind: problem.path for problem in problems if MASKS in problem.path}
    assert paths == {"missing": f"{MASKS}/000003.png", "unexpected": f"{MASKS}/000012.png"}
    track = next(e for e in open_dataset("dsec-semantic-11", root).entries if e.split == "train").recording.tracks[
        "semantic"
    ]
    assert ((track.times - dsec_semantic.OFFSET_US) // 50_000).tolist() == [0, 1, 2, 4, 5, 6, 7, 8]
    assert [int(track.read(i)[439, 0]) for i in range(8)] == [0, 1, 2, 4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.zeros((480, 640), np.uint8), "expected 640x440 class numbers, got (480, 640) uint8"),
        (np.zeros((440, 640, 3), np.uint8), "expected 640x440 class numbers, got (440, 640, 3) uint8"),
        (np.full((440, 640), 11, np.uint8), "expected classes from 0 to 10, or 255 where there is none, got 11"),
        (None, "damaged"),
    ],
)
def test_a_mask_that_is_wrong_is_named(root: Path, mask: np.ndarray | None, said: str) -> None:
    file = root / MASKS / "000008.png"
    if mask is None:
        file.write_bytes(file.read_bytes()[:60])
    else:
        cv2.imwrite(str(file), mask)
    labels = [problem for problem in check(locate("dsec-semantic-11", root)).problems if problem.kind == "label"]
    (problem,) = labels
    assert said in problem.what


def test_maps_and_times_that_are_wrong_are_named(root: Path) -> None:
    text = (root / TIMES).read_text()
    (root / TIMES).write_text(text + "soon\n")
    found = locate("dsec-semantic-11", root).found
    (problem,) = [p for p in found.problems if p.kind == "damaged"]
    assert problem.path == TIMES
    assert "expected a whole number of microseconds" in problem.what
    assert [sample.name for sample in found.samples] == ["test/zurich_city_15_a"]
    (root / TIMES).write_text(text)
    shutil.copyfile(root / EVENTS / "events.h5", root / EVENTS / "rectify_map.h5")
    (problem,) = [p for p in check(locate("dsec-semantic-11", root)).problems if p.kind == "damaged"]
    assert "expected a data set rectify_map" in problem.what


def test_classes_have_the_colours_that_pictures_use() -> None:
    np.testing.assert_array_equal(class_colours(ELEVEN.card.classes), ELEVEN.card.colours)
    eleven, nineteen = (dict(zip(d.card.classes, d.card.colours, strict=True)) for d in (ELEVEN, NINETEEN))
    assert {name: nineteen[name] for name in eleven if name in nineteen} == {
        name: colour for name, colour in eleven.items() if name != "background"
    }
