"""Folders of frames: order, times, and what is missing."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from eventfm.simulation.frame_folder import list_frames, natural_key
from eventfm.simulation.frame_stream import FrameError
from eventfm.simulation.video import video_frames


def write(folder: Path, *names: str, value: int = 100) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full((4, 6), value + number, np.uint8))
    return folder


def listed(folder: Path, **options: object) -> list[tuple[int, str]]:
    times, paths = list_frames(folder, **options)  # type: ignore[arg-type]
    return [(t, path.name) for t, path in zip(times, paths, strict=True)]


def test_natural_order() -> None:
    names = ["f10.png", "f2.png", "f1.png", "a.png", "f2b.png", "10", "9"]
    assert sorted(names, key=natural_key) == ["9", "10", "a.png", "f1.png", "f2.png", "f2b.png", "f10.png"]


def test_evenly_by_rate(tmp_path: Path) -> None:
    folder = write(tmp_path, "f10.png", "f9.png", "f8.png")
    assert listed(folder, fps=30) == [(0, "f8.png"), (33333, "f9.png"), (66667, "f10.png")]
    folder = write(tmp_path / "step", "0.png", "5.png", "10.png", "15.png")  # every fifth is as good as every one
    assert [t for t, _ in listed(folder, fps=10)] == [0, 100_000, 200_000, 300_000]


def test_a_hole_in_the_numbers_is_a_missing_picture(tmp_path: Path) -> None:
    folder = write(tmp_path, *(f"{n:03d}.png" for n in (0, 1, 2, 4, 7, 8)))
    with pytest.raises(FrameError, match=r"3 frames are missing, the first after .*002\.png"):
        list_frames(folder, fps=10)
    with pytest.warns(UserWarning, match="3 frames are missing"):
        kept = listed(folder, fps=10, on_damage="keep")
    assert [t // 100_000 for t, _ in kept] == [0, 1, 2, 4, 7, 8]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("0.5 images/a.png\n0.25 images/b.png\n", [(500_000, "a.png"), (250_000, "b.png")]),
        ("# time name\n1000 images/a.png  # first\n\n2500 images/b.png\n", [(1000, "a.png"), (2500, "b.png")]),
        ("images/a.png,1e-3\nimages/b.png,2e-3\n", [(1000, "a.png"), (2000, "b.png")]),
        ("1.000001\n1.5\n", [(1_000_001, "a.png"), (1_500_000, "b.png")]),
    ],
)
@pytest.mark.parametrize("name", ["images.txt", "timestamps.txt"])
def test_lists_of_times(tmp_path: Path, lines: str, expected: list, name: str) -> None:
    write(tmp_path / "images", "a.png", "b.png")
    (tmp_path / name).write_text(lines)
    assert listed(tmp_path) == expected


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "holds no times"),
        ("0.1 images/a.png\n0.2 images/gone.png\n", r"1 of 2 pictures are missing, .* frame 1 \(at 200000 us\)"),
        ("0.1 images/a.png\nsoon images/b.png\n", "line 2: expected `time name` or a time, got 'soon"),
        ("0.1 images/a.png\n0.2\n", "line 2: expected a time and a name"),
        ("0.1\n0.2\n0.3\n", r"has 3 times for 2 pictures, from a\.png to b\.png"),
        ("0\n1\n", "whole numbers are read as microseconds, and these are 1 apart"),
    ],
)
def test_lists_that_make_no_sense(tmp_path: Path, lines: str, message: str) -> None:
    write(tmp_path / "images", "a.png", "b.png")
    (tmp_path / "images.txt").write_text(lines)
    with pytest.raises(FrameError, match=message):
        list_frames(tmp_path)


def test_no_times_and_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match=r"give fps=, or a file images\.txt or timestamps\.txt"):
        list_frames(write(tmp_path, "a.png"))
    (tmp_path / "none").mkdir()
    with pytest.raises(FrameError, match=r"expected pictures .* found none"):
        list_frames(tmp_path / "none", fps=10)
    with pytest.raises(FrameError, match=r"expected fps in \(0, 1e6\]"):
        list_frames(tmp_path, fps=float("nan"))


def test_unreadable_and_odd_pictures_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path, "1.png", "2.png", "3.png")
    (folder / "2.png").write_text("words")
    with pytest.raises(FrameError, match=r"frame 1 \(at 100000 us\): .*2\.png cannot be read as a picture"):
        list(video_frames(folder, fps=10))
    cv2.imwrite(str(folder / "2.png"), np.zeros((5, 6), np.uint8))
    with pytest.raises(FrameError, match=r"frame 1 \(at 100000 us\) is 6x5 pixels"):
        list(video_frames(folder, fps=10))


def test_sixteen_bit_pictures_and_colour(tmp_path: Path) -> None:
    deep = (np.arange(24).reshape(4, 6) * 2800).astype(np.uint16)
    for name in ("1.png", "2.png"):
        cv2.imwrite(str(tmp_path / name), deep)
    np.testing.assert_allclose(next(video_frames(tmp_path, fps=10, coding="linear")).frame, deep, atol=1)
    coded = next(video_frames(tmp_path, fps=10)).frame[2, 0] / 65535  # 16 bits are coded as 8 are
    assert coded == pytest.approx(((12 * 2800 / 65535 + 0.055) / 1.055) ** 2.4, abs=1e-4)
    red = np.zeros((4, 6, 3), np.uint8)
    red[..., 2] = 255  # OpenCV writes blue first
    for name in ("1.png", "2.png"):
        cv2.imwrite(str(tmp_path / name), red)
    assert next(video_frames(tmp_path, fps=10)).frame[0, 0] / 65535 == pytest.approx(0.2126, abs=1e-4)


def test_the_event_camera_dataset(real_data: Path) -> None:
    folder = real_data / "pairs" / "slider_depth"
    with pytest.raises(FrameError, match=r"79 of 87 pictures are missing, the first is frame \d+ \(at \d+ us\)"):
        list_frames(folder)
    with pytest.warns(UserWarning, match="79 of 87"):
        found = list(video_frames(folder, on_damage="keep"))
    assert len(found) == 8
    assert [f.t_us for f in found[:3]] == [0, 38_766, 77_531]
    assert found[0].frame.shape == (180, 240)
