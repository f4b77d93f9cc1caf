"""Motion of a still picture before the sensor, as paths of homographies.

A path maps the sensor plane at rest to the sensor at time t: `at(t)` is the 3x3 H(t) with x(t) = H(t) x(rest), in
pixels with the centre of the top left pixel at (0, 0). Where the picture lies at rest is `render.Plane`'s business, so
a path does not depend on the resolution of the picture, and flow needs no picture at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eventfm.simulation.rigid import rotations

Matrix = NDArray[np.float64]

_DIFFERENCE_US = 10.0


class Path(Protocol):
    """Where the picture is at any time.

    A path that stops or starts dead may list those times as `kinks_us`; each of them becomes a frame.
    """

    def at(self, t_us: ArrayLike) -> Matrix:
        """Return H at times of any shape, (..., 3, 3) float64; (3, 3) for a single time."""
        ...


@runtime_checkable
class SmoothPath(Path, Protocol):
    """A path that knows how fast it goes."""

    def rate(self, t_us: float) -> Matrix:
        """Return dH/dt at one time, (3, 3) float64 per second."""
        ...


@dataclass(frozen=True)
class Affine:
    """Steady translation, rotation and zoom about a centre; the default is no motion."""

    velocity: tuple[float, float] = (0.0, 0.0)
    """Pixels per second to the right and down."""
    spin: float = 0.0
    """Radians per second, clockwise on the screen."""
    zoom: float = 0.0
    """Growth rate per second: the scale is exp(zoom t)."""
    centre: tuple[float, float] = (0.0, 0.0)
    """Fixed point (x, y) of rotation and zoom where the picture is at rest; moves along with the translation."""
    rest_us: float = 0.0
    """When the picture is at rest."""

    def at(self, t_us: ArrayLike) -> Matrix:
        """Return H, (..., 3, 3) float64."""
        t = (np.asarray(t_us, np.float64) - self.rest_us) * 1e-6
        scale = np.exp(self.zoom * t)
        cos, sin = scale * np.cos(self.spin * t), scale * np.sin(self.spin * t)
        (cx, cy), (vx, vy) = self.centre, self.velocity
        dx, dy = cx + vx * t - cos * cx + sin * cy, cy + vy * t - sin * cx - cos * cy
        return _affine(cos, -sin, dx, sin, cos, dy)

    def rate(self, t_us: float) -> Matrix:
        """Return dH/dt, (3, 3) float64 per second."""
        (cos, _, _), (sin, _, _), _ = self.at(t_us)
        dcos, dsin = self.zoom * cos - self.spin * sin, self.zoom * sin + self.spin * cos
        (cx, cy), (vx, vy) = self.centre, self.velocity
        return np.array(
            [[dcos, -dsin, vx - dcos * cx + dsin * cy], [dsin, dcos, vy - dsin * cx - dcos * cy], [0.0, 0.0, 0.0]]
        )


def translation(vx: float, vy: float) -> Affine:
    """Return the path of steady translation at `vx`, `vy` pixels per second, at rest at t = 0."""
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

    def at(self, t_us: ArrayLike) -> Matrix:
        """Return H, (..., 3, 3) float64."""
        start, share = self._leg(t_us)
        points = np.array(self.points, np.float64)
        offset = points[start] + ((1 - np.cos(np.pi * share)) / 2)[..., None] * (points[start + 1] - points[start])
        return _affine(1.0, 0.0, offset[..., 0], 0.0, 1.0, offset[..., 1])

    def rate(self, t_us: float) -> Matrix:
        """Return dH/dt, (3, 3) float64 per second."""
        start, share = self._leg(t_us)
        (x0, y0), (x1, y1) = self.points[start : start + 2]
        pace = np.pi / 2 * np.sin(np.pi * share) / (self.leg_us * 1e-6)
        out = np.zeros((3, 3))
        out[:2, 2] = pace * (x1 - x0), pace * (y1 - y0)
        return out

    def _leg(self, t_us: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Return the leg that each time is on, and the share of its time that has gone."""
        leg = np.clip(np.asarray(t_us, np.float64) / self.leg_us, 0.0, len(self.points) - 1)
        start = np.minimum(leg.astype(np.intp), len(self.points) - 2)
        return start, leg - start


