"""Bilinear views of a picture through homographies, compiled, straight into 16-bit or float frames."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

_RUN = 64
"""Pixels of a row whose positions are computed together."""
_BAND = 16
"""Rows that are written in all frames before the next ones: the part of the picture they show stays in the cache."""
_MARGIN = 0.01
"""Samples from the border within which float32 might stray over it."""
_LONGEST = 4096.0
"""Samples that a run may extend over for float32 to be much better than the margin."""
_FAR = 1e9

float32, int32, uint64 = np.float32, np.int32, np.uint64


@njit(nogil=True, cache=True, error_model="numpy")
def warp(
    light: NDArray[np.float32], backs: NDArray[np.float64], scale: np.float32, offset: np.float32, out: NDArray[Any]
) -> None:
    """Write what each homography shows of `light`, times `scale` plus `offset`, into `out`.

    Beyond its outermost samples the picture is mirrored, again and again; where a homography looks behind the camera,
    or a billion samples away, it shows zero. Positions are good to 2e-5 of a sample: along a row
    u = (a x + b) / (g x + c) is u(m) + (x - m) u'(m) / (1 + (x - m) g / (g m + c)), and in runs of pixels about a
    middle m the distances are short, so that float32 holds them.

    Args:
        light: (H', W') at least 2 x 2.
        backs: (F, 3, 3) from the pixels of a frame to those of `light`.
        scale: Factor on light.
        offset: Added after that; half a unit makes integers rounded and not cut.
        out: (F, H, W) of any dtype that holds the results.
    """
    rows, columns = light.shape
    samples = light.ravel()
    width, next_row = int32(columns), uint64(columns)
    right, bottom = columns - 1.0, rows - 1.0
    position = np.empty(_RUN, int32)
    share_x, share_y = np.empty(_RUN, float32), np.empty(_RUN, float32)
    upper, lower = np.empty(_RUN, float32), np.empty(_RUN, float32)
    num_frames, num_rows, num_columns = out.shape
    num_bands = -(-num_rows // _BAND)
    for step in range(num_bands * num_frames * _BAND):  # a band of rows, in each of them a frame, in that a row
        k, y = step // _BAND % num_frames, step // _BAND // num_frames * _BAND + step % _BAND
        if y >= num_rows:
            continue
        back = backs[k]
        bu, bv, bw = back[0, 1] * y + back[0, 2], back[1, 1] * y + back[1, 2], back[2, 1] * y + back[2, 2]
        for first in range(0, num_columns, _RUN):
            target = out[k, y, first : first + _RUN]
            last = first + len(target) - 1
            near, far = back[2, 0] * first + bw, back[2, 0] * last + bw
            u0, u1 = (back[0, 0] * first + bu) / near, (back[0, 0] * last + bu) / far
            v0, v1 = (back[1, 0] * first + bv) / near, (back[1, 0] * last + bv) / far
            # In front of the camera a run is seen as a straight piece: all of it lies between its two ends.
            u0, u1, v0, v1 = min(u0, u1), max(u0, u1), min(v0, v1), max(v0, v1)
            start = 0
            if not (near > 0 and far > 0 and u0 > -_FAR and u1 < _FAR and v0 > -_FAR and v1 < _FAR):
                _write_one_by_one(light, back, y, first, scale, offset, target)
                continue
            if (
                min(u0, v0) > _MARGIN
                and u1 < right - _MARGIN
                and v1 < bottom - _MARGIN
                and max(u1 - u0, v1 - v0) < _LONGEST
            ):
                middle, half = (first + last) / 2, float32((last - first) / 2)
                nearness = 1 / (back[2, 0] * middle + bw)
                u, v = (back[0, 0] * middle + bu) * nearness, (back[1, 0] * middle + bv) * nearness
                slope_x = float32((back[0, 0] - u * back[2, 0]) * nearness)
                slope_y = float32((back[1, 0] - v * back[2, 0]) * nearness)
                shrink = float32(back[2, 0] * nearness)
                left, above = int(u0), int(v0)
                start = above * columns + left
                centre_x, centre_y = float32(u - left), float32(v - above)
                for i in range(len(target)):  # short loops, each of one kind: the compiler makes vectors of them
                    distance = float32(int32(i)) - half
                    distance /= float32(1) + shrink * distance
                    x_here, y_here = centre_x + slope_x * distance, centre_y + slope_y * distance
                    column, row = int32(x_here), int32(y_here)
                    share_x[i], share_y[i] = x_here - float32(column), y_here - float32(row)
                    position[i] = row * width + column
            else:
                for i in range(len(target)):
                    x = float(int32(first) + int32(i))
                    w = back[2, 0] * x + bw
                    u = _fold((back[0, 0] * x + bu) / w, right)
                    v = _fold((back[1, 0] * x + bv) / w, bottom)
                    column, row = min(int32(u), width - int32(2)), min(int32(v), int32(rows) - int32(2))
                    share_x[i], share_y[i] = float32(u - column), float32(v - row)
                    position[i] = row * width + column
            near_by = samples[start:]
            for i in range(len(target)):
                at = uint64(position[i])  # unsigned, for numba takes signed ones to count from the end
                a = share_x[i]
                upper[i] = near_by[at] + a * (near_by[at + uint64(1)] - near_by[at])
                at += next_row
                lower[i] = near_by[at] + a * (near_by[at + uint64(1)] - near_by[at])
            for i in range(len(target)):
                target[i] = (upper[i] + share_y[i] * (lower[i] - upper[i])) * scale + offset


@njit(nogil=True, cache=True, error_model="numpy")
def _write_one_by_one(
    light: NDArray[np.float32],
    back: NDArray[np.float64],
    y: int,
    first: int,
    scale: np.float32,
    offset: np.float32,
    target: NDArray[Any],
) -> None:
    """Write a run of which some pixels look behind the camera, or too far."""
    rows, columns = light.shape
    for i in range(len(target)):
        x = first + i
        w = back[2, 0] * x + back[2, 1] * y + back[2, 2]
        u, v = (back[0, 0] * x + back[0, 1] * y + back[0, 2]) / w, (back[1, 0] * x + back[1, 1] * y + back[1, 2]) / w
        if not (w > 0 and abs(u) < _FAR and abs(v) < _FAR):
            target[i] = 0
            continue
        u, v = _fold(u, columns - 1.0), _fold(v, rows - 1.0)
        column, row = min(int(u), columns - 2), min(int(v), rows - 2)
        a, b = float32(u - column), float32(v - row)
        upper = light[row, column] + a * (light[row, column + 1] - light[row, column])
        lower = light[row + 1, column] + a * (light[row + 1, column + 1] - light[row + 1, column])
        target[i] = (upper + b * (lower - upper)) * scale + offset


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _fold(u: float, last: float) -> float:
    """Return where a coordinate comes to lie in [0, `last`] if a mirror stands at both ends.

    Mirrored samples interpolated at u are the samples interpolated at the folded u, for both run straight.
    """
    u = abs(u)
    u -= 2 * last * np.floor(u / (2 * last))
    return min(max(last - abs(u - last), 0.0), last)


@njit(nogil=True, cache=True, error_model="numpy")
def inside(back: NDArray[np.float64], shape: tuple[int, int], out: NDArray[np.bool_]) -> None:
    """Write into `out` (H, W) which pixels a homography `back` (3, 3) takes into a picture of `shape`.

    The picture reaches half a sample beyond the centres of its outermost samples.
    """
    bottom, right = shape[0] - 0.5, shape[1] - 0.5
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            w = back[2, 0] * x + back[2, 1] * y + back[2, 2]
            u, v = back[0, 0] * x + back[0, 1] * y + back[0, 2], back[1, 0] * x + back[1, 1] * y + back[1, 2]
            out[y, x] = (w > 0) & (u >= -0.5 * w) & (u <= right * w) & (v >= -0.5 * w) & (v <= bottom * w)
