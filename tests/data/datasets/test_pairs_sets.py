"""Sets of pairs for pretraining: what is learnt from, and frames where the events are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures.pairs_sets import FRAMES_US, WRITERS, write_ddd_file

from eventfm.data.build import DataConfig, open_source
from eventfm.data.datasets.checking import check
from eventfm.data.datasets.contract import list_digest
from eventfm.data.datasets.dsec_pairs import SEQUENCES
from eventfm.data.datasets.ecd_pairs import SEQUENCES as ECD
from eventfm.data.datasets.framed import by_benchmarks
from eventfm.data.datasets.mvsec_pairs import SEQUENCES as MVSEC
from eventfm.data.datasets.opening import locate, open_dataset
from eventfm.data.datasets.registry import DATASETS
from eventfm.data.test_sequences import TEST_SEQUENCES
from eventfm.data.windows import WindowConfig, cut, read
from eventfm.representations import EventVolume

pytestmark = pytest.mark.filterwarnings("ignore:.*eventfm datasets check")
TESTED = ("mvsec-pairs", "dsec-pairs", "ddd17-pairs", "ddd20-pairs")


@pytest.mark.parametrize("name", TESTED)
def test_tested_sequences_are_the_test_split_and_left_out_of_pretraining(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    splits = {entry.name: entry.split for entry in open_dataset(name, tmp_path).entries}
    assert sorted(splits.values()) == ["test", "train"]
    with pytest.warns(UserWarning, match="1 of 2 recordings or sequences are test sequences"):
        source = open_source(DataConfig.parse({"path": str(tmp_path), "dataset": name}))
    assert source.collection is not None
    assert [entry.split for entry in source.collection.entries] == ["train"]


def test_all_of_dsec_is_known() -> None:
    assert len(SEQUENCES) == len(set(SEQUENCES)) == 53
    counts = DATASETS.get("dsec-pairs").card.divisions[0].counts
    assert counts == {"train": 41, "test": len(TEST_SEQUENCES["DSEC test split"])}


@pytest.mark.parametrize(("name", "sequences"), [("dsec-pairs", SEQUENCES), ("mvsec-pairs", MVSEC), ("ecd-pairs", ECD)])
def test_lists_are_those_of_the_cards(name: str, sequences: tuple[str, ...]) -> None:
    (division,) = DATASETS.get(name).card.divisions
    splits = {sequence: by_benchmarks(sequence) for sequence in sequences}
    assert Counter(splits.values()) == division.counts
    assert list_digest((split, f"{split}/{sequence}") for sequence, split in splits.items()) == division.sha256


def test_archives_of_single_sequences_of_dsec(tmp_path: Path) -> None:
    WRITERS["dsec-pairs"](tmp_path / "whole")
    folder, apart = tmp_path / "whole/zurich_city_00_a", tmp_path / "apart"
    moves = {
        "events/left": "zurich_city_00_a_events_left",
        "images/left/rectified": "zurich_city_00_a_images_rectified_left",
        "images/left/exposure_timestamps.txt": "zurich_city_00_a_image_exposure_timestamps_left.txt",
        "calibration": "zurich_city_00_a_calibration",
    }
    apart.mkdir()
    for old, new in moves.items():
        (folder / old).rename(apart / new)
    (entry,) = open_dataset("dsec-pairs", apart).entries
    frames = entry.recording.tracks["frames"]
    assert frames.times.tolist() == [7_000_000 + time for time in FRAMES_US]
    assert frames.read(2)[240, 320].tolist() == [82, 82, 82]


def test_frames_of_dsec_that_were_warped_already_need_no_calibration(tmp_path: Path) -> None:
    WRITERS["dsec-pairs"](tmp_path)
    folder = tmp_path / "zurich_city_00_a"
    (folder / "calibration/cam_to_cam.yaml").unlink()
    (folder / "images/left/distorted").mkdir()
    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    for number in range(3):
        cv2.imwrite(str(folder / f"images/left/distorted/{number:06d}.png"), picture)
    entry = next(e for e in open_dataset("dsec-pairs", tmp_path).entries if e.split == "train")
    np.testing.assert_array_equal(entry.recording.tracks["frames"].read(1), picture[..., ::-1])


def test_a_sequence_as_text_and_as_a_bag_is_one(tmp_path: Path) -> None:
    WRITERS["ecd-pairs"](tmp_path)
    (tmp_path / "text/slider_far").rename(tmp_path / "text/poster_6dof")
    found = locate("ecd-pairs", tmp_path).found
    assert [sample.files for sample in found.samples] == [("poster_6dof.bag",)]
    assert [p.path for p in found.problems if p.kind == "doubled"] == ["text/poster_6dof/events.txt"]


def test_a_real_sequence_of_the_event_camera_dataset(real_data: Path, tmp_path: Path) -> None:
    (tmp_path / "slider_depth").symlink_to(real_data / "pairs/slider_depth")
    (entry,) = open_dataset("ecd-pairs", tmp_path).entries
    recording = entry.recording
    with pytest.warns(UserWarning, match="79 of 87 pictures are missing"):
        assert recording.num_events == 50_000
    assert len(recording.tracks["frames"]) == 8
    assert (entry.name, entry.split) == ("train/slider_depth", "train")
    windows = cut(recording, WindowConfig(by="frames"))
    counts = [len(read(recording, window)) for window in windows]
    assert len(counts) == 4  # the events end after the fifth frame
    assert min(counts) > 5000
    grid = EventVolume()(read(recording, windows[1]))
    assert grid.any()
    assert recording.tracks["frames"].read(0).shape == (180, 240)


def test_recordings_without_frames_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fixtures.pairs_sets.FRAMES_US", (40_000,))
    write_ddd_file(tmp_path / "rec1487350455.hdf5", 0)
    report = check(locate("ddd17-pairs", tmp_path))
    assert [(p.kind, p.path) for p in report.problems] == [("damaged", "rec1487350455.hdf5")]
    assert "expected frames beside the events, got 1" in report.problems[0].what
