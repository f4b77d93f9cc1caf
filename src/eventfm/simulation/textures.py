"""Surfaces of simulated worlds: photographs and drawn patterns, brought to one brightness and contrast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eventfm.simulation.light import linear

PHOTOGRAPHS = (
    "astronaut",
    "brick",
    "camera",
    "chelsea",
    "coffee",
    "coins",
    "grass",
    "gravel",
    "hubble_deep_field",
    "immunohistochemistry",
    "moon",
    "rocket",
)
"""Pictures that come inside scikit-image: nothing is downloaded."""

_SIDE = 256
_LARGEST_PHOTOGRAPH = 512


@dataclass(frozen=True, eq=False)
class Texture:
    """A pattern without brightness of its own: relative log luminance, about zero mean and unit spread everywhere."""

    texels: NDArray[np.float32]
    """Values in [-2.5, 2.5], the same pattern with less and less detail, level after level, each row by row."""
    levels: NDArray[np.int64]
    """(L, 3): where each level starts in `texels`, its rows and its columns; each about half as large as the last."""

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns in full detail."""
        return int(self.levels[0, 1]), int(self.levels[0, 2])


def texture_of(picture: ArrayLike) -> Texture:
    """Return the texture of a picture: sRGB uint8 or uint16, grey or RGB, or float linear luminance in [0, 1].

    The logarithm of the luminance, its slow changes taken out and its contrast made even, so that no cut is blank and
    none gives away which picture it is from by brightness alone.

    Raises:
        ValueError: A picture of the wrong kind, or smaller than 16 pixels.
    """
    import cv2

    array = np.asarray(picture)
    light = array.astype(np.float32) if array.dtype.kind == "f" else linear(array)
    if light.ndim != 2 or min(light.shape) < 16:
        raise ValueError(f"expected a picture of at least 16 x 16 pixels, got shape {array.shape}")
    scale = min(1.0, _LARGEST_PHOTOGRAPH / max(light.shape))
    if scale < 1:
        light = cv2.resize(light, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return _standardised(np.log(light + np.float32(0.02)))


@lru_cache(maxsize=1)
def photographs() -> tuple[Texture, ...]:
    """Return the textures of the photographs inside scikit-image (`PHOTOGRAPHS`)."""
    from skimage import data

    return tuple(texture_of(getattr(data, name)()) for name in PHOTOGRAPHS)


def random_texture(rng: np.random.Generator, pictures: tuple[Texture, ...], pattern_share: float = 0.4) -> Texture:
    """Return one of `pictures`, or, in `pattern_share` of the draws or where there are none, a newly drawn pattern."""
    if not pictures or rng.uniform() < pattern_share:
        names = tuple(_PATTERNS)
        return pattern(names[rng.integers(len(names))], rng)
    return pictures[rng.integers(len(pictures))]


def pattern(kind: str, rng: np.random.Generator) -> Texture:
    """Return a drawn pattern: "noise" on many scales, "checks", "stripes" or "leaves" (discs that hide each other).

    Raises:
        ValueError: No such pattern.
    """
    if kind not in _PATTERNS:
        raise ValueError(f"expected a pattern among {', '.join(_PATTERNS)}, got {kind!r}")
    values = _PATTERNS[kind](rng).astype(np.float32)
    return _pyramid(np.clip((values - values.mean()) / max(float(values.std()), 1e-6), -2.5, 2.5))


def _noise(rng: np.random.Generator) -> NDArray[np.float32]:
    import cv2

    out = np.zeros((_SIDE, _SIDE), np.float32)
    fall = rng.uniform(0.5, 0.9)
    for octave in range(2, 8):
        coarse = rng.standard_normal((2**octave, 2**octave), np.float32)
        out += np.float32(fall**octave) * cv2.resize(coarse, (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC)
    return out


def _checks(rng: np.random.Generator) -> NDArray[np.float32]:
    across, down = _SIDE // rng.integers(6, 17, 2)
    y, x = np.arange(_SIDE)[:, None] // down, np.arange(_SIDE) // across
    shades = rng.normal(0, 0.5, (_SIDE, _SIDE)).astype(np.float32)
    return ((x + y) % 2 * 2.0 - 1 + shades[y, x]).astype(np.float32)


def _stripes(rng: np.random.Generator) -> NDArray[np.float32]:
    widths = rng.integers(4, 32, _SIDE)
    shades = rng.standard_normal(_SIDE).astype(np.float32)
    stripes = np.repeat(shades, widths)[: 2 * _SIDE]
    # Waves keep motion along the stripes from being invisible.
    phase, pitch = rng.uniform(0, 2 * np.pi), rng.uniform(40, 120)
    bend = (rng.uniform(4, 12) * np.sin(2 * np.pi * np.arange(_SIDE) / pitch + phase) + 16).astype(int)
    return stripes[bend[:, None] + np.arange(_SIDE)] + _noise(rng) * 0.4


def _leaves(rng: np.random.Generator) -> NDArray[np.float32]:
    import cv2

    out = np.zeros((_SIDE, _SIDE), np.float32)
    # Radii with a density of r^-3, as dead leaves have it (Lee, Mumford, Huang, IJCV 2001).
    radii = 6 / np.sqrt(1 - rng.uniform(0, 1 - (6 / 60) ** 2, 500))
    for (x, y), r, shade in zip(rng.integers(0, _SIDE, (500, 2)), radii, rng.standard_normal(500), strict=True):
        cv2.circle(out, (int(x), int(y)), int(r), float(shade), -1)
    return out


_PATTERNS: dict[str, Callable[[np.random.Generator], NDArray[np.float32]]] = {
    "noise": _noise,
    "checks": _checks,
    "stripes": _stripes,
    "leaves": _leaves,
}


def _standardised(values: NDArray[np.float32]) -> Texture:
    """Return `values` less their mean and over their spread, both taken over neighbourhoods."""
    import cv2

    sigma = max(values.shape) / 8
    detail = values - cv2.GaussianBlur(values, (0, 0), sigma)
    spread = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), sigma))
    # Where there is next to nothing to see, noise is not blown up to full contrast.
    even = detail / np.maximum(spread, 0.3 * float(detail.std()) + 1e-6)
    return _pyramid(np.clip(even, -2.5, 2.5))


def _pyramid(values: NDArray[np.float32]) -> Texture:
    import cv2

    pictures = [values]
    while min(pictures[-1].shape) >= 8:
        rows, columns = pictures[-1].shape
        pictures.append(cv2.resize(pictures[-1], (columns // 2, rows // 2), interpolation=cv2.INTER_AREA))
    starts = np.cumsum([0, *(picture.size for picture in pictures[:-1])])
    levels = [(start, *picture.shape) for start, picture in zip(starts, pictures, strict=True)]
    texels = np.concatenate([picture.ravel() for picture in pictures])
    return Texture(np.asarray(texels, np.float32), np.array(levels, np.int64))
