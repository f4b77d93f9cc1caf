"""DSEC-Flow: the divisions, flow as 16-bit pictures, windows from time to time, pictures that do not fit their list."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures import dsec_flow

from eventfm.data.datasets.checking import check
from eventfm.data.datasets.contract import list_digest
from eventfm.data.datasets.dsec_flow import CARD, SEQUENCES
from eventfm.data.datasets.opening import locate, open_dataset
from eventfm.data.windows import WindowConfig, cut
from eventfm.io import FormatError

pytestmark = pytest.mark.filterwarnings("ignore:.*eventfm datasets check")
SEQUENCE = "zurich_city_02_c"
FORWARD = f"train_optical_flow/{SEQUENCE}/flow/forward"
TIMES = f"train_optical_flow/{SEQUENCE}/flow/forward_timestamps.txt"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    dsec_flow.write(tmp_path)
    return tmp_path


def write_names(root: Path) -> None:
    """Write files of all sequences that have nothing but their names, and a time for the one picture."""
    for sequence in SEQUENCES:
        for file in ("events/left/events.h5", "events/left/rectify_map.h5", "flow/forward/000002.png"):
            path = root / sequence / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        (root / sequence / "flow/forward_timestamps.txt").write_text("1, 2\n")


@pytest.mark.parametrize("division", CARD.divisions, ids=lambda division: division.name)
def test_divisions_are_those_of_the_card(tmp_path: Path, division) -> None:
    write_names(tmp_path)
    report = check(locate("dsec-flow", tmp_path, division.name), looks=0)
    assert report.counts == division.counts
    assert not report.problems
    assert report.sha256 == division.sha256 == list_digest((s.split, s.name) for s in report.samples)
    tested = {sample.name for sample in report.samples if sample.split == "test"}
    expected = {"thun_00_a", "zurich_city_09_a", *(f"zurich_city_11_{part}" for part in "abc")}
    assert tested == ({f"test/{name}" for name in expected} if division.name == "eventfm" else set())


def write_png(path: Path, rows: list[list[tuple[int, int, int]]]) -> None:
    """Write red, green and blue of 16 bits as the PNG specification has them: big-endian, a 0 before each row."""
    body = b"".join(b"\0" + b"".join(struct.pack(">3H", *pixel) for pixel in row) for row in rows)
    head = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(body, 1)), (b"IEND", b"")]
    parts = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def read(root: Path, number: int = 0) -> np.ndarray:
    (entry,) = (e for e in open_dataset("dsec-flow", root).entries if e.split == "train")
    return entry.recording.tracks["flow"].read(number)


def test_red_is_to_the_right_green_is_down_and_blue_says_what_is_known(root: Path) -> None:
    nothing = (32768, 32768, 0)
    rows = [[nothing] * 640 for _ in range(480)]
    rows[7][630] = (32768 + 128, 32768 - 320, 1)
    rows[8][630] = (0, 65535, 1)
    rows[9][630] = (32768, 32768, 1)
    write_png(root / FORWARD / "000004.png", rows)
    flow = read(root, 1)
    assert flow.dtype == np.float32
    assert flow[:, 7, 630].tolist() == [1.0, -2.5]
    assert flow[:, 8, 630].tolist() == [-256.0, 255.9921875]
    assert flow[:, 9, 630].tolist() == [0.0, 0.0]
    assert np.isfinite(flow).sum() == 6
    assert np.isfinite(read(root, 0)).sum() == 2 * 479 * 640


def test_windows_go_from_the_first_to_the_second_time(root: Path) -> None:
    for entry in open_dataset("dsec-flow", root).entries:
        windows = cut(entry.recording, WindowConfig.model_validate(CARD.window))
        starts = [dsec_flow.OFFSET_US + 100_000 * number for number in range(3)]
        assert {(w.start, w.stop, w.entry) for w in windows} <= {
            (start + 1, start + 100_008 - number, number) for number, start in enumerate(starts)
        }
        assert {window.entry for window in windows} >= {1, 2}  # the first events are a little later than the first map


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (np.zeros((480, 640, 3), np.uint8), "expected a picture of shape (480, 640, 3) and 16 bits, got (480, 640, 3)"),
        (np.zeros((480, 640), np.uint16), "16 bits, got (480, 640) of uint16"),
        (np.zeros((440, 640, 3), np.uint16), "16 bits, got (440, 640, 3) of uint16"),
        (np.full((480, 640, 3), 32768, np.uint16), "expected 0 or 1 in the third channel"),
        (None, "000004.png"),
    ],
)
def test_a_picture_that_is_wrong_is_named(root: Path, picture: np.ndarray | None, said: str) -> None:
    file = root / FORWARD / "000004.png"
    if picture is None:
        file.write_bytes(file.read_bytes()[:60])
    else:
        cv2.imwrite(str(file), picture)
    (problem,) = [problem for problem in check(locate("dsec-flow", root)).problems if problem.kind == "label"]
    assert said in problem.what


def test_a_sequence_whose_pictures_do_not_fit_their_list_is_left_out(root: Path) -> None:
    file = root / FORWARD / "000004.png"
    kept = file.read_bytes()
    file.unlink()
    found = locate("dsec-flow", root).found
    (problem,) = [problem for problem in found.problems if SEQUENCE in problem.path]
    assert (problem.kind, problem.path, problem.count) == ("missing", FORWARD, 1)
    assert [sample.name for sample in found.samples] == ["test/thun_00_a"]
    for name in ("000004.png", "000006.png", "000008.png"):
        (root / FORWARD / name).write_bytes(kept)
    (problem,) = [problem for problem in locate("dsec-flow", root).found.problems if SEQUENCE in problem.path]
    assert (problem.kind, problem.path, problem.count) == ("unexpected", FORWARD, 2)


def test_lists_that_are_wrong_are_named(root: Path) -> None:
    (root / TIMES).write_text("1, 2\n3, 4\n5\n")
    (problem,) = [problem for problem in locate("dsec-flow", root).found.problems if problem.kind == "damaged"]
    assert problem.path == TIMES
    assert "expected 2 whole numbers of microseconds on every line" in problem.what
    (root / TIMES).write_text("100, 50\n200, 100\n300, 200\n")
    with pytest.raises(FormatError, match="expected flow to later times; take the list of forward flow"):
        read(root)


def test_a_folder_for_each_archive_of_a_sequence_is_found_too(tmp_path: Path) -> None:
    folder = tmp_path / "data/THUN_00_A"
    files = ("events_left/events.h5", "events_left/rectify_map.h5", "optical_flow_forward_event/000002.png")
    backward = ("optical_flow_backward_event/000004.png", "optical_flow_backward_timestamps.txt")
    for file in (*files, *backward, "events_right/events.h5", "images_rectified_left/000002.png"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(b"")
    (folder / "thun_00_a_optical_flow_forward_timestamps.txt").write_text("# from_us, to_us\n1, 2\n")
    (sample,) = locate("dsec-flow", tmp_path).found.samples
    times = "thun_00_a_optical_flow_forward_timestamps.txt"
    assert sample.files == tuple(f"data/THUN_00_A/{file}" for file in (*files[:2], times, files[2]))
