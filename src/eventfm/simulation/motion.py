"""Motion of a still picture before the sensor, as paths of homographies, and what follows exactly from a path.

A path maps the sensor plane at rest to the sensor at time t: `at(t)` is the 3x3 H(t) with x(t) = H(t) x(rest), in
pixels with the centre of the top left pixel at (0, 0). Where the picture lies at rest is `render.Plane`'s business, so
a path does not depend on the resolution of the picture, and flow needs no picture at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from eventfm.simulation.homography import between, displacement, displacement_bound, mean_steps

Matrix = NDArray[np.float64]

LONGEST_STEP_US = 10_000
"""Frames are at most this far apart, however slow the motion is."""


class Path(Protocol):
    """Where the picture is at any time."""

    def at(self, t_us: float) -> Matrix:
        """Return H(t), (3, 3) float64."""
        ...


@dataclass(frozen=True)
class Affine:
    """Steady translation, rotation and zoom about a centre, at rest at t = 0; the default is no motion."""

    velocity: tuple[float, float] = (0.0, 0.0)
    """Pixels per second to the right and down."""
    spin: float = 0.0
    """Radians per second, clockwise on the screen."""
    zoom: float = 0.0
    """Growth rate per second: the scale is exp(zoom t)."""
    centre: tuple[float, float] = (0.0, 0.0)
    """Fixed point (x, y) of rotation and zoom at t = 0; moves along with the translation."""

    def at(self, t_us: float) -> Matrix:
        """Return H(t), (3, 3) float64."""
        t = t_us * 1e-6
        scale = np.exp(self.zoom * t)
        cos, sin = scale * np.cos(self.spin * t), scale * np.sin(self.spin * t)
        (cx, cy), (vx, vy) = self.centre, self.velocity
        dx, dy = cx + vx * t - cos * cx + sin * cy, cy + vy * t - sin * cx - cos * cy
        return np.array([[cos, -sin, dx], [sin, cos, dy], [0.0, 0.0, 1.0]])


def translation(vx: float, vy: float) -> Affine:
    """Return the path of steady translation at `vx`, `vy` pixels per second."""
    return Affine(velocity=(vx, vy))


@dataclass(frozen=True)
class Waypoints:
    """Translation from point to point, each leg equally long and eased at both ends; still before and after."""

    points: tuple[tuple[float, float], ...]
    """Offsets (x, y) in pixels, at least two."""
    leg_us: int

    def __post_init__(self) -> None:
        if len(self.points) < 2 or self.leg_us <= 0:
            raise ValueError(f"expected two points or more and legs above 0 us, got {self.points}, {self.leg_us} us")

    def at(self, t_us: float) -> Matrix:
        """Return H(t), (3, 3) float64."""
        leg = min(max(t_us / self.leg_us, 0.0), len(self.points) - 1)
        start = min(int(leg), len(self.points) - 2)
        share = (1 - np.cos(np.pi * (leg - start))) / 2
        (x0, y0), (x1, y1) = self.points[start : start + 2]
        return np.array([[1.0, 0.0, x0 + share * (x1 - x0)], [0.0, 1.0, y0 + share * (y1 - y0)], [0.0, 0.0, 1.0]])


def saccades(amplitude_px: float, leg_us: int = 100_000) -> Waypoints:
    """Return three movements of 100 ms round a triangle, as N-MNIST and N-Caltech101 were recorded.

    The triangle is `amplitude_px` wide and high (Orchard et al., Frontiers in Neuroscience 2015, section 2).
    """
    half = amplitude_px / 2
    return Waypoints(((-half, -half), (0.0, half), (half, -half), (-half, -half)), leg_us)


@dataclass(frozen=True, eq=False)
class PlanarMotion:
    """A camera that moves in all six degrees of freedom before a plane, by sums of sinusoids, with pauses.

    H = K (R(s) - T(s) n') inv(K), with the plane at distance 1 and n its normal scaled to n_z = 1. The motion runs on
    its own clock s, which stands still during pauses.
    """

    size: tuple[int, int]
    """Sensor height and width."""
    focal_px: float
    tilt: tuple[float, float]
    """Slope of the plane to the right and down (x and y parts of n)."""
    waves: NDArray[np.float64]
    """(6, K, 3): amplitude, frequency in Hz and phase of the K sinusoids of T_x, T_y, T_z, R_x, R_y, R_z (radians)."""
    pauses: tuple[tuple[int, int], ...] = ()
    """Ranges [start, stop) in microseconds during which nothing moves, in order and apart."""

    def at(self, t_us: float) -> Matrix:
        """Return H(t), (3, 3) float64."""
        moving = t_us - sum(min(max(t_us - start, 0), stop - start) for start, stop in self.pauses)
        return self.at_clock(np.array([moving * 1e-6]))[0]

    def at_clock(self, clock_s: NDArray[np.float64]) -> Matrix:
        """Return H at times (N,) of the motion's own clock, in seconds: (N, 3, 3) float64."""
        amplitude, frequency, phase = np.moveaxis(self.waves, 2, 0)[..., None]
        values = (amplitude * np.sin(2 * np.pi * frequency * clock_s + phase)).sum(axis=1)
        height, width = self.size
        f, cx, cy = self.focal_px, (width - 1) / 2, (height - 1) / 2
        camera = np.array([[f, 0.0, cx], [0.0, f, cy], [0.0, 0.0, 1.0]])
        inverse = np.array([[1 / f, 0.0, -cx / f], [0.0, 1 / f, -cy / f], [0.0, 0.0, 1.0]])
        out = camera @ (_rotations(values[3:]) - values[:3].T[:, :, None] * np.array([*self.tilt, 1.0])) @ inverse
        return out / out[:, 2:, 2:]


def random_planar_motion(
    rng: np.random.Generator,
    size: tuple[int, int],
    duration_us: int,
    speed_px_s: float,
    pause_probability: float = 0.2,
) -> PlanarMotion:
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
    if duration_us <= 0 or not speed_px_s > 0:
        raise ValueError(f"expected a duration and a speed above 0, got {duration_us} us and {speed_px_s} px/s")
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
    pauses: tuple[tuple[int, int], ...] = ()
    if rng.uniform() < pause_probability:
        length = int(duration_us * rng.uniform(0.05, 0.3))
        start = int(rng.uniform(0, duration_us - length))
        pauses = ((start, start + length),)
    shape = PlanarMotion(size, float(focal), tilt, waves)
    moving_s = (duration_us - sum(stop - start for start, stop in pauses)) * 1e-6
    waves = waves.copy()
    waves[..., 1] *= _time_to_travel(shape, speed_px_s * moving_s) / moving_s
    return PlanarMotion(size, float(focal), tilt, waves, pauses)


def frame_times(
    path: Path, t0_us: int, t1_us: int, size: tuple[int, int], max_step_px: float = 0.5
) -> NDArray[np.int64]:
    """Return frame times from `t0_us` to `t1_us`, both included, between which no pixel moves further than allowed.

    Holds for every pixel of the sensor, by a proven bound (`homography.displacement_bound`), from a frame to the next
    and to the middle between the two. Half a pixel keeps 99 % of pixels exact; frames are at most 10 ms apart.

    Args:
        path: The motion.
        t0_us: First frame.
        t1_us: Last frame, later than the first.
        size: Sensor height and width.
        max_step_px: The largest displacement.

    Returns:
        (F,) int64 microseconds, strictly increasing.

    Raises:
        ValueError: An empty range, or motion that goes further than `max_step_px` within one microsecond.
    """
    if t1_us <= t0_us or not max_step_px > 0:
        raise ValueError(f"expected t0 < t1 and a step above 0, got [{t0_us}, {t1_us}] us and {max_step_px} px")
    times = [t0_us]
    here = path.at(t0_us)
    step = 1000
    while times[-1] < t1_us:
        now = times[-1]
        step = min(step, LONGEST_STEP_US, t1_us - now)
        while True:
            halfway, there = path.at(now + step / 2), path.at(now + step)
            moved = max(displacement_bound(between(here, h), *size) for h in (halfway, there))
            if moved <= max_step_px:
                break
            if step == 1:
                raise ValueError(
                    f"expected motion below {max_step_px} px per microsecond, got {moved:.3g} px at {now} us"
                )
            step = max(1, min(int(step * 0.95 * max_step_px / moved), step - 1))
        times.append(now + step)
        here = there
        step = max(1, min(2 * step, int(step * 0.95 * max_step_px / max(moved, 1e-12))))
    return np.array(times, np.int64)


def flow(path: Path, t1_us: int, t2_us: int, size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return where every pixel goes from `t1_us` to `t2_us`, exactly: pi(H(t2) inv(H(t1)) x) - x.

    Returns:
        Flow (2, H, W) float32 in pixels, (dx, dy), and (H, W) bool: the pixel stays on the sensor.
    """
    return displacement(between(path.at(t1_us), path.at(t2_us)), size)


def _time_to_travel(path: PlanarMotion, distance_px: float) -> float:
    """Return after how many seconds of the motion's clock the mean way of the pixels is `distance_px` long."""
    tick_s, num_ticks = 0.01, 256
    length, start = 0.0, 0
    while True:
        ticks = np.arange(start, start + num_ticks + 1) * tick_s
        way = length + np.concatenate([[0.0], np.cumsum(mean_steps(path.at_clock(ticks), path.size))])
        if way[-1] >= distance_px:
            return float(np.interp(distance_px, way, ticks))
        length, start = float(way[-1]), start + num_ticks


def _rotations(vectors: NDArray[np.float64]) -> Matrix:
    """Return the rotations by `vectors` (3, N), radians: (N, 3, 3) (Rodrigues' formula)."""
    angle = np.sqrt((vectors**2).sum(axis=0))[:, None, None]
    x, y, z = vectors
    o = np.zeros_like(x)
    cross = np.array([[o, -z, y], [z, o, -x], [-y, x, o]]).transpose(2, 0, 1)
    return np.eye(3) + np.sinc(angle / np.pi) * cross + np.sinc(angle / (2 * np.pi)) ** 2 / 2 * (cross @ cross)
