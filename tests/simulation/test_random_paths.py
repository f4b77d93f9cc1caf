"""Random motions have the speed, the kind and the pauses that were asked for."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from eventfm.random import generator
from eventfm.simulation.motion import flow
from eventfm.simulation.paths import Affine, Path, Paused
from eventfm.simulation.random_paths import mean_speed, random_affine_motion, random_planar_motion

SIZE = (45, 60)


def travelled(path: Path, stop_us: int) -> float:
    """Return the way of the pixels averaged over all of them, in small steps."""
    times = np.linspace(0, stop_us, 1001)
    return float(sum(np.hypot(*flow(path, a, b, SIZE)[0]).mean() for a, b in pairwise(times)))


@pytest.mark.parametrize("speed", [10.0, 200.0, 1000.0])
@pytest.mark.parametrize("seed", range(3))
def test_planar_motion_has_the_speed_that_was_asked_for(speed: float, seed: int) -> None:
    path = random_planar_motion(generator(seed, "speed"), SIZE, 400_000, speed, pause_probability=1.0)
    assert isinstance(path, Paused)
    ((start, stop),) = path.pauses
    assert 0 <= start < stop <= 400_000
    assert np.array_equal(path.at(start), path.at(stop))
    assert abs(travelled(path, 400_000) / (speed * (400_000 - (stop - start)) * 1e-6) - 1) < 0.03


@pytest.mark.parametrize("kind", ["translation", "rotation", "zoom", "affine"])
@pytest.mark.parametrize(("speed", "pause"), [(30.0, 0.0), (400.0, 1.0)])
def test_affine_motion_has_the_speed_and_the_kind_that_were_asked_for(kind: str, speed: float, pause: float) -> None:
    for seed in range(3):
        path = random_affine_motion(generator(seed, "affine"), SIZE, 100_000, speed, kind, pause_probability=pause)
        still = sum(stop - start for start, stop in getattr(path, "pauses", ()))
        assert (still > 0) == bool(pause)
        assert abs(travelled(path, 100_000) / (speed * (100_000 - still) * 1e-6) - 1) < 0.03
        steady = path.path if isinstance(path, Paused) else path
        assert isinstance(steady, Affine)
        moves = (steady.velocity != (0.0, 0.0), steady.spin != 0, steady.zoom != 0)
        assert moves == (kind in ("translation", "affine"), kind in ("rotation", "affine"), kind in ("zoom", "affine"))
        np.testing.assert_allclose(steady.at((100_000 - still) / 2), np.eye(3), atol=1e-12)


def test_mean_speed_of_a_steady_shift() -> None:
    assert mean_speed(Affine(velocity=(30.0, 40.0)), 1000, 9000, SIZE) == pytest.approx(50.0)


def test_random_motion_depends_on_its_generator_only() -> None:
    for make in (random_planar_motion, random_affine_motion):
        one, two, other = (make(generator(s), SIZE, 10**5, 50.0) for s in (3, 3, 4))
        np.testing.assert_array_equal(one.at(12_345), two.at(12_345))
        assert not np.array_equal(one.at(12_345), other.at(12_345))


def test_bad_arguments_are_named() -> None:
    for make in (random_planar_motion, random_affine_motion):
        with pytest.raises(ValueError, match="speed above 0"):
            make(generator(0), SIZE, 1000, 0.0)
    with pytest.raises(ValueError, match="'zoom'"):
        random_affine_motion(generator(0), SIZE, 1000, 1.0, "shear")
