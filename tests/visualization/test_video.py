from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from eventfm.registry import MissingExtraError
from eventfm.visualization import video
from eventfm.visualization.composition import depth_key, flow_key, side_by_side
from eventfm.visualization.dense import depth_map
from eventfm.visualization.flow import flow_wheel
from eventfm.visualization.video import VideoError, write_video

av = pytest.importorskip("av", reason="the extra `video` is not installed")


def grey(level: int, height: int = 32, width: int = 48) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def read(path: Path) -> tuple[list[np.ndarray], float]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return frames, float(stream.average_rate)


def test_frames_come_back(tmp_path: Path) -> None:
    pictures = [grey(40 * i) for i in range(6)]
    for i, picture in enumerate(pictures):
        picture[4:20, 4 + 4 * i : 20 + 4 * i] = (213, 94, 0)
    path = tmp_path / "a.mp4"
    assert write_video(path, iter(pictures), fps=12.5) == path
    frames, rate = read(path)
    assert rate == 12.5
    assert len(frames) == 6
    for frame, picture in zip(frames, pictures, strict=True):
        assert np.abs(frame.astype(int) - picture).mean() < 4
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]


def test_odd_sides_get_a_white_pixel_more(tmp_path: Path) -> None:
    frames, _ = read(write_video(tmp_path / "odd.mp4", [grey(100, 31, 45)] * 3))
    assert frames[0].shape == (32, 46, 3)
    assert abs(int(frames[0][10, 10, 0]) - 100) < 4
    assert frames[0][31, 20, 0] > 200
    assert frames[0][10, 45, 0] > 200


def failing() -> Iterator[np.ndarray]:
    yield grey(0)
    raise FileNotFoundError(2, "no such recording")


@pytest.mark.parametrize(
    ("frames", "options", "error", "said"),
    [
        ([], {}, ValueError, "one frame or more"),
        ([grey(0), grey(0, 32, 50)], {}, ValueError, "50x32 for frame 1 after 48x32"),
        ([np.zeros((8, 8), np.uint8)], {}, ValueError, r"uint8 of shape \(8, 8\) for frame 0"),
        ([np.zeros((8, 8, 3))], {}, ValueError, "float64"),
        ([grey(0)], {"fps": 0}, ValueError, "rate above 0"),
        ([grey(0)], {"fps": float("nan")}, ValueError, "rate above 0"),
        ([grey(0)], {"codec": "no_such_codec"}, MissingExtraError, r"no encoder 'no_such_codec'.*eventfm\[video\]"),
        (failing(), {}, FileNotFoundError, "no such recording"),
    ],
)
def test_a_video_is_there_as_a_whole_or_as_it_was(
    tmp_path: Path, frames: list, options: dict, error: type[Exception], said: str
) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"an older one")
    with pytest.raises(error, match=said):
        write_video(path, frames, **options)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]
    assert path.read_bytes() == b"an older one"


def test_what_the_system_refuses_is_said(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"could not write .*nowhere.*No such file"):
        write_video(tmp_path / "nowhere" / "a.mp4", [grey(0)])
    path = write_video(tmp_path / "a.mp4", [grey(0)])
    before = path.read_bytes()
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (64, 64, 3)).astype(np.uint8) for _ in range(12)]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(VideoError, match="unchanged"):
            write_video(path, noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str, extra: str) -> None:
        raise MissingExtraError(f"{module} {extra}")

    monkeypatch.setattr(video, "require", missing)
    with pytest.raises(MissingExtraError, match="av video"):
        write_video(tmp_path / "a.mp4", [grey(0)])


def test_compositions_hold_pictures_and_key() -> None:
    events, answer, key = (np.empty((*size, 3), np.uint8) for size in ((60, 80), (60, 80), (10, 400)))
    events[:], answer[:], key[:] = (200, 10, 10), (10, 200, 10), (10, 10, 200)
    out = side_by_side([("events", events), ("depth", answer)], key, cell_height=60)
    assert out.dtype == np.uint8
    for picture in (events, answer, key):
        y, x = np.argwhere((out == picture[0, 0]).all(-1))[0]
        height, width = picture.shape[:2]
        np.testing.assert_array_equal(out[y : y + height, x : x + width], picture)
    assert out.shape[1] == 408
    assert out.shape == side_by_side([("events", answer), ("depth", answer)], key, cell_height=60).shape
    assert side_by_side([("events", events)], cell_height=60).shape[0] == out.shape[0] - 18


def test_the_depth_key_is_drawn_as_depth_is() -> None:
    key = depth_key((2.0, 50.0), 320)
    assert key.shape == (34, 320, 3)
    for depth in (2.0, 7.3, 23.0, 50.0):
        x = 24 + round(271 * np.log(depth / 2) / np.log(25))
        expected = depth_map(np.array([[depth]]), (2.0, 50.0))[0, 0]
        assert np.abs(key[3, x].astype(int) - expected).max() <= 4
    assert (key[:14, :24] == 255).all()
    # A mark at each of 2, 5, 10, 20 and 50 metres, and nowhere else.
    marks = np.flatnonzero((key[12] == 255).all(-1))
    marks = marks[(marks >= 24) & (marks < 296)]
    np.testing.assert_array_equal(marks, [24 + round(271 * np.log(d / 2) / np.log(25)) for d in (2, 5, 10, 20, 50)])
    assert (key[16:] < 128).any()
    for limits in [(0.0, 5.0), (5.0, 5.0), (9.0, 1.0)]:
        with pytest.raises(ValueError, match="nearest depth above 0"):
            depth_key(limits)


def test_a_short_scale_is_marked_at_its_ends() -> None:
    for limits in [(2.1, 2.4), (4.0, 6.0)]:
        marks = np.flatnonzero((depth_key(limits, 320)[12, 24:296] == 255).all(-1))
        np.testing.assert_array_equal(marks, [0, 271])


def test_the_flow_key_is_the_wheel() -> None:
    key = flow_key(12.34, 64)
    np.testing.assert_array_equal(key[:, :64], flow_wheel(64))
    assert (key[:, 64:] < 128).any()
    assert not np.array_equal(key, flow_key(5.0, 64))
