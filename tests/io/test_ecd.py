"""Folders of the Event Camera Dataset."""

import cv2
import numpy as np
import pytest

from eventfm.events import Sensor
from eventfm.io import FormatError, open_recording


@pytest.fixture
def folder(tmp_path, make_events):
    events = make_events()
    root = tmp_path / "scene"
    (root / "images").mkdir(parents=True)
    columns = zip(events.t.tolist(), events.x.tolist(), events.y.tolist(), events.p.tolist(), strict=True)
    (root / "events.txt").write_text("".join(f"{t / 1e6:.9f} {x} {y} {p}\n" for t, x, y, p in columns))
    (root / "calib.txt").write_text("1 2 3\n")
    (root / "images.txt").write_text("".join(f"{0.01 * i:.9f} images/{i}.png\n" for i in range(5)))
    for i in (0, 1, 3):
        cv2.imwrite(str(root / f"images/{i}.png"), np.full((32, 44), 10 * i, np.uint8))
    return root, events


def test_events_frames_and_size(folder, assert_contract):
    root, events = folder
    with pytest.warns(UserWarning, match="2 of 5 pictures are missing") as record:
        recording = open_recording(root)
    assert len(record) == 1
    assert recording.format == "ecd"
    assert recording.sensor == Sensor(44, 32)
    frames = recording.tracks["frames"]
    assert frames.times.tolist() == [0, 10_000, 30_000]
    assert [int(frames.read(i)[0, 0]) for i in range(3)] == [0, 10, 30]
    assert frames.read(2).shape == (32, 44)
    assert "imu" not in recording.tracks
    assert_contract(recording, events)


def test_names_may_be_in_another_case(folder, assert_same):
    root, events = folder
    (root / "imu.txt").write_text("0.001 1 2 3 4 5 6\n")
    for path in sorted(root.rglob("*"), reverse=True):
        path.rename(path.with_name(path.name.upper()))
    with pytest.warns(UserWarning, match="2 of 5 pictures are missing"):
        recording = open_recording(root)
    assert_same(recording.events_by_index(0, recording.num_events), events)
    assert [int(recording.tracks["frames"].read(i)[0, 0]) for i in range(3)] == [0, 10, 30]
    assert len(recording.tracks["imu"]) == 1


def test_imu(folder):
    root, _ = folder
    (root / "imu.txt").write_text("0.001 1 2 3 4 5 6\n0.0020004 7 8 9 10 11 12\n")
    with pytest.warns(UserWarning, match="missing"):
        imu = open_recording(root).tracks["imu"]
    assert imu.times.tolist() == [1000, 2000]
    assert imu.read(1).tolist() == [7, 8, 9, 10, 11, 12]


def test_without_pictures_the_size_is_inferred(folder):
    root, _ = folder
    (root / "images.txt").unlink()
    recording = open_recording(root)
    assert recording.sensor == Sensor(40, 30, inferred=True)
    assert recording.tracks == {}


def test_a_colour_picture_comes_as_rgb(folder):
    root, _ = folder
    picture = np.zeros((32, 44, 3), np.uint8)
    picture[..., 0] = 255  # blue, as OpenCV writes it
    cv2.imwrite(str(root / "images/0.png"), picture)
    with pytest.warns(UserWarning, match="missing"):
        frames = open_recording(root).tracks["frames"]
    assert frames.read(0)[0, 0].tolist() == [0, 0, 255]


def test_a_picture_that_cannot_be_decoded_is_named(folder):
    root, _ = folder
    (root / "images/1.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match="missing"):
        frames = open_recording(root).tracks["frames"]
    with pytest.raises(FormatError, match=r"1\.png"):
        frames.read(1)


@pytest.mark.parametrize(
    ("name", "text"), [("images.txt", "zero a.png\n"), ("imu.txt", "0 1 2\n"), ("imu.txt", "a b\n")]
)
def test_damaged_lists_are_named(folder, name, text):
    root, _ = folder
    (root / "images.txt").unlink()
    (root / name).write_text(text)
    with pytest.raises(FormatError, match=name):
        open_recording(root)
