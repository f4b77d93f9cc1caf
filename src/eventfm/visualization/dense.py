"""Dense maps as pictures: signed values, intensities, hidden patches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eventfm.visualization.events import OFF_COLOUR, ON_COLOUR

HIDDEN_COLOUR = (150, 150, 150)
UNKNOWN_COLOUR = (128, 128, 128)


def signed_map(values: NDArray[np.floating], limit: float | None = None) -> NDArray[np.uint8]:
    """Return a picture (H, W, 3) uint8 of signed values: white at zero, blue above, vermilion below, NaN grey.

    Args:
        values: (H, W).
        limit: The value of full colour, the same on both sides; by default what 99 % of the magnitudes stay below.
            Pass one limit to several maps that are to be compared.

    Raises:
        ValueError: Values of another shape, or a limit that is not positive.
    """
    if values.ndim != 2:
        raise ValueError(f"expected a map (H, W), got shape {values.shape}")
    values = values.astype(np.float64)
    known = np.isfinite(values)
    if limit is None:
        limit = signed_limit(values)
    if not limit > 0:
        raise ValueError(f"expected a limit above 0, got {limit}")
    share = np.clip(np.where(known, values, 0) / limit, -1, 1)[..., None]
    colour = np.where(share > 0, np.array(ON_COLOUR), np.array(OFF_COLOUR))
    out = 255 + np.abs(share) * (colour - 255)
    out[~known] = UNKNOWN_COLOUR
    return np.rint(out).astype(np.uint8)


def signed_limit(*maps: NDArray[np.floating]) -> float:
    """Return the magnitude that 99 % of the non-zero finite values of `maps` stay below (1 where there are none)."""
    magnitudes = np.abs(np.concatenate([np.asarray(m, np.float64).ravel() for m in maps]))
    magnitudes = magnitudes[np.isfinite(magnitudes) & (magnitudes > 0)]
    return float(np.percentile(magnitudes, 99)) if len(magnitudes) else 1.0


def grey_picture(light: NDArray[np.floating], *, linear: bool = False) -> NDArray[np.uint8]:
    """Return a picture (H, W, 3) uint8 of intensities (H, W) in [0, 1]; values outside are cut off.

    Args:
        light: Intensities.
        linear: They are linear light, to be coded as sRGB so that they look right on a screen.
    """
    coded = np.clip(light, 0, 1).astype(np.float64)
    if linear:
        coded = np.where(coded <= 0.0031308, 12.92 * coded, 1.055 * coded ** (1 / 2.4) - 0.055)
    return np.repeat(np.rint(255 * coded).astype(np.uint8)[..., None], 3, axis=2)


def depth_map(depth: NDArray[np.floating], limits: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    """Return a picture (H, W, 3) uint8 of depths, near bright and far dark, even on a log scale; unknown ones are grey.

    Args:
        depth: (H, W), above 0; others (and NaN, infinity) count as unknown.
        limits: Nearest and farthest depth of the scale; by default those of the map. Pass one pair to maps that are to
            be compared.

    Raises:
        ValueError: Values of another shape.
    """
    import matplotlib as mpl

    if depth.ndim != 2:
        raise ValueError(f"expected depths (H, W), got shape {depth.shape}")
    known = np.isfinite(depth) & (depth > 0)
    if limits is None:
        limits = (float(depth[known].min()), float(depth[known].max())) if known.any() else (1.0, 2.0)
    near, far = np.log(limits)
    share = (np.log(np.where(known, depth, limits[0])) - near) / max(far - near, 1e-9)
    out = np.rint(255 * mpl.colormaps["inferno"](1 - np.clip(share, 0, 1))[..., :3]).astype(np.uint8)
    out[~known] = UNKNOWN_COLOUR
    return out


def hide_patches(picture: NDArray[np.uint8], hidden: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return `picture` (H, W, 3) uint8 with patches painted grey where `hidden` (rows, cols) says so.

    Raises:
        ValueError: The grid does not divide the picture.
    """
    rows, cols = hidden.shape
    height, width = picture.shape[:2]
    if height % rows or width % cols:
        raise ValueError(f"expected a patch grid that divides {height}x{width} pixels, got {rows}x{cols} patches")
    mask = hidden.repeat(height // rows, axis=0).repeat(width // cols, axis=1)
    return np.where(mask[..., None], np.array(HIDDEN_COLOUR, np.uint8), picture)
