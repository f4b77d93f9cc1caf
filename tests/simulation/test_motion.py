"""Frame times, flow and velocity against finite differences and dense checks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.random import generator
from eventfm.simulation.motion import flow, frame_times, velocity
from eventfm.simulation.paths import Affine, Path, Paused, PlanarMotion, omnidirectional, saccades, square, translation
from eventfm.simulation.random_paths import random_affine_motion, random_planar_motion

SIZE = (48, 64)


def paths() -> list[Path]:
    return [
        Affine(velocity=(80.0, -30.0), spin=1.5, zoom=-0.7, centre=(31.5, 23.5)),
        translation(150.0, 40.0),
        saccades(6.0),
        square(8.0, speed_px_s=300.0),
        omnidirectional(3.0),
        Paused(omnidirectional(3.0), ((5_000, 45_000), (100_000, 100_300))),
        *(random_planar_motion(generator(seed), SIZE, 300_000, 120.0, pause_probability=0.5) for seed in range(4)),
        random_affine_motion(generator(4), SIZE, 300_000, 120.0, pause_probability=1.0),
    ]


def largest_steps(path: Path, times: list[float]) -> list[float]:
    return [float(np.hypot(*flow(path, a, b, SIZE)[0]).max()) for a, b in pairwise(times)]


@pytest.mark.parametrize("path", paths(), ids=lambda path: type(path).__name__)
def test_no_pixel_moves_further_than_allowed_between_frames(path: Path) -> None:
    t = frame_times(path, 3_000, 300_000, SIZE)
    assert (t[0], t[-1], t.dtype) == (3_000, 300_000, np.int64)
    assert (np.diff(t) > 0).all()
    assert np.diff(t).max() <= 10_000
    steps = largest_steps(path, t.tolist())
    assert max(steps) <= 0.5 + 1e-6
    assert len(t) < 1.25 * sum(steps) / 0.5 + 40, "far more frames than the motion needs"


@given(
    waves=st.lists(st.tuples(st.floats(0, 0.08), st.floats(0, 30.0), st.floats(0, 6.3)), min_size=6, max_size=6),
    tilt=st.tuples(st.floats(-0.4, 0.4), st.floats(-0.4, 0.4)),
    pause=st.tuples(st.integers(0, 15_000), st.integers(1, 9_000)),
    start=st.integers(-(10**6), 10**6),
    limit=st.sampled_from([0.25, 0.5, 2.0]),
)
@settings(max_examples=30, deadline=None, derandomize=True)
def test_no_path_moves_any_pixel_further_than_allowed(
    waves: list[tuple[float, float, float]],
    tilt: tuple[float, float],
    pause: tuple[int, int],
    start: int,
    limit: float,
) -> None:
    size = (18, 24)
    begin, end, stop = start + pause[0], start + sum(pause), start + 25_000
    path = Paused(PlanarMotion(size, 25.0, tilt, np.array(waves)[:, None]), ((begin, end),))
    t = frame_times(path, start, stop, size, limit)
    assert {begin, end} <= set(t.tolist())
    points = np.stack([*np.indices(size)[::-1], np.ones(size)]).reshape(3, -1)
    back = np.linalg.inv(path.at(t[:-1]))
    for share, largest in ((1.0, limit * (1 + 1e-9)), (0.5, 1.05 * limit), (0.23, 1.05 * limit)):
        moved = path.at(t[:-1] + share * np.diff(t)) @ back @ points
        assert np.hypot(*(moved[:, :2] / moved[:, 2:] - points[:2]).transpose(1, 0, 2)).max() <= largest


def test_motion_that_turns_back_between_looks_is_seen() -> None:
    """At 0 and 1 ms the path is where it was, and between the two it went two steps out and back."""

    class Swing:
        def at(self, t_us: np.ndarray) -> np.ndarray:
            out = np.zeros((*np.shape(t_us), 3, 3)) + np.eye(3)
            out[..., 0, 2] = 20 * np.cos(2e-4 * np.pi * (np.asarray(t_us) - 500))
            return out

    t = frame_times(Swing(), 0, 20_000, SIZE)
    where = Swing().at(np.arange(20_001))[:, 0, 2]
    for a, b in pairwise(t.tolist()):
        assert np.abs(where[a : b + 1] - where[a]).max() <= 0.5 * 1.05


def test_a_long_clip_is_one_clip() -> None:
    path = saccades(3.0, leg_us=1_500_000)
    t = frame_times(path, 0, 2_500_000, SIZE)
    assert np.diff(t).max() <= 10_000
    assert max(largest_steps(path, t.tolist())) <= 0.5


def test_nothing_moves_on_the_path_at_rest() -> None:
    moved, valid = flow(Affine(), 0, 10**6, SIZE)
    assert not moved.any()
    assert valid.all()
    assert not velocity(Affine(), 5, SIZE).any()
    assert frame_times(Affine(), 0, 25_000, SIZE).tolist() == [0, 10_000, 20_000, 25_000]


def test_a_sudden_start_gets_its_frames() -> None:
    path = Paused(translation(2000.0, 0.0), ((0, 7_777),))
    t = frame_times(path, 0, 10_000, SIZE)
    assert 7_777 in t.tolist()
    assert (t < 7_777).sum() == 1
    assert (t > 7_777).sum() == pytest.approx(2.223 * 2 / 0.5, abs=2)


def test_flow_matches_the_path_point_by_point() -> None:
    path = random_planar_motion(generator(8), SIZE, 200_000, 300.0)
    got, valid = flow(path, 20_000, 70_000, SIZE)
    assert (got.shape, got.dtype, valid.dtype) == ((2, *SIZE), np.float32, np.bool_)
    h1, h2 = path.at(20_000), path.at(70_000)
    for y, x in [(0, 0), (47, 63), (20, 5), (11, 40)]:
        rest = np.linalg.solve(h1, [x, y, 1.0])
        end = h2 @ rest
        end = end[:2] / end[2]
        np.testing.assert_allclose(got[:, y, x], end - [x, y], atol=1e-4)
        assert valid[y, x] == bool((end >= 0).all() and end[0] <= 63 and end[1] <= 47)
    assert 0 < valid.mean() < 1


def test_flow_is_the_sum_of_small_steps_along_the_way() -> None:
    path = random_planar_motion(generator(5), SIZE, 200_000, 60.0, pause_probability=0.0)
    step = 100
    start = np.array([30.0, 20.0])
    point = start.copy()
    for t in range(50_000, 60_000, step):
        m = path.at(t + step) @ np.linalg.inv(path.at(t))
        moved = m @ [*point, 1.0]
        point = moved[:2] / moved[2]
    np.testing.assert_allclose(flow(path, 50_000, 60_000, SIZE)[0][:, 20, 30], point - start, atol=1e-5)


def test_forward_then_backward_is_nothing() -> None:
    import cv2

    path = random_planar_motion(generator(1), SIZE, 200_000, 100.0)
    there, lands = flow(path, 0, 90_000, SIZE)
    back, _ = flow(path, 90_000, 0, SIZE)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    returned = np.stack([cv2.remap(part, x + there[0], y + there[1], cv2.INTER_LINEAR) for part in back])
    assert lands.sum() > 1000
    assert np.abs(there).max() > 2
    # what is left is bilinear interpolation of a smooth field, and OpenCV's steps of 1/32 px
    assert np.abs(there + returned)[:, lands].max() < 0.02


@pytest.mark.parametrize("path", paths(), ids=lambda path: type(path).__name__)
def test_velocity_is_the_derivative_of_flow(path: Path) -> None:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float64)
    points = np.stack([x, y, np.ones(SIZE)]).reshape(3, -1)
    for t in (12_345, 61_234, 113_500):
        inverse, step = np.linalg.inv(path.at(t)), 30.0
        ends = [path.at(t + k * step) @ inverse @ points for k in (-2, -1, 1, 2)]
        at = [(end[:2] / end[2]).reshape(2, *SIZE) for end in ends]
        expected = (8 * (at[2] - at[1]) - (at[3] - at[0])) / (12e-6 * step)
        got = velocity(path, t, SIZE)
        assert (got.shape, got.dtype) == ((2, *SIZE), np.float32)
        fastest = np.abs(expected).max()
        assert np.abs(got - expected).max() <= 1e-5 * fastest + 1e-6
        if fastest > 1:
            short = flow(path, t, t + 10, SIZE)[0] / 1e-5
            assert np.abs(got - short).max() <= 0.02 * fastest


def test_velocity_is_zero_in_a_pause() -> None:
    path = Paused(translation(100.0, -50.0), ((1000, 2000),))
    np.testing.assert_allclose(velocity(path, 999, SIZE)[:, 3, 4], [100, -50])
    assert not velocity(path, 1000, SIZE).any()
    assert not velocity(path, 1999, SIZE).any()
    np.testing.assert_allclose(velocity(path, 2000, SIZE)[:, 3, 4], [100, -50])


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="t0 < t1"):
        frame_times(Affine(), 5, 5, SIZE)
    with pytest.raises(ValueError, match="step above 0"):
        frame_times(Affine(), 0, 5, SIZE, 0.0)
    with pytest.raises(ValueError, match="per microsecond"):
        frame_times(translation(10.0**6, 0.0), 0, 1000, SIZE)


def test_a_path_for_one_time_only_is_named() -> None:
    class Still:
        def at(self, t_us: float) -> np.ndarray:
            return np.eye(3)

    with pytest.raises(ValueError, match=r"path.at to return \(2, 3, 3\).*got \(3, 3\) from Still"):
        frame_times(Still(), 0, 1000, SIZE)
