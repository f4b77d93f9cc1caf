"""Paths by hand, against projected points, and against finite differences of themselves."""

from __future__ import annotations

import numpy as np
import pytest

from eventfm.random import generator
from eventfm.simulation.paths import (
    Affine,
    Path,
    Paused,
    PlanarMotion,
    SmoothPath,
    Waypoints,
    derivative,
    omnidirectional,
    saccades,
    square,
    translation,
)
from eventfm.simulation.random_paths import random_planar_motion

SIZE = (48, 64)


def paths() -> list[Path]:
    planar = random_planar_motion(generator(7), SIZE, 300_000, 200.0, pause_probability=0.0)
    return [
        Affine(velocity=(80.0, -30.0), spin=1.5, zoom=-0.7, centre=(31.5, 23.5), rest_us=40_000.0),
        translation(150.0, 40.0),
        saccades(6.0),
        square(9.0, turns=2),
        omnidirectional(2.0),
        planar,
        Paused(planar, ((20_000, 50_000), (90_000, 90_500))),
    ]


def offsets(path: Path, times: list[int]) -> list[list[float]]:
    return path.at(times)[:, :2, 2].tolist()


@pytest.mark.parametrize("path", paths(), ids=lambda path: type(path).__name__)
def test_many_times_at_once_are_each_time_alone(path: Path) -> None:
    times = np.array([[0, 10_500, 60_000], [90_250, 120_001, 299_999]])
    together = path.at(times)
    assert together.shape == (2, 3, 3, 3)
    assert together.dtype == np.float64
    for index in np.ndindex(times.shape):
        alone = path.at(int(times[index]))
        assert alone.shape == (3, 3)
        np.testing.assert_allclose(together[index], alone, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("path", paths(), ids=lambda path: type(path).__name__)
@pytest.mark.parametrize("t_us", [5_000, 33_000, 71_234, 110_000])
def test_the_rate_is_the_finite_difference(path: Path, t_us: int) -> None:
    step = 20.0
    at = [path.at(t_us + k * step) for k in (-2, -1, 1, 2)]
    expected = (8 * (at[2] - at[1]) - (at[3] - at[0])) / (12e-6 * step)  # of fourth order
    assert isinstance(path, SmoothPath)
    np.testing.assert_allclose(path.rate(t_us), expected, rtol=1e-6, atol=1e-6)


def test_a_path_without_a_rate_gets_a_central_difference() -> None:
    class Swing:
        """10 px to and fro, 100 times a second."""

        def at(self, t_us: float) -> np.ndarray:
            out = np.eye(3)
            out[0, 2] = 10 * np.sin(2e-4 * np.pi * t_us)
            return out

    for t in (0.0, 1_300.0, 47_777.0):
        expected = 10 * 200 * np.pi * np.cos(2e-4 * np.pi * t)
        assert abs(derivative(Swing(), t)[0, 2] - expected) <= 7e-6 * 2000 * np.pi
    assert derivative(Paused(Swing(), ((10, 20),)), 15.0)[0, 2] == 0


def test_affine_by_hand() -> None:
    path = Affine(velocity=(10.0, 20.0), spin=np.pi / 2, zoom=np.log(2.0), centre=(5.0, 5.0))
    one_second = path.at(10**6)
    # (7, 5) is 2 right of the centre: after a quarter turn clockwise and doubling 4 below it, then shifted
    np.testing.assert_allclose(one_second @ [7.0, 5.0, 1.0], [15.0, 29.0, 1.0], atol=1e-12)
    np.testing.assert_array_equal(path.at(0), np.eye(3))
    later = Affine(velocity=(10.0, 20.0), rest_us=500_000.0)
    np.testing.assert_array_equal(later.at(500_000), np.eye(3))
    np.testing.assert_allclose(later.at(0)[:2, 2], [-5, -10])


def test_saccades_go_round_a_triangle_in_three_times_100_ms() -> None:
    path = saccades(8.0)
    corners = offsets(path, [0, 100_000, 200_000, 300_000, 900_000])
    np.testing.assert_allclose(corners, [[-4, -4], [0, 4], [4, -4], [-4, -4], [-4, -4]], atol=1e-12)
    np.testing.assert_allclose(path.at(50_000)[:2, 2], [-2, 0], atol=1e-12)


def test_square_goes_round_its_corners() -> None:
    path = square(6.0, leg_us=1000, turns=2)
    corners = [[-3, -3], [3, -3], [3, 3], [-3, 3]]
    np.testing.assert_allclose(
        offsets(path, [1000 * k for k in range(10)]), [*corners, *corners, corners[0], corners[0]]
    )
    np.testing.assert_allclose(path.at(1500)[:2, 2], [3, 0], atol=1e-12)


def test_omnidirectional_steps_visit_the_nine_positions_of_es_imagenet() -> None:
    got = np.array(offsets(omnidirectional(1.0, leg_us=1000), [1000 * k for k in range(9)])) + 1
    np.testing.assert_allclose(got[:, 0], [1, 0, 2, 1, 0, 2, 1, 1, 2], atol=1e-12)
    np.testing.assert_allclose(got[:, 1], [0, 2, 1, 0, 1, 2, 0, 1, 1], atol=1e-12)
    np.testing.assert_allclose(offsets(omnidirectional(3.0, leg_us=1000), [1000]), [[-3, 3]], atol=1e-12)


@pytest.mark.parametrize("make", [saccades, square, omnidirectional])
def test_tours_have_the_mean_speed_that_was_asked_for(make: object) -> None:
    path = make(5.0, speed_px_s=120.0)
    stop = path.leg_us * (len(path.points) - 1)
    fine = path.at(np.linspace(0, stop, 20_001))[:, :2, 2]
    way = np.hypot(*np.diff(fine, axis=0).T).sum()
    assert way / stop * 1e6 == pytest.approx(120.0, rel=1e-3)
    np.testing.assert_array_equal(path.at(stop), path.at(stop + 10**6))


def test_a_pause_stops_the_clock() -> None:
    path = Paused(translation(1000.0, 0.0), ((1000, 3000), (5000, 6000)))
    times = [0, 999, 1000, 2000, 3000, 4000, 5000, 5500, 6000, 7000]
    np.testing.assert_allclose([x for x, _ in offsets(path, times)], [0, 0.999, 1, 1, 1, 2, 3, 3, 3, 4], atol=1e-12)
    rates = [path.rate(t)[0, 2] for t in times]
    np.testing.assert_allclose(rates, [1000, 1000, 0, 0, 1000, 1000, 0, 0, 1000, 1000])
    assert path.kinks_us == (1000, 3000, 5000, 6000)
    # the clock of the pauses outside runs through those inside: at 3000 outside it is 1000 inside
    nested = Paused(path, ((500, 2500),))
    assert nested.kinks_us == (500, 2500, 3000, 5000, 7000, 8000)
    still = nested.at(nested.kinks_us)[:, 0, 2]
    np.testing.assert_allclose(still, [0.5, 0.5, 1, 1, 3, 3])


def test_planar_motion_is_a_camera_before_a_plane() -> None:
    """Project points of the tilted plane with the camera's pose; the homography must map between the pictures."""
    waves = np.zeros((6, 1, 3))
    waves[:, 0, 0] = [0.05, -0.03, 0.08, 0.02, -0.04, 0.06]
    waves[:, 0, 1] = 0.25
    waves[:, 0, 2] = np.pi / 2
    path = PlanarMotion(SIZE, 70.0, (0.2, -0.1), waves)
    rotation_vector, shift = waves[3:, 0, 0], waves[:3, 0, 0]
    import cv2

    rotation = cv2.Rodrigues(rotation_vector)[0]
    camera = np.array([[70, 0, 31.5], [0, 70, 23.5], [0, 0, 1.0]])
    for ray in ([0.1, 0.2, 1.0], [-0.3, 0.15, 1.0], [0.0, 0.0, 1.0]):
        point = np.array(ray) / np.dot(ray, [0.2, -0.1, 1.0])  # on the plane n'X = 1
        seen_at_rest, seen_later = camera @ point, camera @ (rotation @ point - shift)
        mapped = path.at(0) @ (seen_at_rest / seen_at_rest[2])
        np.testing.assert_allclose(mapped[:2] / mapped[2], seen_later[:2] / seen_later[2], atol=1e-9)


def test_a_camera_that_does_not_turn_has_a_rate_too() -> None:
    waves = np.zeros((6, 1, 3))
    waves[0] = [0.05, 1.0, 0.0]
    rate = PlanarMotion(SIZE, 70.0, (0.0, 0.0), waves).rate(0.0)
    expected = np.zeros((3, 3))
    expected[0, 2] = -70 * 0.05 * 2 * np.pi
    np.testing.assert_allclose(rate, expected, atol=1e-12)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="two points"):
        Waypoints(((0.0, 0.0),), 100)
    with pytest.raises(ValueError, match="speed above 0"):
        square(5.0, speed_px_s=-1.0)
    for pauses in (((10, 10),), ((10, 30), (20, 40)), ((50, 60), (10, 20)), ((10, 20), (20, 30))):
        with pytest.raises(ValueError, match="in order and apart"):
            Paused(translation(1.0, 0.0), pauses)
