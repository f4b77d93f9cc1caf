"""From coded pictures to light: transfer curves, luminance, and the cut to the shape of a sensor."""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eventfm.simulation.light import LUMINANCE
from eventfm.simulation.response import FULL, srgb_to_linear

Curve = Literal["srgb", "bt709", "hlg", "linear"]
"""How grey values stand for light: IEC 61966-2-1 (pictures), ITU-R BT.709 and BT.2020 (cameras), hybrid log-gamma
(ITU-R BT.2100, phones), or in proportion to it."""
Primaries = Literal["bt709", "bt2020"]
"""Which red, green and blue are meant."""

_LUMINANCE: dict[str, tuple[float, float, float]] = {
    "bt709": LUMINANCE,
    "bt2020": (0.2627, 0.6780, 0.0593),
}


def luminance(picture: NDArray[np.generic], curve: Curve, primaries: Primaries = "bt709") -> NDArray[np.float32]:
    """Return the linear luminance (H, W) float32 in [0, 1] of a picture.

    Args:
        picture: (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) with an alpha channel, which is dropped; uint8 or uint16
            coded by `curve`, or floating point, which is linear light in [0, 1] whatever `curve` says.
        curve: The transfer curve of integer pictures.
        primaries: Weights of red, green and blue.
    """
    if picture.ndim == 3:
        picture = picture[..., 0] if picture.shape[2] == 1 else picture[..., :3]
    light = picture.astype(np.float32) if picture.dtype.kind == "f" else _table(picture.dtype.name, curve)[picture]
    return light if light.ndim == 2 else light @ np.array(_LUMINANCE[primaries], np.float32)


def cover(light: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the largest centred part of `light` that has the shape of `size`, resized to it (height, width).

    Smaller by area averages, which is what larger pixels would have seen; larger bilinearly.
    """
    import cv2

    if light.shape == size:
        return light
    scale = max(size[0] / light.shape[0], size[1] / light.shape[1])
    kept = [min(extent, max(1, round(wanted / scale))) for extent, wanted in zip(light.shape, size, strict=True)]
    top, left = ((extent - part) // 2 for extent, part in zip(light.shape, kept, strict=True))
    part = np.ascontiguousarray(light[top : top + kept[0], left : left + kept[1]])
    return cv2.resize(part, size[::-1], interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def to_frame(light: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return luminance in [0, 1] as a frame in linear light, rounded to 16 bits."""
    return np.rint(np.clip(light, 0, 1) * np.float32(FULL)).astype(np.uint16)


@functools.lru_cache(maxsize=16)
def _table(dtype: str, curve: Curve) -> NDArray[np.float32]:
    scale = np.iinfo(dtype).max
    coded = np.arange(scale + 1) / scale
    if curve == "srgb":
        light = srgb_to_linear(coded)
    elif curve == "bt709":
        light = np.where(coded < 0.081, coded / 4.5, ((coded + 0.099) / 1.099) ** (1 / 0.45))
    elif curve == "hlg":
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(coded <= 0.5, coded**2 / 3, (np.exp((coded - c) / a) + b) / 12)
    else:
        light = coded
    return np.clip(light, 0, 1).astype(np.float32)
