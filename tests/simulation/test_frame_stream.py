"""What is wrong with a stream of frames is said with the number and time of the frame."""

from __future__ import annotations

from itertools import count, islice
from typing import Any

import numpy as np
import pytest

from eventfm.simulation.frame_stream import FrameError, linear_frames

GREY = np.full((4, 6), 100, np.uint8)


def stream(*pictures: Any, times: Any = None, **options: Any) -> list:
    pairs = zip(times or count(0, 1000), pictures, strict=False)
    return list(linear_frames(pairs, name="clip", **options))


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (np.zeros((4, 7), np.uint8), r"clip: frame 1 \(at 1000 us\) is 7x4 pixels of 1 channel, uint8, the"),
        (np.zeros((4, 6), np.uint16), r"frame 1 \(at 1000 us\) is 6x4 pixels of 1 channel, uint16, .* uint8"),
        (np.zeros((4, 6, 3), np.uint8), r"frame 1 .* 3 channels"),
        (np.zeros((4, 6, 2), np.uint8), r"frame 1 .* expected a picture .* got shape \(4, 6, 2\)"),
        (np.zeros((4, 6), np.int32), r"frame 1 .* expected uint8, uint16 or float in \[0, 1\], got int32"),
        (np.zeros((4, 0), np.uint8), r"frame 1 .* got shape \(4, 0\)"),
    ],
)
def test_frames_of_another_kind(second: np.ndarray, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        stream(GREY, second)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, r"frame 2 \(at 2000 us\) holds NaN in 1 places"),
        (-0.1, r"frame 2 \(at 2000 us\): expected light in \[0, 1\], got values from -0\.1 to 0\.5"),
        (1.01, r"frame 2 \(at 2000 us\): .* to 1\.01"),
        (np.inf, r"frame 2 \(at 2000 us\): .* to inf"),
    ],
)
def test_values_that_are_no_light(value: float, message: str) -> None:
    good = np.full((4, 6), 0.5)
    bad = good.copy()
    bad[1, 2] = value
    with pytest.raises(FrameError, match=message):
        stream(good, good, bad)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ((0, 10, 10), r"frame 2 \(at 10 us\) has the time of the frame before"),
        ((0, 10, 5), r"frame 2 \(at 5 us\) lies before its predecessor, 10 us"),
    ],
)
def test_times_must_increase(times: tuple[int, ...], message: str) -> None:
    with pytest.raises(FrameError, match=message):
        stream(GREY, GREY, GREY, times=times)
    with pytest.warns(UserWarning, match="1 frames whose time does not increase were left out"):
        kept = stream(GREY, GREY, GREY, times=times, on_damage="keep")
    assert [frame.t_us for frame in kept] == [0, 10]


def test_too_few_frames() -> None:
    with pytest.raises(FrameError, match="clip: expected at least two frames, got no frame"):
        stream()
    with pytest.raises(FrameError, match="got one frame only, at 7 us"):
        stream(GREY, times=(7,))


def test_black_video_is_warned_of_and_black_frames_are_not(recwarn: pytest.WarningsRecorder) -> None:
    black = np.zeros_like(GREY)
    assert len(stream(GREY, black, black)) == 3
    assert not recwarn.list
    with pytest.warns(UserWarning, match="clip: all 2 frames are black"):
        stream(black, black)


def test_linear_floats_and_alpha() -> None:
    light = np.linspace(0, 1, 24).reshape(4, 6)
    for dtype in (np.float32, np.float64):
        found = stream(light.astype(dtype), light.astype(dtype), curve="srgb")
        np.testing.assert_allclose(found[0].frame, light * 65535, atol=0.51)
    rgba = np.dstack([GREY, GREY, GREY, np.arange(24, dtype=np.uint8).reshape(4, 6)])
    np.testing.assert_allclose(stream(rgba, rgba)[0].frame, stream(GREY, GREY)[0].frame, atol=1)
    np.testing.assert_array_equal(stream(GREY[..., None], GREY[..., None])[0].frame, stream(GREY, GREY)[0].frame)


def test_endless_streams_are_taken_frame_by_frame() -> None:
    endless = linear_frames((1000 * n, GREY) for n in count())
    assert [frame.t_us for frame in islice(endless, 3)] == [0, 1000, 2000]
