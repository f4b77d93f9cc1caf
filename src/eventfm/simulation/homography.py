"""What a homography does to the pixels of a sensor: displacements, a proven bound on them, their mean."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

_CELLS = 8


def between(before: Matrix, after: Matrix) -> Matrix:
    """Return the homography from the sensor at one time to the sensor at another: after inv(before), M[2, 2] = 1."""
    if np.array_equal(before, after):
        return np.eye(3)
    out = after @ np.linalg.inv(before)
    return out / out[2, 2]


def displacement(m: Matrix, size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return pi(M x) - x of every pixel, (2, H, W) float32 (dx, dy), and (H, W) bool: it lands on the sensor."""
    height, width = size
    x, y = np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)[:, None]
    depth = m[2, 0] * x + m[2, 1] * y + m[2, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        to_x = (m[0, 0] * x + m[0, 1] * y + m[0, 2]) / depth
        to_y = (m[1, 0] * x + m[1, 1] * y + m[1, 2]) / depth
    valid = (depth > 0) & (to_x >= 0) & (to_x <= width - 1) & (to_y >= 0) & (to_y <= height - 1)
    return np.stack([to_x - x, to_y - y]).astype(np.float32), valid


@njit(nogil=True, cache=True)
def displacement_bound(m: Matrix, height: int, width: int) -> float:
    """Return a bound on the displacement of any point of the sensor, in pixels; infinite if one leaves the front.

    The largest displacement over a grid of 9 x 9 points, plus what a smooth function can exceed its own bilinear
    interpolation by: (h_x^2 max|u_xx| + h_y^2 max|u_yy|) / 8 with cells h_x by h_y. A homography's second derivative
    is u_xx = -2 (g_x / w) u_x, its first is bounded through the corners of the sensor, where w and pi(M x), being
    monotone along lines, have their extremes. The excess is zero for affine motion and tiny for real ones.
    """
    farthest = least_w = largest_x = largest_y = 0.0
    for i in range(_CELLS + 1):
        y = i * (height - 1) / _CELLS
        for j in range(_CELLS + 1):
            x = j * (width - 1) / _CELLS
            w = m[2, 0] * x + m[2, 1] * y + m[2, 2]
            if w <= 0:
                return np.inf
            to_x = (m[0, 0] * x + m[0, 1] * y + m[0, 2]) / w
            to_y = (m[1, 0] * x + m[1, 1] * y + m[1, 2]) / w
            farthest = max(farthest, np.hypot(to_x - x, to_y - y))
            least_w = w if i == j == 0 else min(least_w, w)
            largest_x, largest_y = max(largest_x, abs(to_x)), max(largest_y, abs(to_y))
    excess = 0.0
    for axis, extent in ((0, width - 1), (1, height - 1)):
        slope = abs(m[2, axis]) / least_w
        first = np.hypot(abs(m[0, axis]) / least_w + largest_x * slope, abs(m[1, axis]) / least_w + largest_y * slope)
        excess += (extent / _CELLS) ** 2 * 2 * slope * first / 8
    return farthest + excess


def mean_steps(path: Matrix, size: tuple[int, int]) -> NDArray[np.float64]:
    """Return how far pixels go between neighbours of the homographies `path` (N, 3, 3), in pixels: (N - 1,).

    The mean over 64 points spread evenly over the sensor.
    """
    y, x = np.meshgrid(*((np.arange(_CELLS) + 0.5) / _CELLS * extent - 0.5 for extent in size), indexing="ij")
    points = np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    moved = path[1:] @ np.linalg.inv(path[:-1]) @ points
    return np.hypot(moved[:, 0] / moved[:, 2] - points[0], moved[:, 1] / moved[:, 2] - points[1]).mean(axis=1)
