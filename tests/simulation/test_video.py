"""Video files to frames in linear light: times, colour, depth, orientation, and what is said of damaged files."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eventfm.registry import MissingExtraError
from eventfm.simulation.frame_stream import FrameError
from eventfm.simulation.response import FULL
from eventfm.simulation.video import is_video, video_frames

av = pytest.importorskip("av", reason="the extra `video` is not installed")
iio = pytest.importorskip("imageio.v3", reason="the extra `video` is not installed")


def write(path: Path, pictures: list[np.ndarray], pix_fmt: str, codec: str = "ffv1", **kind: Any) -> Path:
    """Write pictures, rgb24 or gray (or gray16le), at 25 Hz or at `times_ms`."""
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=kind.get("options", {}))
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        if "rotation" in kind:
            stream.set_display_rotation(kind["rotation"])
        if "aspect" in kind:
            stream.codec_context.sample_aspect_ratio = kind["aspect"]
        for name in ("color_trc", "colorspace", "color_primaries"):
            if name in kind:
                setattr(stream.codec_context, name, kind[name])
        if "times_ms" in kind:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, picture in enumerate(pictures):
            form = "rgb24" if picture.ndim == 3 else "gray16le" if picture.dtype == np.uint16 else "gray"
            frame = av.VideoFrame.from_ndarray(picture, format=form)
            if "times_ms" in kind:
                frame.pts, frame.time_base = kind["times_ms"][number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def ramps(count: int = 5, size: tuple[int, int] = (24, 32)) -> list[np.ndarray]:
    """Return grey pictures, each different."""
    y, x = np.mgrid[: size[0], : size[1]]
    return [((4 * x + 3 * y + 20 * n) % 256).astype(np.uint8) for n in range(count)]


def srgb(coded: np.ndarray) -> np.ndarray:
    """Return linear light of sRGB values in [0, 1], one by one as the standard has it."""
    one = lambda v: v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4  # noqa: E731
    return np.vectorize(one)(coded.astype(np.float64))


def bt709(coded: np.ndarray) -> np.ndarray:
    one = lambda v: v / 4.5 if v < 0.081 else ((v + 0.099) / 1.099) ** (1 / 0.45)  # noqa: E731
    return np.vectorize(one)(coded.astype(np.float64))


def test_an_mp4_of_imageio(tmp_path: Path) -> None:
    """A lossy file in full: number, times, size, and grey values as coded by BT.709."""
    y, x = np.mgrid[:48, :64]
    pictures = np.stack([128 + 80 * np.sin((x + 2 * n) / 9) * np.cos(y / 7) for n in range(12)]).astype(np.uint8)
    path = tmp_path / "a.mp4"
    iio.imwrite(path, pictures[..., None].repeat(3, -1), plugin="pyav", codec="libx264", fps=30)
    assert is_video(path)
    found = list(video_frames(path))
    assert [f.t_us for f in found] == [round(n * 1e6 / 30) for n in range(12)]
    frames = np.stack([f.frame for f in found])
    assert frames.shape == (12, 48, 64)
    assert frames.dtype == np.uint16
    light = bt709(pictures / 255)
    assert np.abs(frames / FULL - light).mean() < 0.01
    # The right curve, not just a curve: as sRGB it would be far off.
    assert np.abs(frames / FULL - srgb(pictures / 255)).mean() > 0.02


@pytest.mark.parametrize(
    ("coding", "curve"), [("srgb", srgb), ("bt709", bt709), ("linear", lambda v: v.astype(float)), ("auto", bt709)]
)
def test_grey_values_to_light(tmp_path: Path, coding: Any, curve: Any) -> None:
    pictures = ramps()
    path = write(tmp_path / "a.mkv", pictures, "gray")
    for picture, found in zip(pictures, video_frames(path, coding=coding), strict=True):
        np.testing.assert_allclose(found.frame, np.rint(curve(picture / 255) * FULL), atol=1)


def test_hybrid_log_gamma(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", ramps(), "gray", color_trc=18)
    a, b, c = 0.17883277, 0.28466892, 0.55991073  # ITU-R BT.2100, table 5
    for picture, found in zip(ramps(), video_frames(path), strict=True):
        v = picture / 255
        light = np.where(v <= 0.5, v * v / 3, (np.exp((v - c) / a) + b) / 12)
        np.testing.assert_allclose(found.frame, light * FULL, atol=2)


def test_perceptual_quantiser_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", ramps(), "gray", color_trc=16)
    with pytest.raises(FrameError, match="HDR displays"):
        next(video_frames(path))
    assert len(list(video_frames(path, coding="bt709"))) == 5


def test_times_of_variable_rate_are_kept(tmp_path: Path) -> None:
    times = [0, 7, 40, 41, 300]
    path = write(tmp_path / "a.mkv", ramps(), "gray", times_ms=times)
    assert [f.t_us for f in video_frames(path)] == [1000 * t for t in times]
    assert [f.t_us for f in video_frames(path, fps=1000)] == [0, 1000, 2000, 3000, 4000]


def test_colour_is_luminance_of_linear_light(tmp_path: Path) -> None:
    picture = np.zeros((8, 40, 3), np.uint8)
    for number, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (100, 150, 50)]):
        picture[:, 8 * number : 8 * number + 8] = colour
    path = write(tmp_path / "a.mkv", [picture, picture // 2], "bgr0")
    found = next(video_frames(path)).frame[4, 4::8] / FULL
    mixed = srgb(np.array([100, 150, 50]) / 255) @ [0.2126, 0.7152, 0.0722]
    np.testing.assert_allclose(found, [0.2126, 0.7152, 0.0722, 1, mixed], atol=1e-4)


@pytest.mark.parametrize(("pix_fmt", "tolerance"), [("yuv420p", 0.02), ("yuv444p10le", 0.005), ("yuv422p", 0.02)])
def test_chroma_formats(tmp_path: Path, pix_fmt: str, tolerance: float) -> None:
    picture = np.full((32, 32, 3), (200, 120, 40), np.uint8)
    path = write(tmp_path / "a.mkv", [picture, picture // 2], pix_fmt)
    light = bt709(np.array([200, 120, 40]) / 255) @ [0.2126, 0.7152, 0.0722]
    assert next(video_frames(path)).frame[16, 16] / FULL == pytest.approx(light, abs=tolerance)


def test_sixteen_bits_are_kept(tmp_path: Path) -> None:
    pictures = [(np.arange(24 * 32).reshape(24, 32) * 85 + n).astype(np.uint16) for n in range(3)]
    path = write(tmp_path / "a.mkv", pictures, "gray16le")
    for picture, found in zip(pictures, video_frames(path, coding="linear"), strict=True):
        np.testing.assert_allclose(found.frame, picture, atol=1)


@pytest.mark.parametrize(("rotation", "turned"), [(90, 1), (-90, 3), (180, 2)])
def test_turned_upright(tmp_path: Path, rotation: int, turned: int) -> None:
    lossless: dict[str, Any] = {"codec": "libx264", "options": {"qp": "0"}}
    path = write(tmp_path / "a.mp4", ramps(), "yuv420p", rotation=rotation, **lossless)
    straight = write(tmp_path / "b.mp4", ramps(), "yuv420p", **lossless)
    with av.open(str(path)) as container:
        # What the file says: degrees counterclockwise.
        assert next(container.decode(video=0)).rotation % 360 == rotation % 360
    for found, expected in zip(video_frames(path), video_frames(straight), strict=True):
        np.testing.assert_array_equal(found.frame, np.rot90(expected.frame, turned))


def test_square_pixels(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", ramps(), "yuv420p", codec="libx264", aspect=Fraction(2, 1))
    assert next(video_frames(path)).frame.shape == (24, 64)


def test_cut_about_the_centre_and_resized(tmp_path: Path) -> None:
    picture = np.zeros((20, 80), np.uint8)
    picture[:, 30:50] = np.tile([0, 255], 10)  # the middle square: fine stripes, in light half of full
    path = write(tmp_path / "a.mkv", [picture, picture], "gray")
    small = next(video_frames(path, size=(10, 10))).frame
    assert small.shape == (10, 10)
    np.testing.assert_allclose(small, FULL / 2, rtol=1e-3)
    large = next(video_frames(path, size=(40, 160))).frame
    assert large.shape == (40, 160)


def test_cut_off_says_what_could_be_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (48, 64)).astype(np.uint8) for _ in range(40)]
    whole = write(tmp_path / "a.mkv", pictures, "gray")
    cut = tmp_path / "b.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(FrameError, match=r"b\.mkv: frame \d+ .*the \d+ frames before it, up to \d+ us, could be read"):
        list(video_frames(cut))
    with pytest.warns(UserWarning, match="could be read and are kept"):
        kept = list(video_frames(cut, on_damage="keep"))
    assert 10 < len(kept) < 30
    for frame, expected in zip(kept[:10], video_frames(whole), strict=False):
        np.testing.assert_array_equal(frame.frame, expected.frame)


def test_a_cut_mp4_cannot_be_opened(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", ramps(20), "yuv420p", codec="libx264")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(FrameError, match=r"a\.mp4 cannot be opened as a video, nothing of it could be read: Invalid"):
        list(video_frames(path))
    assert not is_video(path)


def test_a_palette(tmp_path: Path) -> None:
    """GIF files have colours of a palette, coded as pictures are."""
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 255
    path = tmp_path / "a.gif"
    iio.imwrite(path, np.stack([red, red // 2, red]), duration=40, loop=0)
    found = list(video_frames(path))
    assert [f.t_us for f in found] == [0, 40_000, 80_000]
    np.testing.assert_allclose(
        [f.frame[3, 3] / FULL for f in found[:2]], 0.2126 * srgb(np.array([1, 127 / 255])), atol=2e-3
    )


def test_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"words, many words")
    with pytest.raises(FrameError, match="cannot be opened as a video"):
        next(video_frames(tmp_path / "a.mp4"))
    with pytest.raises(FileNotFoundError, match=r"no video or folder at .*gone\.mp4"):
        next(video_frames(tmp_path / "gone.mp4"))
    with pytest.raises(FrameError, match=r"expected fps in \(0, 1e6\]"):
        video_frames(tmp_path / "a.mp4", fps=float("inf"))
    with pytest.raises(ValueError, match="unknown coding 'rgb'; did you mean 'srgb'"):
        video_frames(tmp_path / "a.mp4", coding="rgb")  # type: ignore[arg-type]


def test_one_frame_is_no_video(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", ramps(1), "gray")
    with pytest.raises(FrameError, match="at least two frames, got one frame only, at 0 us"):
        list(video_frames(path))


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.mkv", ramps(), "gray")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'eventfm\[video\]'"):
        next(video_frames(path))


def test_one_frame_in_memory_at_a_time(tmp_path: Path) -> None:
    import tracemalloc

    path = write(tmp_path / "a.mkv", [np.full((240, 320), n, np.uint8) for n in range(60)], "gray")
    next(video_frames(path))  # what is loaded once
    tracemalloc.start()
    try:
        assert sum(1 for _ in video_frames(path)) == 60
        assert tracemalloc.get_traced_memory()[1] < 10 * 240 * 320 * 4
    finally:
        tracemalloc.stop()