def saccades(amplitude_px: float, leg_us: int = 100_000, speed_px_s: float | None = None) -> Waypoints:
    """Return three movements of 100 ms round a triangle, as N-MNIST and N-Caltech101 were recorded.

    The triangle is `amplitude_px` wide and high (Orchard et al., Frontiers in Neuroscience 2015, section 2).
    A mean speed takes the place of `leg_us` where it is given, here as in `square` and `omnidirectional`.
    """
    half = amplitude_px / 2
    return _tour([(-half, -half), (0.0, half), (half, -half), (-half, -half)], leg_us, speed_px_s)


def square(side_px: float, leg_us: int = 100_000, speed_px_s: float | None = None, turns: int = 1) -> Waypoints:
    """Return `turns` rounds along a square of `side_px`, centred, as N-ImageNet was recorded.

    Two motors on crossed racks moved the camera along one side after the other (Kim et al., ICCV 2021).
    """
    half = side_px / 2
    corners = [(-half, -half), (half, -half), (half, half), (-half, half)]
    return _tour([*(corners * turns), corners[0]], leg_us, speed_px_s)


def omnidirectional(step_px: float, leg_us: int = 10_000, speed_px_s: float | None = None) -> Waypoints:
    """Return the eight steps over a grid of 3 x 3 positions, `step_px` apart, that ES-ImageNet was made with.

    The positions are those of its omnidirectional discrete gradients (Lin et al., Frontiers in Neuroscience 2021);
    between them the picture is moved smoothly and does not jump, as nothing does before a sensor.
    """
    across, down = (1, 0, 2, 1, 0, 2, 1, 1, 2), (0, 2, 1, 0, 1, 2, 0, 1, 1)
    return _tour(
        [((x - 1) * step_px, (y - 1) * step_px) for x, y in zip(across, down, strict=True)], leg_us, speed_px_s
    )


@dataclass(frozen=True)
class Paused:
    """A path that stands still during `pauses` and afterwards goes on from where it stood."""

    path: Path
    pauses: tuple[tuple[int, int], ...]
    """Ranges [start, stop) in microseconds, in order and apart."""

    def __post_init__(self) -> None:
        edges = [edge for pause in self.pauses for edge in pause]
        if any(after <= before for before, after in pairwise(edges)):
            raise ValueError(f"expected pauses [start, stop) in order and apart, in microseconds, got {self.pauses}")

    def at(self, t_us: ArrayLike) -> Matrix:
        """Return H, (..., 3, 3) float64."""
        return self.path.at(self._clock(t_us))

    def rate(self, t_us: float) -> Matrix:
        """Return dH/dt, (3, 3) float64 per second: zero during a pause."""
        if any(start <= t_us < stop for start, stop in self.pauses):
            return np.zeros((3, 3))
        return derivative(self.path, float(self._clock(t_us)))

    @property
    def kinks_us(self) -> tuple[int, ...]:
        """Starts and ends of the pauses, and the kinks of the path itself."""
        own = [edge for pause in self.pauses for edge in pause]
        inner = [self._time(clock) for clock in getattr(self.path, "kinks_us", ())]
        return tuple(sorted({*own, *inner}))

    def _clock(self, t_us: ArrayLike) -> NDArray[np.float64]:
        """Return the time without the pauses."""
        t = np.asarray(t_us, np.float64)
        return t - sum(np.clip(t - start, 0, stop - start) for start, stop in self.pauses)

    def _time(self, clock_us: int) -> int:
        """Return the time at which the clock shows `clock_us`, the first one if it stands still there."""
        for start, stop in self.pauses:
            clock_us += stop - start if clock_us > start else 0
        return clock_us


