"""Flow as colours: hue is direction, strength is speed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eventfm.visualization.dense import UNKNOWN_COLOUR


def flow_picture(
    flow: NDArray[np.floating], valid: NDArray[np.bool_] | None = None, limit: float | None = None
) -> NDArray[np.uint8]:
    """Return a picture (H, W, 3) uint8 of flow: white at rest, full colour from `limit` on; `flow_wheel` is its key.

    Args:
        flow: (2, H, W): (dx, dy) in pixels, y down.
        valid: (H, W); the rest, and what is not finite, is grey.
        limit: Length in pixels of full colour; by default what 99 % of the valid vectors stay below.

    Raises:
        ValueError: Flow of another shape.
    """
    from matplotlib.colors import hsv_to_rgb

    if flow.ndim != 3 or len(flow) != 2:
        raise ValueError(f"expected flow (2, H, W), got shape {flow.shape}")
    dx, dy = flow.astype(np.float64)
    known = np.isfinite(dx) & np.isfinite(dy)
    if valid is not None:
        known &= valid
    dx, dy = np.where(known, dx, 0), np.where(known, dy, 0)
    length = np.hypot(dx, dy)
    if limit is None:
        limit = float(np.percentile(length[known], 99)) if known.any() else 1.0
    strength = np.clip(length / max(limit, 1e-9), 0, 1)
    hue = np.arctan2(dy, dx) / (2 * np.pi) % 1
    out = np.rint(255 * hsv_to_rgb(np.stack([hue, strength, np.ones_like(hue) - 0.15 * strength], axis=-1)))
    out[~known] = UNKNOWN_COLOUR
    return out.astype(np.uint8)


def flow_wheel(size: int = 96) -> NDArray[np.uint8]:
    """Return the key to `flow_picture`, (size, size, 3) uint8: each colour where its vector points."""
    y, x = np.mgrid[:size, :size] * 2.0 / (size - 1) - 1
    out = flow_picture(np.stack([x, y]), limit=1.0)
    out[np.hypot(x, y) > 1] = 255
    return out
