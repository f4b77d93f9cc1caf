"""DSEC disparity: the divisions, depth by the calibration, calibrations and pictures that are not as they should be."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures import dsec_disparity

from eventfm.data.alignment import CalibrationError
from eventfm.data.datasets.checking import check
from eventfm.data.datasets.contract import list_digest
from eventfm.data.datasets.dsec_disparity import CARD, SEQUENCES
from eventfm.data.datasets.opening import locate, open_dataset

pytestmark = pytest.mark.filterwarnings("ignore:.*eventfm datasets check")
SEQUENCE = "interlaken_00_c"
PICTURES = f"train_disparity/{SEQUENCE}/disparity/event"
CALIBRATION = f"train_calibration/{SEQUENCE}/calibration/cam_to_cam.yaml"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    dsec_disparity.write(tmp_path)
    return tmp_path


def read(root: Path, number: int = 0) -> np.ndarray:
    (entry,) = (e for e in open_dataset("dsec-disparity", root).entries if e.split == "train")
    return entry.recording.tracks["depth"].read(number)


def write_names(root: Path) -> None:
    """Write files of all sequences that have nothing but their names, and a time for the one picture."""
    empty = ("events.h5", "rectify_map.h5")
    for sequence in SEQUENCES:
        files = [*(f"{sequence}_events_left/{file}" for file in empty), f"{sequence}_disparity_event/000000.png"]
        for file in (*files, f"{sequence}_calibration/cam_to_cam.yaml"):
            path = root / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        (root / f"{sequence}_disparity_timestamps.txt").write_text("1\n")


@pytest.mark.parametrize("division", CARD.divisions, ids=lambda division: division.name)
def test_divisions_are_those_of_the_card(tmp_path: Path, division) -> None:
    write_names(tmp_path)
    report = check(locate("dsec-disparity", tmp_path, division.name), looks=0)
    assert report.counts == division.counts
    assert not report.problems
    assert report.sha256 == division.sha256 == list_digest((s.split, s.name) for s in report.samples)


@pytest.mark.parametrize(
    ("q32", "q33", "steps", "depth"),
    [
        (1 / 0.6, 0.0, 256, 300.0),  # one pixel: 500 pixels of focal length times 0.6 m
        (1 / 0.6, 0.0, 7680, 10.0),  # 30 pixels
        (2.0, 1.0, 3072, 20.0),  # 12 pixels: 500 / (2 * 12 + 1)
        (2.0, -25.0, 3072, np.nan),  # 500 / (2 * 12 - 25) lies behind the camera
        (2.0, -24.0, 3072, np.nan),  # infinitely far away
        (2.0, 1.0, 0, np.nan),  # not known, though the formula gives 500 m
    ],
)
def test_depth_by_hand(root: Path, q32: float, q33: float, steps: int, depth: float) -> None:
    rows = [[1, 0, 0, -320], [0, 1, 0, -240], [0, 0, 0, 500.0], [0, 0, q32, q33]]
    (root / CALIBRATION).write_text(f"disparity_to_depth: {{cams_03: {rows}}}\n")
    picture = np.zeros((480, 640), np.uint16)
    picture[17, 600] = steps
    cv2.imwrite(str(root / PICTURES / "000002.png"), picture)
    found = read(root, 1)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[17, 600], depth, rtol=1e-6)
    assert np.isfinite(found).sum() == np.isfinite(depth)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("disparity_to_depth: {cams_12: 1}", "expected disparity_to_depth/cams_03"),
        ("just words", "expected disparity_to_depth/cams_03"),
        ("", "expected disparity_to_depth/cams_03"),
        ("a: [1, 2", "got no YAML"),
        ("disparity_to_depth: {cams_03: [[1, 2], [3]]}", "as 4 x 4 numbers"),
        ("disparity_to_depth: {cams_03: [[1, 2, 3, 4], [1, 2, 3, 4], [0, 0, 0, 0], [0, 0, 1, 0]]}", "a focal length"),
    ],
)
def test_a_calibration_that_is_wrong_is_named(root: Path, text: str, said: str) -> None:
    (root / CALIBRATION).write_text(text)
    with pytest.raises(CalibrationError, match=said):
        read(root)
    (problem,) = [p for p in check(locate("dsec-disparity", root)).problems if p.kind == "damaged"]
    assert said in problem.what


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (np.zeros((480, 640), np.uint8), "expected a picture of shape (480, 640) and 16 bits, got (480, 640) of uint8"),
        (np.zeros((1080, 1440), np.uint16), "got (1080, 1440) of uint16"),
        (None, "000004.png"),
    ],
)
def test_a_picture_that_is_wrong_is_named(root: Path, picture: np.ndarray | None, said: str) -> None:
    file = root / PICTURES / "000004.png"
    if picture is None:
        file.write_bytes(file.read_bytes()[:60])
    else:
        cv2.imwrite(str(file), picture)
    (problem,) = [problem for problem in check(locate("dsec-disparity", root)).problems if problem.kind == "label"]
    assert said in problem.what
