"""Compiled loops over the pixels of layers: painting a texture on a canvas, laying canvases over frames."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from eventfm.simulation.homography import displacement_bound

Frames = NDArray[np.float32]
Picture = NDArray[np.float32]
Matrix = NDArray[np.float64]
Boxes = NDArray[np.int64]
"""(F, 4): first and last + 1 of the columns, then of the rows, on the sensor; empty where the layer is elsewhere."""

_BLOCK = 8


@njit(nogil=True, cache=True, error_model="numpy")
def paint(texels: Picture, levels: NDArray[np.int64], to_texture: Matrix, out: Picture) -> None:
    """Write the texture as seen from a canvas `out` (R, C) with the homography `to_texture` from canvas to texels.

    Bilinear from the level whose texels are nearest in size to a sample of the canvas, the area under it being
    |det M| / w^3; the texture goes on beyond its borders as its own mirror image.
    """
    rows, columns = out.shape
    m = to_texture
    area = abs(np.linalg.det(m))
    num_levels = len(levels)
    for y in range(rows):
        for left in range(0, columns, _BLOCK):
            right = min(left + _BLOCK, columns)
            w = abs(m[2, 0] * (left + right - 1) / 2 + m[2, 1] * y + m[2, 2])
            level = min(max(math.floor(0.5 * math.log2(area / (w * w * w)) + 0.5), 0), num_levels - 1)
            start, height, width = levels[level]
            scale_x, scale_y = width / levels[0, 2], height / levels[0, 1]
            for x in range(left, right):
                over = 1.0 / (m[2, 0] * x + m[2, 1] * y + m[2, 2])
                u = ((m[0, 0] * x + m[0, 1] * y + m[0, 2]) * over + 0.5) * scale_x - 0.5
                v = ((m[1, 0] * x + m[1, 1] * y + m[1, 2]) * over + 0.5) * scale_y - 0.5
                i, j = math.floor(u), math.floor(v)
                a, b = np.float32(u - i), np.float32(v - j)
                top = start + _mirrored(j, height) * width
                bottom = start + _mirrored(j + 1, height) * width
                i, k = _mirrored(i, width), _mirrored(i + 1, width)
                upper = texels[top + i] + a * (texels[top + k] - texels[top + i])
                lower = texels[bottom + i] + a * (texels[bottom + k] - texels[bottom + i])
                out[y, x] = upper + b * (lower - upper)


@njit(nogil=True, cache=True, error_model="numpy")
def lay_over(frames: Frames, light: Picture, alpha: Picture, back: Matrix, boxes: Boxes) -> None:
    """Lay the canvas `light`, already multiplied by its opacity `alpha`, over each frame: light + (1 - alpha) frame.

    Only the boxes (F, 4) of the frames (F, H, W) are touched; `back` (F, 3, 3) goes from the sensor to the canvas.
    """
    for f in range(len(frames)):
        m = back[f]
        for y in range(boxes[f, 2], boxes[f, 3]):
            for x in range(boxes[f, 0], boxes[f, 1]):
                i, j, a, b = _place(m, x, y, alpha.shape)
                opacity = _bilinear(alpha, i, j, a, b)
                if opacity > 0:
                    frames[f, y, x] = _bilinear(light, i, j, a, b) + (np.float32(1) - opacity) * frames[f, y, x]


@njit(nogil=True, cache=True, error_model="numpy")
def opacities(alpha: Picture, back: Matrix, x: Picture, y: Picture, out: Picture) -> None:
    """Write the opacity of a canvas at points `x`, `y` (N,) of the sensor into `out` (N,); `back` is (3, 3)."""
    for n in range(len(out)):
        i, j, a, b = _place(back, x[n], y[n], alpha.shape)
        out[n] = _bilinear(alpha, i, j, a, b)


@njit(nogil=True, cache=True, error_model="numpy")
def to_16_bit(frames: Frames, out: NDArray[np.uint16]) -> None:
    """Write `frames` (F, H, W) in [0, 1] into `out` in steps of 1 / 65535, to the nearest."""
    for f in range(len(frames)):
        for y in range(frames.shape[1]):
            for x in range(frames.shape[2]):
                value = frames[f, y, x] * np.float32(65535) + np.float32(0.5)
                out[f, y, x] = np.uint16(min(max(value, np.float32(0)), np.float32(65535)))


@njit(nogil=True, cache=True, error_model="numpy")
def box_steps(moves: Matrix, boxes: Boxes) -> NDArray[np.float64]:
    """Return a bound on how far `moves` (N, 3, 3) carry any pixel of `boxes` (N, 4), (N,); 0 for an empty box."""
    out = np.zeros(len(moves))
    for n in range(len(out)):
        left, right, top, bottom = boxes[n]
        if right <= left or bottom <= top:
            continue
        m = moves[n].copy()
        # The same motion in coordinates that start at the corner of the box: T(-corner) M T(corner).
        m[:, 2] += m[:, 0] * left + m[:, 1] * top
        m[0] -= left * m[2]
        m[1] -= top * m[2]
        out[n] = displacement_bound(m, bottom - top, right - left)
    return out


@njit(nogil=True, cache=True, error_model="numpy")
def _place(m: Matrix, x: float, y: float, shape: tuple[int, int]) -> tuple[int, int, np.float32, np.float32]:
    """Return the sample (i, j) left above where pixel (x, y) looks on a canvas, and the way (a, b) from it."""
    over = 1.0 / (m[2, 0] * x + m[2, 1] * y + m[2, 2])
    u = min(max((m[0, 0] * x + m[0, 1] * y + m[0, 2]) * over, 0.0), shape[1] - 1.0)
    v = min(max((m[1, 0] * x + m[1, 1] * y + m[1, 2]) * over, 0.0), shape[0] - 1.0)
    i, j = min(int(u), shape[1] - 2), min(int(v), shape[0] - 2)
    return i, j, np.float32(u - i), np.float32(v - j)


@njit(nogil=True, cache=True, error_model="numpy")
def _bilinear(canvas: Picture, i: int, j: int, a: np.float32, b: np.float32) -> np.float32:
    upper = canvas[j, i] + a * (canvas[j, i + 1] - canvas[j, i])
    lower = canvas[j + 1, i] + a * (canvas[j + 1, i + 1] - canvas[j + 1, i])
    return upper + b * (lower - upper)


@njit(nogil=True, cache=True, error_model="numpy")
def _mirrored(i: int, extent: int) -> int:
    i %= 2 * extent
    return i if i < extent else 2 * extent - 1 - i
