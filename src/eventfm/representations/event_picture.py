"""Pictures of events on white ground, as released data hold them, and which patches they call active."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_WHITE = 3 * 255
_SAMPLED = 4
"""Pixels a side of a patch that the rule looks at."""


def released_mask(picture: NDArray[Any], grid: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which patches of `grid` (rows, cols) a picture of events (h, w, 3) uint8 calls active, (rows, cols).

    The rule of ScaleEvent's released code: the picture is resized to 4x4 pixels a patch and then to one, bilinearly
    and rounded to bytes each time, and what is not pure white after that is active. Of a large picture this looks at
    few pixels: of a patch of 16x16, at 16. The paper counts events instead (section 3).

    Raises:
        ValueError: The picture is not (h, w, 3) uint8.
    """
    import cv2

    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
        raise ValueError(f"expected a picture of events (h, w, 3) uint8, got {picture.shape} {picture.dtype}")
    rows, columns = grid
    sampled = cv2.resize(picture, (_SAMPLED * columns, _SAMPLED * rows), interpolation=cv2.INTER_LINEAR)
    patches = cv2.resize(sampled, (columns, rows), interpolation=cv2.INTER_LINEAR)
    return np.asarray(patches.sum(axis=2, dtype=np.int64) < _WHITE)
