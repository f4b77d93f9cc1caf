"""Random motions with a given mean speed in pixels per second."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from eventfm.simulation.homography import mean_steps
from eventfm.simulation.paths import Affine, Path, Paused, PlanarMotion


def mean_speed(path: Path, t0_us: float, t1_us: float, size: tuple[int, int]) -> float:
    """Return the speed of the pixels in px/s, averaged over a sensor of `size` (height, width) and [t0, t1]."""
    times = np.linspace(t0_us, t1_us, 257)
    return float(mean_steps(path.at(times), size).sum() / (t1_us - t0_us) * 1e6)


def random_planar_motion(
    rng: np.random.Generator,
    size: tuple[int, int],
    duration_us: int,
    speed_px_s: float,
    pause_probability: float = 0.2,
) -> PlanarMotion | Paused:
    """Return a random motion before a random plane with the given speed over the clip [0, `duration_us`].

    Args:
        rng: From `eventfm.random.generator`; equal generators give equal paths.
        size: Sensor height and width.
        duration_us: Length of the clip.
        speed_px_s: Length of the way of a pixel, averaged over the sensor and the time in motion.
        pause_probability: Chance that the clip has a pause, of at most 30 % of its length.

    Raises:
        ValueError: A duration or speed that is not positive.
    """
    _check(duration_us, speed_px_s)
    height, width = size
    focal = max(height, width) * rng.uniform(0.8, 1.6)
    reach = min(height, width) * rng.uniform(0.04, 0.16) / focal
    limits = np.array([reach, reach, 0.12, 0.6 * reach, 0.6 * reach, 0.15]) * rng.uniform(0.1, 1.0, 6)
    waves = np.empty((6, 4, 3))
    weights = rng.uniform(0.2, 1.0, (6, 4))
    waves[..., 0] = limits[:, None] * weights / weights.sum(axis=1, keepdims=True)
    waves[..., 1] = rng.uniform(0.2, 2.0, (6, 4))
    waves[..., 2] = rng.uniform(0, 2 * np.pi, (6, 4))
    tilt = float(rng.uniform(-0.35, 0.35)), float(rng.uniform(-0.35, 0.35))
    pauses = _random_pauses(rng, duration_us, pause_probability)
    slow = PlanarMotion(size, float(focal), tilt, waves)
    moving_s = _moving_us(duration_us, pauses) * 1e-6
    waves = waves.copy()
    waves[..., 1] *= _time_to_travel(slow, speed_px_s * moving_s) / moving_s
    path = replace(slow, waves=waves)
    return Paused(path, pauses) if pauses else path


def random_affine_motion(
    rng: np.random.Generator,
    size: tuple[int, int],
    duration_us: int,
    speed_px_s: float,
    kind: Literal["translation", "rotation", "zoom", "affine"] = "affine",
    pause_probability: float = 0.2,
) -> Affine | Paused:
    """Return a steady motion in a random direction with the given speed over the clip [0, `duration_us`].

    Rotation and zoom are about the centre of the sensor; the picture is at rest halfway through the motion.

    Args:
        rng: From `eventfm.random.generator`; equal generators give equal paths.
        size: Sensor height and width.
        duration_us: Length of the clip.
        speed_px_s: Length of the way of a pixel, averaged over the sensor and the time in motion.
        kind: One of the three alone, or all of them in random proportion.
        pause_probability: Chance that the clip has a pause, of at most 30 % of its length.

    Raises:
        ValueError: A duration or speed that is not positive, or another kind.
    """
    _check(duration_us, speed_px_s)
    if kind not in ("translation", "rotation", "zoom", "affine"):
        raise ValueError(f"expected kind to be 'translation', 'rotation', 'zoom' or 'affine', got {kind!r}")
    height, width = size
    pauses = _random_pauses(rng, duration_us, pause_probability)
    moving_us = _moving_us(duration_us, pauses)
    angle = rng.uniform(0, 2 * np.pi)
    spin, zoom = rng.choice([-1.0, 1.0], 2) * rng.uniform(0.2, 1.0, 2) * speed_px_s / max(size)
    path = Affine(
        velocity=(speed_px_s * np.cos(angle), speed_px_s * np.sin(angle))
        if kind in ("translation", "affine")
        else (0.0, 0.0),
        spin=float(spin) if kind in ("rotation", "affine") else 0.0,
        zoom=float(zoom) if kind in ("zoom", "affine") else 0.0,
        centre=((width - 1) / 2, (height - 1) / 2),
        rest_us=moving_us / 2,
    )
    for _ in range(4):  # speed is nearly in proportion to the rates: each round divides the error by ten or more
        factor = speed_px_s / mean_speed(path, 0, moving_us, size)
        vx, vy = path.velocity
        path = replace(path, velocity=(vx * factor, vy * factor), spin=path.spin * factor, zoom=path.zoom * factor)
    return Paused(path, pauses) if pauses else path


def _check(duration_us: int, speed_px_s: float) -> None:
    if duration_us <= 0 or not speed_px_s > 0:
        raise ValueError(f"expected a duration and a speed above 0, got {duration_us} us and {speed_px_s} px/s")


def _random_pauses(rng: np.random.Generator, duration_us: int, probability: float) -> tuple[tuple[int, int], ...]:
    """Return one pause of 5 to 30 % of the clip, or none."""
    if rng.uniform() >= probability:
        return ()
    length = int(duration_us * rng.uniform(0.05, 0.3))
    start = int(rng.uniform(0, duration_us - length))
    return ((start, start + length),) if length else ()


def _moving_us(duration_us: int, pauses: tuple[tuple[int, int], ...]) -> int:
    return duration_us - sum(stop - start for start, stop in pauses)


def _time_to_travel(path: PlanarMotion, distance_px: float) -> float:
    """Return after how many seconds the mean way of the pixels is `distance_px` long."""
    tick_s, num_ticks = 0.01, 256
    length, start = 0.0, 0
    while True:
        ticks = np.arange(start, start + num_ticks + 1) * tick_s
        way = length + np.concatenate([[0.0], np.cumsum(mean_steps(path.at(ticks * 1e6), path.size))])
        if way[-1] >= distance_px:
            return float(np.interp(distance_px, way, ticks))
        length, start = float(way[-1]), start + num_ticks