@dataclass(frozen=True, eq=False)
class PlanarMotion:
    """A camera that moves in all six degrees of freedom before a plane, by sums of sinusoids.

    H = K (R(t) - T(t) n') inv(K), with the plane at distance 1 and n its normal scaled to n_z = 1.
    """

    size: tuple[int, int]
    """Sensor height and width."""
    focal_px: float
    tilt: tuple[float, float]
    """Slope of the plane to the right and down (x and y parts of n)."""
    waves: NDArray[np.float64]
    """(6, K, 3): amplitude, frequency in Hz and phase of the K sinusoids of T_x, T_y, T_z, R_x, R_y, R_z (radians)."""

    def at(self, t_us: ArrayLike) -> Matrix:
        """Return H, (..., 3, 3) float64."""
        t = np.asarray(t_us, np.float64)
        return self._homographies(t.ravel() * 1e-6).reshape(*t.shape, 3, 3)

    def rate(self, t_us: float) -> Matrix:
        """Return dH/dt, (3, 3) float64 per second.

        By a complex step, exact to rounding (Squire and Trapp, SIAM Review 1998): H(t + ih) = H(t) + ih H'(t).
        """
        tiny = 1e-30
        return self._homographies(np.array([t_us * 1e-6 + 1j * tiny]))[0].imag / tiny

    def _homographies(self, t_s: NDArray[Any]) -> NDArray[Any]:
        """Return H at times (N,) in seconds, real or complex: (N, 3, 3)."""
        amplitude, frequency, phase = np.moveaxis(self.waves, 2, 0)[..., None]
        values = (amplitude * np.sin(2 * np.pi * frequency * t_s + phase)).sum(axis=1)
        height, width = self.size
        f, cx, cy = self.focal_px, (width - 1) / 2, (height - 1) / 2
        camera = np.array([[f, 0.0, cx], [0.0, f, cy], [0.0, 0.0, 1.0]])
        inverse = np.array([[1 / f, 0.0, -cx / f], [0.0, 1 / f, -cy / f], [0.0, 0.0, 1.0]])
        out = camera @ (rotations(values[3:].T) - values[:3].T[:, :, None] * np.array([*self.tilt, 1.0])) @ inverse
        return out / out[:, 2:, 2:]


def derivative(path: Path, t_us: float) -> Matrix:
    """Return dH/dt of any path at one time, (3, 3) float64 per second.

    Exact if the path is a `SmoothPath`; else the central difference over 20 us, wrong by about the square of
    (2 pi f 10 us) / 6 for motion at frequency f: by 7e-6 of its size at 100 Hz.
    """
    if isinstance(path, SmoothPath):
        return path.rate(t_us)
    after, before = path.at(t_us + _DIFFERENCE_US), path.at(t_us - _DIFFERENCE_US)
    return (after - before) / (2e-6 * _DIFFERENCE_US)


def _tour(points: Sequence[tuple[float, float]], leg_us: int, speed_px_s: float | None) -> Waypoints:
    """Return the tour of `points`, at a mean speed if one is given."""
    if speed_px_s is not None:
        if not speed_px_s > 0:
            raise ValueError(f"expected a speed above 0, got {speed_px_s} px/s")
        way = sum(np.hypot(x1 - x0, y1 - y0) for (x0, y0), (x1, y1) in pairwise(points))
        leg_us = max(1, round(way / (len(points) - 1) / speed_px_s * 1e6))
    return Waypoints(tuple(points), leg_us)


def _affine(a: Any, b: Any, c: Any, d: Any, e: Any, f: Any) -> Matrix:
    """Return the matrices (..., 3, 3) with rows (a, b, c), (d, e, f), (0, 0, 1)."""
    entries = np.broadcast_arrays(a, b, c, d, e, f, 0.0, 0.0, 1.0)
    return np.stack(entries, axis=-1).reshape(*entries[0].shape, 3, 3)
