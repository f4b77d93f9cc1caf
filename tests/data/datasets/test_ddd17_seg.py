"""DDD17-Seg: rows without labels, times by the index, what the archives of others hold."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures import ddd17_seg

from eventfm.data.datasets.card import DatasetError
from eventfm.data.datasets.checking import check
from eventfm.data.datasets.contract import list_digest
from eventfm.data.datasets.ddd17_seg import CARD
from eventfm.data.datasets.opening import locate, open_dataset
from eventfm.io import FormatError, open_recording
from eventfm.visualization.masks import class_colours

pytestmark = pytest.mark.filterwarnings("ignore:.*eventfm datasets check")
TRAIN = "ddd17_seg/dir0"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    ddd17_seg.write(tmp_path)
    return tmp_path


def recording(root: Path):
    (entry,) = (e for e in open_dataset("ddd17-seg", root).entries if e.name == "train/dir0")
    return entry.recording


def test_it_is_the_upper_part_of_the_recording_that_the_reader_of_ess_has(root: Path) -> None:
    found, whole = recording(root), open_recording(root / TRAIN, format="ess")
    expected = whole.events_by_index(0, whole.num_events).to_structured()
    kept = found.events_by_index(0, found.num_events)
    assert 0 < len(kept) < len(expected)
    np.testing.assert_array_equal(kept.to_structured(), expected[expected["y"] < 200])
    assert (found.sensor.width, found.sensor.height) == (346, 200)
    one, other = found.tracks["semantic"], whole.tracks["semantic"]
    np.testing.assert_array_equal(one.times, other.times)
    for number in range(len(one.times)):
        np.testing.assert_array_equal(one.read(number), other.read(number)[:200])
    assert one.classes == other.classes == CARD.classes


def test_mask_n_is_of_frame_n(root: Path) -> None:
    times = recording(root).tracks["semantic"].times
    assert (times - ddd17_seg.START_US).tolist() == [50_000, 100_000, 200_000, 350_000]


def test_any_index_will_do_and_one_that_is_too_short_is_refused(root: Path) -> None:
    expected = recording(root).tracks["semantic"].times
    folder = root / TRAIN / "index"
    (folder / "index_50ms.npy").rename(folder / "index_250ms.npy")
    np.testing.assert_array_equal(recording(root).tracks["semantic"].times, expected)
    np.save(folder / "index_250ms.npy", np.load(folder / "index_250ms.npy")[:7])
    with pytest.raises(FormatError, match="expected times of pictures 2 to 8, got 1 to 7"):
        _ = recording(root).tracks
    np.save(folder / "index_250ms.npy", np.zeros((9, 3)))
    with pytest.raises(FormatError, match="expected rows of whole numbers"):
        _ = recording(root).tracks


def test_events_that_do_not_fit_each_other_are_refused(root: Path) -> None:
    file = root / TRAIN / "events.dat.xyp"
    file.write_bytes(file.read_bytes()[:-6])
    (problem,) = [problem for problem in check(locate("ddd17-seg", root)).problems if problem.kind == "damaged"]
    assert "got (3000, 1) and (2999, 3); is one cut off?" in problem.what


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.zeros((260, 346), np.uint8), "346 pixels wide and at most 200 high, got uint8 of 346x260"),
        (np.zeros((200, 352), np.uint8), "got uint8 of 352x200"),
        (np.full((200, 346), 6, np.uint8), "expected classes from 0 to 5, or 255 where there is none, got 6"),
    ],
)
def test_a_mask_that_is_wrong_is_named(root: Path, mask: np.ndarray, said: str) -> None:
    cv2.imwrite(str(root / TRAIN / "segmentation_masks/segmentation_00000008.png"), mask)
    (problem,) = [problem for problem in check(locate("ddd17-seg", root)).problems if problem.kind == "label"]
    assert said in problem.what


def test_masks_that_are_still_packed_are_named(root: Path) -> None:
    shutil.rmtree(root / TRAIN / "segmentation_masks")
    (root / TRAIN / "segmentation_masks.zip").write_bytes(b"PK")
    (problem,) = [p for p in locate("ddd17-seg", root).found.problems if p.path.startswith("dir0")]
    assert problem.path == "dir0/segmentation_masks"
    assert problem.what == f"{TRAIN}/segmentation_masks.zip is still packed"
    assert "unpack it, and segmentation_masks.zip" in problem.remedy


def test_the_folder_with_one_mask_is_in_no_split(root: Path) -> None:
    shutil.copytree(root / TRAIN, root / "ddd17_seg/dir5")
    assert [entry.name for entry in open_dataset("ddd17-seg", root).entries] == ["test/dir1", "train/dir0"]


def test_the_archive_of_ev_segnet_is_told_apart(tmp_path: Path) -> None:
    for kind, suffix in (("images", "png"), ("labels", "png"), ("events", "npy")):
        (tmp_path / kind / "test").mkdir(parents=True)
        (tmp_path / kind / f"test/rec1487417411_export_3772.{suffix}").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"Ev-SegNet's own archive.*ddd17_seg\.tar\.gz"):
        open_dataset("ddd17-seg", tmp_path)


def test_the_list_and_the_colours_of_the_card() -> None:
    (division,) = CARD.divisions
    names = [("train", f"train/dir{number}") for number in (0, 3, 4, 6, 7)]
    assert list_digest([*names, ("test", "test/dir1")]) == division.sha256
    np.testing.assert_array_equal(class_colours(CARD.classes), CARD.colours)
