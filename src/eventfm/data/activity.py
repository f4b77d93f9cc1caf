"""How much happens in each patch that a network sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eventfm.data.transforms import Geometry
from eventfm.events import Events

PIXELS = 256
"""Sensor pixels that activity is counted on: those of a patch of 16x16."""


def patch_grid(size: tuple[int, int], patch: int) -> tuple[int, int]:
    """Return rows and columns of patches of `patch` x `patch` pixels in inputs of `size` (height, width)."""
    return size[0] // patch, size[1] // patch


def patch_activity(events: Events, geometry: Geometry, patch: int) -> NDArray[np.float32]:
    """Return the events under each patch of the network's input, per 256 sensor pixels, (rows, cols) float32.

    `events` lie on `geometry.grid`, as `Geometry.events` gives them; a patch is `patch` x `patch` pixels of the output.
    An event belongs to the patch that the middle of its cell lies in. ScaleEvent (section 3) has 64 events in a patch
    of 16x16 sensor pixels as the least of an active one.
    """
    (rows, cols), (height, width) = patch_grid(geometry.out, patch), geometry.grid
    row_of = ((2 * np.arange(height) + 1) * geometry.out[0]) // (2 * height * patch)
    column_of = ((2 * np.arange(width) + 1) * geometry.out[1]) // (2 * width * patch)
    counts = np.bincount(row_of[events.y] * cols + column_of[events.x], minlength=rows * cols)
    pixels = geometry.height * geometry.width / (rows * cols)
    return (counts.reshape(rows, cols) * (PIXELS / pixels)).astype(np.float32)
