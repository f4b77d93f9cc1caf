"""Pictures in linear light: decoding tables, one look-up per channel."""

from __future__ import annotations

import functools
from typing import Any, Literal

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from eventfm.simulation.response import srgb_to_linear

LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Shares of red, green and blue in luminance (ITU-R BT.709)."""


def linear(picture: ArrayLike, gamma: float | Literal["srgb"] | None = "srgb") -> NDArray[np.float32]:
    """Return the linear luminance (H, W) float32 in [0, 1] of a picture, uint8 or uint16, grey or RGB.

    Args:
        picture: (H, W) or (H, W, 3), over the full range of its integers.
        gamma: How it is coded: "srgb", the exponent of a power law, or None for linear light.

    Raises:
        ValueError: Another dtype or shape, an empty picture, or another coding.
    """
    values = np.asarray(picture)
    if values.dtype not in (np.uint8, np.uint16) or not (
        values.ndim == 2 or (values.ndim == 3 and values.shape[2] == 3)
    ):
        raise ValueError(
            f"expected a uint8 or uint16 picture (H, W) or (H, W, 3), got {values.dtype} of shape {values.shape}"
        )
    if not values.size:
        raise ValueError(f"expected a picture with pixels, got shape {values.shape}")
    if not (gamma is None or gamma == "srgb" or (not isinstance(gamma, str) and gamma > 0)):
        raise ValueError(f"expected gamma to be None, 'srgb' or a number above 0, got {gamma!r}")
    table = _table(int(np.iinfo(values.dtype).max), gamma)
    if values.ndim == 2:
        return np.take(table[3], values)
    out = np.empty(values.shape[:2], np.float32)
    _luminance(values, table, out)
    return out


def coded(light: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the sRGB values in [0, 1] of linear light in [0, 1] (IEC 61966-2-1)."""
    light = np.asarray(light, np.float64)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@functools.lru_cache(maxsize=8)
def _table(full: int, gamma: float | Literal["srgb"] | None) -> NDArray[np.float32]:
    """Return light of the values 0 to `full` times the shares of red, green and blue, and alone: (4, full + 1)."""
    values = np.arange(full + 1) / full
    light = values if gamma is None else srgb_to_linear(values) if gamma == "srgb" else values**gamma
    table = (np.array([*LUMINANCE, 1.0])[:, None] * light).astype(np.float32)
    table.flags.writeable = False
    return table


@njit(nogil=True, cache=True)
def _luminance(values: NDArray[Any], table: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Write the luminance of `values` (H, W, 3)."""
    red, green, blue = table[0], table[1], table[2]
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            light = red[values[y, x, 0]] + green[values[y, x, 1]] + blue[values[y, x, 2]]
            out[y, x] = min(light, np.float32(1))
