"""Measured motion and frames between frames, against rendered motion whose truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from eventfm.registry import UnknownNameError
from eventfm.simulation import interpolation
from eventfm.simulation.frame_stream import FrameError, TimedFrame
from eventfm.simulation.interpolation import densified, find_interpolator, interpolate_by_flow, measured_motion
from eventfm.simulation.motion import flow
from eventfm.simulation.paths import Affine, translation
from eventfm.simulation.paths import Path as MotionPath
from eventfm.simulation.pixel import simulate
from eventfm.simulation.render import render
from eventfm.simulation.sensor import SensorConfig

SIZE = (96, 128)
FRAME_US = 33_333


@pytest.fixture(scope="module")
def light() -> np.ndarray:
    """Return a picture of soft and hard edges at many scales."""
    rng = np.random.default_rng(3)
    layers = [cv2.resize(rng.random((n, n)).astype(np.float32), (320, 320), interpolation=i) for n, i in KINDS]
    return np.clip(sum(layers) / len(layers), 0, 1) ** 2


KINDS = [(5, cv2.INTER_CUBIC), (14, cv2.INTER_CUBIC), (40, cv2.INTER_CUBIC), (11, cv2.INTER_NEAREST)]
PATHS: list[tuple[MotionPath, float]] = [
    (translation(90, 30), 0.45),
    (translation(-180, 90), 0.15),
    (translation(0, 360), 0.08),
    (Affine((60, 60), spin=1.0, zoom=1.0, centre=(60, 50)), 0.3),
]


def pair(light: np.ndarray, path: MotionPath, count: int = 2) -> list[TimedFrame]:
    times = np.arange(count) * FRAME_US
    return [TimedFrame(int(t), f) for t, f in zip(times, render(light, path, times, SIZE), strict=True)]


@pytest.mark.parametrize(("path", "share_of_blending"), PATHS)
def test_flow_is_far_better_than_blending(light: np.ndarray, path: MotionPath, share_of_blending: float) -> None:
    shares = np.array([0.2, 0.5, 0.7])
    first, last = (frame.frame for frame in pair(light, path))
    truth = render(light, path, np.rint(shares * FRAME_US).astype(int), SIZE).astype(float)
    made = interpolate_by_flow(first, last, shares)
    assert made.shape == truth.shape
    assert made.dtype == np.uint16
    s = shares[:, None, None]
    blended = (1 - s) * first + s * last
    error, of_blending = np.abs(made - truth).mean(), np.abs(blended - truth).mean()
    assert error < share_of_blending * of_blending


@pytest.mark.parametrize(("path", "_"), PATHS)
def test_motion_is_measured(light: np.ndarray, path: MotionPath, _: float) -> None:
    first, last = (frame.frame for frame in pair(light, path))
    truth = np.percentile(np.hypot(*flow(path, 0, FRAME_US, SIZE)[0]), 95)
    assert measured_motion(first, last) == pytest.approx(truth, rel=0.25)
    large = [cv2.resize(frame, (1024, 768), interpolation=cv2.INTER_LINEAR) for frame in (first, last)]
    assert measured_motion(*large) == pytest.approx(8 * truth, rel=0.25)


def test_stillness_and_flat_frames_have_no_motion(light: np.ndarray) -> None:
    frame = pair(light, translation(0, 0))[0].frame
    assert measured_motion(frame, frame) < 0.05
    flat = np.full(SIZE, 30_000, np.uint16)
    assert measured_motion(flat, flat) == 0
    assert measured_motion(flat, flat // 2) < 0.5


def test_threads_do_not_change_the_flow(light: np.ndarray) -> None:
    first, last = (frame.frame for frame in pair(light, PATHS[3][0]))
    before = cv2.getNumThreads()
    made = []
    try:
        for threads in (1, 2):
            cv2.setNumThreads(threads)
            made.append(interpolate_by_flow(first, last, np.array([0.3])))
            assert cv2.getNumThreads() == threads
    finally:
        cv2.setNumThreads(before)
    np.testing.assert_array_equal(*made)


def test_fast_motion_without_an_interpolator_is_warned_of(light: np.ndarray) -> None:
    message = r"clip: the motion was measured as (\d+\.\d) px/frame .*interpolator=flow"
    with pytest.warns(UserWarning, match=message) as w:
        plain = list(densified(pair(light, translation(180, 0), 4), None, name="clip"))
    stated = float(str(w[0].message).partition("measured as ")[2].partition(" ")[0])
    assert stated == pytest.approx(6.0, rel=0.1)
    assert [(s.t_us, s.is_source) for s in plain] == [(n * FRAME_US, True) for n in range(4)]


def test_slow_motion_is_not(light: np.ndarray, recwarn: pytest.WarningsRecorder) -> None:
    list(densified(pair(light, translation(30, 0), 4), None))
    assert not recwarn.list


def test_as_many_frames_as_the_motion_needs(light: np.ndarray) -> None:
    def asked(first: Any, last: Any, shares: np.ndarray) -> np.ndarray:
        kept.append(shares)
        return np.repeat(first[None] / 65535, len(shares), 0)  # float, linear light

    for speed, largest_step in ((30, 1), (180, 0.5)):
        kept: list[np.ndarray] = []
        frames = pair(light, translation(speed, 0), 3)
        found = list(densified(frames, asked, largest_step))
        needed = speed / 30 / largest_step
        assert len(kept) == 2
        assert len(found) - 3 == sum(map(len, kept))
        for shares in kept:
            assert needed - 1.5 <= len(shares) <= 1.3 * needed + 1
            assert (np.diff([0, *shares, 1]) > 0).all()
        times = [s.t_us for s in found]
        assert (np.diff(times) > 0).all()
        assert [s.t_us for s in found if s.is_source] == [f.t_us for f in frames]
        for sample in found:
            if not sample.is_source:
                before = frames[sample.t_us // FRAME_US].frame
                np.testing.assert_array_equal(sample.frame, before)


def test_frames_a_microsecond_apart_have_nothing_between(light: np.ndarray) -> None:
    frames = [frame._replace(t_us=number) for number, frame in enumerate(pair(light, translation(300, 0), 3))]
    assert [s.t_us for s in densified(frames, interpolate_by_flow)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda a, b, s: np.zeros((len(s), 3, 3)), r"frame 1 \(at 33333 us\): expected frames .* got float64"),
        (lambda a, b, s: np.zeros((len(s), *a.shape), int), "got int64"),
        (lambda a, b, s: np.full((len(s), *a.shape), 1.5), "gave values from 1.5 to 1.5"),
        (lambda a, b, s: np.full((len(s), *a.shape), np.nan), "gave values from nan to nan"),
    ],
)
def test_interpolators_that_answer_nonsense(light: np.ndarray, answer: Any, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        list(densified(pair(light, translation(180, 0)), answer, name="clip"))


def test_interpolators_by_name() -> None:
    assert find_interpolator("flow") is interpolate_by_flow
    assert find_interpolator("eventfm.simulation.interpolation:measured_motion") is measured_motion
    with pytest.raises(UnknownNameError, match="unknown interpolator 'flw'; did you mean 'flow'"):
        find_interpolator("flw")
    with pytest.raises(UnknownNameError, match="expected a function nothing in the module"):
        find_interpolator("eventfm.simulation.interpolation:nothing")
    assert "flow" in interpolation.INTERPOLATORS


def test_events_of_30_hz_video_become_usable(light: np.ndarray) -> None:
    """Events of 30 Hz frames with flow are nearer to the truth than those of the frames alone."""
    path = translation(150, 60)
    times = np.arange(0, 3 * FRAME_US + 1, 1000)
    config = SensorConfig.preset("esim")
    truth = simulate(render(light, path, times, SIZE), times, config)
    frames = pair(light, path, 4)

    def mean_count_error(samples: list) -> float:
        found = simulate(np.stack([s.frame for s in samples]), np.array([s.t_us for s in samples]), config)
        grids = []
        for events in (truth, found):
            grid = np.zeros((2, 30, *SIZE))
            np.add.at(grid, (events.p, np.minimum(events.t * 30 // times[-1], 29), events.y, events.x), 1)
            grids.append(grid)
        return float(np.abs(grids[0] - grids[1]).sum() / grids[0].sum())

    with pytest.warns(UserWarning, match="px/frame"):
        plain = mean_count_error(list(densified(frames, None)))
    filled = mean_count_error(list(densified(frames, interpolate_by_flow)))
    assert filled < 0.6 * plain


def test_a_real_photograph(real_data: Path) -> None:
    picture = sorted((real_data / "images" / "imagenet_sample").rglob("*.[jJ]*"))[0]
    light = (cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE) / np.float32(255)) ** 2.2
    path = translation(150, 100)
    first, last = (frame.frame for frame in pair(light.astype(np.float32), path))
    truth = render(light.astype(np.float32), path, np.array([FRAME_US // 2]), SIZE)[0].astype(float)
    made = interpolate_by_flow(first, last, np.array([0.5]))[0]
    assert np.abs(made - truth).mean() < 0.2 * np.abs((first.astype(float) + last) / 2 - truth).mean()
