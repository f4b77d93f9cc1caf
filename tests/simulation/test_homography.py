"""The bound on displacements and the velocity field against dense checks."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.simulation.homography import (
    between,
    displacement,
    displacement_bound,
    mean_steps,
    stepping_stones,
    steps,
    velocity_field,
)

SIZE = (48, 64)

homographies = st.builds(
    lambda entries, strength: (
        np.eye(3)
        + np.array([*entries, 0.0]).reshape(3, 3)
        * np.array([[0.02, 0.02, 3.0], [0.02, 0.02, 3.0], [strength, strength, 0.0]])
    ),
    st.lists(st.floats(-1, 1), min_size=8, max_size=8),
    st.sampled_from([1e-6, 1e-4, 1e-3]),
)


@given(m=homographies)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_the_bound_holds_at_every_pixel_and_is_tight(m: np.ndarray) -> None:
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
    assert displacement_bound(np.full((3, 3), np.nan), *SIZE) == np.inf


@given(before=homographies, after=homographies)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_steps_are_bounds_between_neighbours(before: np.ndarray, after: np.ndarray) -> None:
    got = steps(np.stack([before, after, before]), *SIZE)
    np.testing.assert_allclose(got[0], displacement_bound(between(before, after), *SIZE), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(got[1], displacement_bound(between(after, before), *SIZE), rtol=1e-9, atol=1e-12)


def test_stones_are_passed_over_only_while_all_are_near() -> None:
    # along x: 0, 0.2, 0.4, 0.9 (out and) back to 0.5, 0.6; then time runs out; then one is forced
    path = np.repeat(np.eye(3)[None], 9, 0)
    path[:, 0, 2] = [0, 0.2, 0.4, 0.9, 0.5, 0.6, 0.6, 0.6, 0.6]
    times = np.array([0, 1, 2, 3, 4, 5, 106, 107, 108])
    forced = np.array([0, 0, 0, 0, 0, 0, 0, 1, 0], bool)
    chosen = stepping_stones(path, times, forced, SIZE, 0.5, 102)
    assert chosen.tolist() == [0, 2, 5, 7, 8]


@given(a=homographies)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_the_velocity_field_is_the_derivative_of_the_displacement(a: np.ndarray) -> None:
    generator, step = a - np.eye(3), 1e-6
    after, before = (displacement(np.eye(3) + s * generator, SIZE)[0].astype(np.float64) for s in (step, -step))
    # float32 displacements of at most 1e-4 px, so good to 1e-11 / 1e-6
    np.testing.assert_allclose(velocity_field(generator, SIZE), (after - before) / (2 * step), atol=1e-3, rtol=1e-4)


def test_mean_steps_of_a_shift_are_its_length() -> None:
    path = np.repeat(np.eye(3)[None], 3, 0)
    path[:, :2, 2] = [[0, 0], [3, 4], [3, 5]]
    np.testing.assert_allclose(mean_steps(path, SIZE), [5, 1])
