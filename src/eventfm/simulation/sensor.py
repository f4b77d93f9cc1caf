"""What kind of sensor is simulated: thresholds, response curve, start; and the maps that follow from it."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eventfm.random import derive, uniforms
from eventfm.registry import did_you_mean

FRACTION_BITS = 24
"""Brightness is a fixed-point number with this many bits after the point: integers give the same bits everywhere."""
SMALLEST_THRESHOLD = 0.01
LARGEST_THRESHOLD = 16.0
LINLOG_KNEE = 20 / 255
"""Below this intensity the linlog curve is straight (20 grey levels of an 8-bit frame)."""

_PRESETS: dict[str, dict[str, Any]] = {
    "clean": {"sigma": 0.02},
    "esim": {"sigma": 0.0, "init": "zero"},
}


@dataclass(frozen=True)
class SensorConfig:
    """An event sensor: contrast thresholds, their spread over the pixels, and the response to light."""

    c_pos: float = 0.2
    """ON threshold, natural-log units."""
    c_neg: float = 0.2
    """OFF threshold, natural-log units."""
    sigma: float = 0.03
    """Standard deviation of both thresholds from pixel to pixel; a pixel's thresholds stay at least 0.01."""
    eps: float = 1e-3
    """Intensity added before the logarithm (full scale is 1); sets how blind the dark is. Used by `log="log"`."""
    gamma: float | Literal["srgb"] | None = None
    """How the frames are coded: None = linear light, "srgb", or the exponent of a power law."""
    init: Literal["zero", "uniform"] = "uniform"
    """Distance of each pixel from its reference at the first frame: zero, or anywhere between its thresholds."""
    log: Literal["log", "linlog", "identity"] = "log"
    """Response: ln(I + eps); ln(I) that goes straight below 20/255 without a kink; or I itself (already a log)."""
    seed: int = 0
    """With `clip_id` it fixes every random number of a clip."""

    def __post_init__(self) -> None:
        for name in ("c_pos", "c_neg"):
            value = getattr(self, name)
            if not SMALLEST_THRESHOLD <= value <= LARGEST_THRESHOLD:
                raise ValueError(f"expected {name} in [{SMALLEST_THRESHOLD}, {LARGEST_THRESHOLD}], got {value!r}")
        if not 0 <= self.sigma <= 1:
            raise ValueError(f"expected sigma in [0, 1] (natural-log units), got {self.sigma!r}")
        if not 1e-9 <= self.eps <= 1:
            raise ValueError(f"expected eps in [1e-9, 1] (full scale is 1), got {self.eps!r}")
        if isinstance(self.gamma, str) and self.gamma != "srgb":
            raise ValueError(f"expected gamma to be None, 'srgb' or a number, got {self.gamma!r}")
        if isinstance(self.gamma, (int, float)) and not 0.1 <= self.gamma <= 10:
            raise ValueError(f"expected gamma in [0.1, 10], got {self.gamma!r}")
        if self.init not in ("zero", "uniform"):
            raise ValueError(f"expected init to be 'zero' or 'uniform', got {self.init!r}")
        if self.log not in ("log", "linlog", "identity"):
            raise ValueError(f"expected log to be 'log', 'linlog' or 'identity', got {self.log!r}")

    @classmethod
    def preset(cls, name: str) -> SensorConfig:
        """Return a named sensor: "clean" (a good sensor without noise) or "esim" (identical ideal pixels).

        Raises:
            ValueError: No preset of that name.
        """
        if name not in _PRESETS:
            raise ValueError(f"unknown sensor preset {name!r}{did_you_mean(name, list(_PRESETS))}")
        return cls(**_PRESETS[name])


@functools.lru_cache(maxsize=64)
def brightness_table(config: SensorConfig, num_values: int) -> NDArray[np.int32]:
    """Return the fixed-point brightness of frame values 0 to `num_values` - 1 (full scale), int32 and read-only."""
    light = np.arange(num_values, dtype=np.float64) / (num_values - 1)
    if config.gamma == "srgb":
        light = srgb_to_linear(light)
    elif config.gamma is not None:
        light = light**config.gamma
    if config.log == "log":
        brightness = np.log(light + config.eps)
    elif config.log == "linlog":
        below = math.log(LINLOG_KNEE) + (light - LINLOG_KNEE) / LINLOG_KNEE
        brightness = np.where(light < LINLOG_KNEE, below, np.log(np.maximum(light, LINLOG_KNEE)))
    else:
        brightness = light
    table = to_fixed(brightness)
    table.flags.writeable = False
    return table


def threshold_maps(
    config: SensorConfig, height: int, width: int, clip_id: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the fixed-point ON and OFF thresholds of every pixel of one clip, both (height, width) int32."""
    on, off = (np.full((height, width), mean) for mean in (config.c_pos, config.c_neg))
    if config.sigma:
        key, count = derive(config.seed, "clip", clip_id), height * width
        # Box and Muller's pair of normals from counted uniforms: no library version can change it.
        radius = config.sigma * np.sqrt(-2 * np.log1p(-uniforms(key, "threshold radius", count)))
        angle = 2 * np.pi * uniforms(key, "threshold angle", count)
        on += (radius * np.cos(angle)).reshape(height, width)
        off += (radius * np.sin(angle)).reshape(height, width)
    return tuple(to_fixed(np.clip(values, SMALLEST_THRESHOLD, LARGEST_THRESHOLD)) for values in (on, off))


def initial_distance(
    config: SensorConfig, c_pos: NDArray[np.int32], c_neg: NDArray[np.int32], clip_id: int
) -> NDArray[np.int32]:
    """Return how far each pixel's brightness starts above its reference, strictly between -c_neg and c_pos."""
    if config.init == "zero":
        return np.zeros_like(c_pos)
    u = uniforms(derive(config.seed, "clip", clip_id), "initial distance", c_pos.size).reshape(c_pos.shape)
    room = c_pos.astype(np.int64) + c_neg - 1
    return (np.floor(u * room).astype(np.int64) - c_neg + 1).astype(np.int32)


def to_fixed(values: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return `values` in fixed point, rounded to the nearest."""
    return np.rint(values * (1 << FRACTION_BITS)).astype(np.int32)


def srgb_to_linear(coded: NDArray[Any]) -> NDArray[Any]:
    """Return linear light in [0, 1] of sRGB values in [0, 1] (IEC 61966-2-1)."""
    return np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
