"""Paths, frame times and flow against finite differences and dense checks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.random import generator
from eventfm.simulation.homography import displacement, displacement_bound
from eventfm.simulation.motion import (
    Affine,
    Path,
    PlanarMotion,
    Waypoints,
    flow,
    frame_times,
    random_planar_motion,
    saccades,
    translation,
)

SIZE = (48, 64)


def paths() -> list[Path]:
    return [
        Affine(velocity=(80.0, -30.0), spin=1.5, zoom=-0.7, centre=(31.5, 23.5)),
        translation(150.0, 40.0),
        saccades(6.0),
        *(random_planar_motion(generator(seed), SIZE, 300_000, 120.0, pause_probability=0.5) for seed in range(6)),
    ]


@pytest.mark.parametrize("path", paths(), ids=lambda path: type(path).__name__)
def test_no_pixel_moves_further_than_allowed_between_frames(path: Path) -> None:
    t = frame_times(path, 3_000, 300_000, SIZE)
    assert (t[0], t[-1], t.dtype) == (3_000, 300_000, np.int64)
    assert (np.diff(t) > 0).all()
    steps = [np.hypot(*flow(path, a, b, SIZE)[0]).max() for a, b in pairwise(t.tolist())]
    assert max(steps) <= 0.5 + 1e-6
    travelled = sum(steps)
    assert len(t) < 2 * travelled / 0.5 + 60, "far more frames than the motion needs"


@given(
    entries=st.lists(st.floats(-1, 1), min_size=8, max_size=8),
    strength=st.sampled_from([1e-6, 1e-4, 1e-3]),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_the_bound_holds_at_every_pixel_and_is_tight(entries: list[float], strength: float) -> None:
    a = np.array([*entries, 0.0]).reshape(3, 3)
    m = np.eye(3) + a * np.array([[0.02, 0.02, 3.0], [0.02, 0.02, 3.0], [strength, strength, 0.0]])
    moved, _ = displacement(m, SIZE)
    largest = float(np.hypot(*moved.astype(np.float64)).max())
    bound = displacement_bound(m, *SIZE)
    assert largest <= bound * (1 + 1e-6) + 1e-9
    assert bound <= 1.05 * largest + 0.02


def test_the_bound_sees_a_peak_inside_the_sensor() -> None:
    # shrinking towards both ends along x while shifted: the largest displacement is near the middle, not at a corner
    centre = np.array([[1, 0, -32], [0, 1, -24], [0, 0, 1.0]])
    m = np.linalg.inv(centre) @ np.array([[1, 0, 1.5], [0, 1, 0], [0.0015, 0, 1.0]]) @ centre
    m /= m[2, 2]
    size = np.hypot(*displacement(m, SIZE)[0])
    assert size[:, 1:-1].max() > max(size[:, 0].max(), size[:, -1].max()) + 0.1
    assert displacement_bound(m, *SIZE) >= size.max()


def test_a_point_behind_the_camera_has_no_bound() -> None:
    assert displacement_bound(np.array([[1, 0, 0], [0, 1, 0], [-0.1, 0, 1.0]]), *SIZE) == np.inf


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
    path = random_planar_motion(generator(1), SIZE, 200_000, 100.0)
    there, _ = flow(path, 0, 90_000, SIZE)
    x, y = 33, 17
    landed = np.array([x, y]) + there[:, y, x]
    m = path.at(0) @ np.linalg.inv(path.at(90_000))
    back = m @ [*landed, 1.0]
    np.testing.assert_allclose(back[:2] / back[2], [x, y], atol=1e-4)


def test_nothing_moves_on_the_path_at_rest() -> None:
    moved, valid = flow(Affine(), 0, 10**6, SIZE)
    assert not moved.any()
    assert valid.all()
    assert frame_times(Affine(), 0, 25_000, SIZE).tolist() == [0, 1000, 3000, 7000, 15000, 25000]


def test_affine_by_hand() -> None:
    path = Affine(velocity=(10.0, 20.0), spin=np.pi / 2, zoom=np.log(2.0), centre=(5.0, 5.0))
    one_second = path.at(10**6)
    # (7, 5) is 2 right of the centre: after a quarter turn clockwise and doubling 4 below it, then shifted
    np.testing.assert_allclose(one_second @ [7.0, 5.0, 1.0], [15.0, 29.0, 1.0], atol=1e-12)
    np.testing.assert_array_equal(path.at(0), np.eye(3))


def test_saccades_go_round_a_triangle_in_three_times_100_ms() -> None:
    path = saccades(8.0)
    corners = [path.at(t)[:2, 2].tolist() for t in (0, 100_000, 200_000, 300_000, 900_000)]
    np.testing.assert_allclose(corners, [[-4, -4], [0, 4], [4, -4], [-4, -4], [-4, -4]], atol=1e-12)
    np.testing.assert_allclose(path.at(50_000)[:2, 2], [-2, 0], atol=1e-12)
    with pytest.raises(ValueError, match="two points"):
        Waypoints(((0.0, 0.0),), 100)


@pytest.mark.parametrize("speed", [10.0, 200.0, 1000.0])
@pytest.mark.parametrize("seed", range(4))
def test_random_motion_has_the_speed_that_was_asked_for(speed: float, seed: int) -> None:
    size = (45, 60)
    path = random_planar_motion(generator(seed, "speed"), size, 400_000, speed, pause_probability=1.0)
    ((start, stop),) = path.pauses
    assert 0 <= start < stop <= 400_000
    assert np.array_equal(path.at(start), path.at(stop))
    t = np.linspace(0, 400_000, 801)
    way = sum(np.hypot(*flow(path, a, b, size)[0]).mean() for a, b in pairwise(t))
    assert abs(way / (speed * (400_000 - (stop - start)) * 1e-6) - 1) < 0.03


def test_random_motion_depends_on_its_generator_only() -> None:
    one, two, other = (random_planar_motion(generator(s), SIZE, 10**5, 50.0) for s in (3, 3, 4))
    np.testing.assert_array_equal(one.at(12_345), two.at(12_345))
    assert not np.array_equal(one.at(12_345), other.at(12_345))


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


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="t0 < t1"):
        frame_times(Affine(), 5, 5, SIZE)
    with pytest.raises(ValueError, match="per microsecond"):
        frame_times(translation(10.0**6, 0.0), 0, 1000, SIZE)
    with pytest.raises(ValueError, match="speed above 0"):
        random_planar_motion(generator(0), SIZE, 1000, 0.0)
