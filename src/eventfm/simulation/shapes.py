"""Silhouettes: the classes of things in simulated worlds, told apart by their outline alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Contour = NDArray[np.float64]
"""(N, 2) corners (x, y) of a closed outline; where several overlap, an even number of them is a hole."""

_FINER = 4
"""Cells per sample, each way, in which an outline is counted."""
_FRACTION_BITS = 8
_ARC = 64


def contours(kind: str, rng: np.random.Generator) -> list[Contour]:
    """Return the outline of a random member of a class, just inside the unit circle, upright.

    Args:
        kind: One of `SHAPES`.
        rng: Draws the proportions; how the thing lies and how it is stretched is the caller's.

    Raises:
        ValueError: No such class.
    """
    if kind not in _OUTLINES:
        raise ValueError(f"expected a shape among {', '.join(SHAPES)}, got {kind!r}")
    drawn = _OUTLINES[kind](rng)
    reach = max(float(np.hypot(*c.T).max()) for c in drawn)
    return [c / reach for c in drawn]


def coverage(outline: list[Contour], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the share of each sample that lies inside the outline, (H, W) float32 in [0, 1].

    Args:
        outline: In samples, the centre of the top left one at (0, 0).
        size: Rows and columns.
    """
    import cv2

    rows, columns = size
    cells = np.zeros((rows * _FINER, columns * _FINER), np.uint8)
    # Cell i holds the coordinates (i + 0.5) / _FINER - 0.5; OpenCV counts from the centres of the cells.
    corners = [np.rint(((c + 0.5) * _FINER - 0.5) * (1 << _FRACTION_BITS)).astype(np.int32) for c in outline]
    cv2.fillPoly(cells, corners, 255, cv2.LINE_8, _FRACTION_BITS)
    return cv2.resize(cells, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)


def _arc(start: float, stop: float, radius: float = 1.0, centre: tuple[float, float] = (0.0, 0.0)) -> Contour:
    angles = np.linspace(start, stop, _ARC)
    return np.stack([centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles)], axis=1)


def _disc(rng: np.random.Generator) -> list[Contour]:
    return [_arc(0, 2 * np.pi)]


def _box(rng: np.random.Generator) -> list[Contour]:
    height = rng.uniform(0.45, 1.0)
    return [np.array([[-1, -height], [1, -height], [1, height], [-1, height]])]


def _triangle(rng: np.random.Generator) -> list[Contour]:
    angles = np.array([-0.5, 1 / 6, 5 / 6]) * np.pi + rng.uniform(-0.25, 0.25, 3)
    return [np.stack([np.cos(angles), np.sin(angles)], axis=1)]


def _star(rng: np.random.Generator) -> list[Contour]:
    num_points = int(rng.integers(5, 8))
    angles = np.arange(2 * num_points) * np.pi / num_points - np.pi / 2
    radius = np.where(np.arange(2 * num_points) % 2 == 0, 1.0, rng.uniform(0.36, 0.5))
    return [np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)]


def _ring(rng: np.random.Generator) -> list[Contour]:
    return [_arc(0, 2 * np.pi), _arc(0, 2 * np.pi, rng.uniform(0.45, 0.65))]


def _cross(rng: np.random.Generator) -> list[Contour]:
    a = rng.uniform(0.24, 0.36)
    arm = np.array([[-a, -1], [a, -1], [a, -a], [1, -a], [1, a], [a, a]])
    return [np.concatenate([arm, -arm])]


def _arrow(rng: np.random.Generator) -> list[Contour]:
    shaft, neck, barb = rng.uniform(0.18, 0.28), rng.uniform(-0.15, 0.15), rng.uniform(0.65, 0.85)
    upper = np.array([[0, -1], [barb, neck], [shaft, neck], [shaft, 1]])
    return [np.concatenate([upper, upper[:0:-1] * (-1, 1)])]


def _crescent(rng: np.random.Generator) -> list[Contour]:
    shift, bite = rng.uniform(0.4, 0.55), rng.uniform(0.82, 0.92)
    # The two circles meet where x = meet.
    meet = (1 + shift**2 - bite**2) / (2 * shift)
    outer, inner = np.arccos(meet), np.arctan2(np.sqrt(1 - meet**2), meet - shift)
    return [np.concatenate([_arc(outer, 2 * np.pi - outer), _arc(2 * np.pi - inner, inner, bite, (shift, 0.0))])]


_OUTLINES: dict[str, Callable[[np.random.Generator], list[Contour]]] = {
    "disc": _disc,
    "box": _box,
    "triangle": _triangle,
    "star": _star,
    "ring": _ring,
    "cross": _cross,
    "arrow": _arrow,
    "crescent": _crescent,
}
SHAPES = tuple(_OUTLINES)
"""Names of the classes."""
