"""What a homography does to the pixels of a sensor: displacements, a proven bound on them, velocities, their mean."""

from __future__ import annotations

import math

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


def velocity_field(generator: Matrix, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the velocity of what each pixel sees, (2, H, W) float32 (vx, vy), for A = Hdot inv(H).

    v = (A x)_12 - x (A x)_3 with x = (x, y, 1): the derivative of pi(M x) where M is the identity and Mdot = A.
    """
    height, width = size
    x, y = np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)[:, None]
    along_x, along_y, depth = (row[0] * x + row[1] * y + row[2] for row in generator)
    return np.stack([along_x - x * depth, along_y - y * depth]).astype(np.float32)


def mean_steps(path: Matrix, size: tuple[int, int]) -> NDArray[np.float64]:
    """Return how far pixels go between neighbours of the homographies `path` (N, 3, 3), in pixels: (N - 1,).

    The mean over 64 points spread evenly over the sensor.
    """
    y, x = np.meshgrid(*((np.arange(_CELLS) + 0.5) / _CELLS * extent - 0.5 for extent in size), indexing="ij")
    points = np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    moved = path[1:] @ np.linalg.inv(path[:-1]) @ points
    return np.hypot(moved[:, 0] / moved[:, 2] - points[0], moved[:, 1] / moved[:, 2] - points[1]).mean(axis=1)


@njit(nogil=True, cache=True, error_model="numpy")
def displacement_bound(m: Matrix, height: int, width: int) -> float:
    """Return a bound on the displacement of any point of the sensor, in pixels; infinite if one leaves the front.

    The largest displacement over a grid of 9 x 9 points, plus what a smooth function can exceed its own bilinear
    interpolation by: (h_x^2 max|u_xx| + h_y^2 max|u_yy|) / 8 with cells h_x by h_y. A homography's second derivative
    is u_xx = -2 (g_x / w) u_x, its first is bounded through the corners of the sensor, where w and pi(M x), being
    monotone along lines, have their extremes. The excess is zero for affine motion and tiny for real ones.
    """
    right, bottom = width - 1.0, height - 1.0
    least_w = m[2, 2] + min(0.0, m[2, 0] * right) + min(0.0, m[2, 1] * bottom)
    if not least_w > 0:
        return np.inf
    farthest = largest_x = largest_y = 0.0
    for i in range(_CELLS + 1):
        y = i * bottom / _CELLS
        for j in range(_CELLS + 1):
            x = j * right / _CELLS
            nearness = 1 / (m[2, 0] * x + m[2, 1] * y + m[2, 2])
            to_x = (m[0, 0] * x + m[0, 1] * y + m[0, 2]) * nearness
            to_y = (m[1, 0] * x + m[1, 1] * y + m[1, 2]) * nearness
            farthest = max(farthest, (to_x - x) ** 2 + (to_y - y) ** 2)
            largest_x, largest_y = max(largest_x, abs(to_x)), max(largest_y, abs(to_y))
    excess = 0.0
    for axis, extent in ((0, right), (1, bottom)):
        slope = abs(m[2, axis]) / least_w
        first = math.hypot(abs(m[0, axis]) / least_w + largest_x * slope, abs(m[1, axis]) / least_w + largest_y * slope)
        excess += (extent / _CELLS) ** 2 * 2 * slope * first / 8
    return math.sqrt(farthest) + excess


@njit(nogil=True, cache=True, error_model="numpy")
def steps(path: Matrix, height: int, width: int) -> NDArray[np.float64]:
    """Return a bound on the displacement from each homography of `path` (N, 3, 3) to the next, (N - 1,) pixels."""
    out = np.empty(len(path) - 1)
    for k in range(len(out)):
        out[k] = displacement_bound(_between(path[k], path[k + 1]), height, width)
    return out


@njit(nogil=True, cache=True, error_model="numpy")
def stepping_stones(
    path: Matrix,
    times: NDArray[np.int64],
    forced: NDArray[np.bool_],
    size: tuple[int, int],
    max_step_px: float,
    longest_us: int,
) -> NDArray[np.int64]:
    """Return indices into `path` (N, 3, 3), as few as may be, between which no pixel goes further than `max_step_px`.

    Nor does one from an index to any `path` that is passed over. The first and the last index are included, and every
    one that is `forced`. Neighbours in `path` must be within `max_step_px` and `longest_us` of one another.
    """
    chosen = np.empty(len(path), np.int64)
    chosen[0] = here = 0
    count = 1
    for k in range(1, len(path)):
        if (
            times[k] - times[here] > longest_us
            or not displacement_bound(_between(path[here], path[k]), *size) <= max_step_px
        ):
            here = k - 1
            chosen[count] = here
            count += 1
        if forced[k] or k == len(path) - 1:
            here = k
            chosen[count] = here
            count += 1
    return chosen[:count]


@njit(nogil=True, cache=True, error_model="numpy")
def _between(before: Matrix, after: Matrix) -> Matrix:
    """Return after inv(before) with M[2, 2] = 1, by the matrix of cofactors."""
    a, b, c, d, e, f, g, h, i = before.ravel()
    inverse = np.array(
        [
            [e * i - f * h, c * h - b * i, b * f - c * e],
            [f * g - d * i, a * i - c * g, c * d - a * f],
            [d * h - e * g, b * g - a * h, a * e - b * d],
        ]
    )
    out = np.zeros((3, 3))
    for row in range(3):
        for k in range(3):
            for column in range(3):
                out[row, column] += after[row, k] * inverse[k, column]
    return out / out[2, 2]
