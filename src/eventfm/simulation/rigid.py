"""A moving camera before moving planes in space, in metres: from this one geometry come motion, depth and order.

The world has x to the right, y down and z ahead of the camera at rest; so has the camera, with its eye at the origin.
A plane carries coordinates (a, b) in metres along the first two axes of its body; the third axis points away from the
camera. With K the camera, R_c, P_c and R_b, P_b the attitudes and positions of camera and body,

    G(t) = K R_c' [R_b e1, R_b e2, P_b - P_c]   takes   (a, b, 1)   to   depth (x, y, 1),

so that pixels move by H = G(t) inv(G(rest)), and 1 / depth is the third component of inv(G(t)) (x, y, 1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Body:
    """A rigid body that sways about a place, by sums of sinusoids."""

    position: Matrix
    """(3,) metres."""
    attitude: Matrix
    """(3, 3) rotation; its columns are the body's axes in the world."""
    waves: Matrix
    """(6, K, 3): amplitude, frequency in Hz and phase at t = 0 of K sinusoids of x, y, z (metres, along the axes of the
    world) and of the rotation about the body's own three axes (radians)."""

    def poses(self, t_us: ArrayLike) -> tuple[Matrix, Matrix]:
        """Return attitudes (..., 3, 3) and positions (..., 3) at times of any shape, microseconds."""
        amplitude, frequency, phase = np.moveaxis(self.waves, 2, 0)
        seconds = np.asarray(t_us, np.float64)[..., None, None] * 1e-6
        values = (amplitude * np.sin(2 * np.pi * frequency * seconds + phase)).sum(axis=-1)
        return self.attitude @ rotations(values[..., 3:]), self.position + values[..., :3]

    def paced(self, factor: float, t_us: float) -> Body:
        """Return the body moving `factor` times as fast along the same way, in the same pose at `t_us`."""
        waves = self.waves.copy()
        waves[..., 1] *= factor
        waves[..., 2] += 2 * np.pi * (self.waves[..., 1] - waves[..., 1]) * t_us * 1e-6
        return replace(self, waves=waves)


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera with square pixels, its axis through the centre of the sensor."""

    size: tuple[int, int]
    """Sensor height and width, pixels."""
    focal_px: float
    body: Body

    @cached_property
    def matrix(self) -> Matrix:
        """K, (3, 3)."""
        height, width = self.size
        return np.array([[self.focal_px, 0, (width - 1) / 2], [0, self.focal_px, (height - 1) / 2], [0, 0, 1.0]])

    def projections(self, body: Body, t_us: ArrayLike) -> Matrix:
        """Return G of the plane of a body at times of any shape, (..., 3, 3): metres on it to depth times pixels."""
        own, eye = self.body.poses(t_us)
        attitudes, positions = body.poses(t_us)
        plane = np.concatenate([attitudes[..., :2], (positions - eye)[..., None]], axis=-1)
        return self.matrix @ np.swapaxes(own, -1, -2) @ plane


@dataclass(frozen=True, eq=False)
class Card:
    """The plane of a body before a camera (a `layers.Surface`)."""

    camera: Camera
    body: Body
    rest_us: float
    """When pixels are at rest."""

    @cached_property
    def from_rest(self) -> Matrix:
        """(3, 3): pixels at rest to metres on the plane, over depth."""
        return np.linalg.inv(self.camera.projections(self.body, self.rest_us))

    def at(self, t_us: ArrayLike) -> Matrix:
        """Return H, (..., 3, 3) float64; the third component is the depth over the depth at rest."""
        return self.camera.projections(self.body, t_us) @ self.from_rest

    def inverse_depth(self, t_us: ArrayLike) -> Matrix:
        """Return n (..., 3) float64, per metre, with 1 / depth = n (x, y, 1)."""
        return np.linalg.inv(self.camera.projections(self.body, t_us))[..., 2, :]


def rotations(vectors: ArrayLike) -> Matrix:
    """Return the rotations by `vectors` (..., 3), radians, real or complex: (..., 3, 3) (Rodrigues' formula)."""
    vectors = np.asarray(vectors)
    angle = np.sqrt((vectors**2).sum(axis=-1))[..., None, None]
    cross = np.zeros((*vectors.shape, 3), np.result_type(vectors, np.float64))
    cross[..., 2, 1], cross[..., 0, 2], cross[..., 1, 0] = np.moveaxis(vectors, -1, 0)
    cross -= np.swapaxes(cross, -1, -2)
    return np.eye(3) + np.sinc(angle / np.pi) * cross + np.sinc(angle / (2 * np.pi)) ** 2 / 2 * (cross @ cross)


def random_waves(
    rng: np.random.Generator, limits: tuple[float, ...], frequency_hz: tuple[float, float] = (0.5, 1.5)
) -> Matrix:
    """Return three sinusoids for each of six channels (`Body.waves`), whose sums stay within `limits` (6,)."""
    waves = np.empty((6, 3, 3))
    weights = rng.uniform(0.2, 1.0, (6, 3))
    waves[..., 0] = np.array(limits)[:, None] * weights / weights.sum(axis=1, keepdims=True)
    waves[..., 1] = rng.uniform(*frequency_hz, (6, 3))
    waves[..., 2] = rng.uniform(0, 2 * np.pi, (6, 3))
    return waves


AT_REST: Matrix = np.zeros((6, 1, 3))
"""Waves of a body that does not move."""
