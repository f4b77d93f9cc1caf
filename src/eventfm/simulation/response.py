"""From frame values to brightness in fixed point, and how fast the photoreceptor follows: tables made in float64."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventfm.simulation.sensor import SensorConfig

FRACTION_BITS = 24
"""Brightness is a fixed-point number with this many bits after the point: integers give the same bits everywhere."""
COEFFICIENT_BITS = 30
FULL = 65535
"""Full scale of frames in linear light, uint16."""
NUM_VALUES = FULL + 1
NUM_LIGHTS = 256
"""Levels of light that the speed of the photoreceptor and shot noise tell apart."""
LINLOG_KNEE = 20 / 255
"""Below this intensity the linlog curves are straight (20 grey levels of an 8-bit frame)."""
DARK_LIGHT = 20 / 255
"""Light that stands for the photoreceptor's speed in the dark (v2e: (I + 20) / 275 on the scale of 8 bits)."""


@functools.lru_cache(maxsize=64)
def brightness_table(config: SensorConfig, num_values: int = NUM_VALUES) -> NDArray[np.int32]:
    """Return the fixed-point brightness of frame values 0 to `num_values` - 1 (full scale), int32 and read-only."""
    light = to_light(config, np.arange(num_values, dtype=np.float64) / (num_values - 1))
    if config.log == "log":
        brightness = np.log(light + config.eps)
    elif config.log == "linlog":
        below = math.log(LINLOG_KNEE) + (light - LINLOG_KNEE) / LINLOG_KNEE
        brightness = np.where(light < LINLOG_KNEE, below, np.log(np.maximum(light, LINLOG_KNEE)))
    elif config.log == "linlog_v2e":
        grey = 255 * light
        knee = 255 * LINLOG_KNEE
        brightness = np.where(grey <= knee, grey * (math.log(knee) / knee), np.log(np.maximum(grey, knee)))
    else:
        brightness = light
    table = to_fixed(brightness)
    table.flags.writeable = False
    return table


class LowPass(NamedTuple):
    """Coefficients of one frame interval for each level of light, (256,) int32 with 30 bits after the point.

    For brightness that goes straight from L0 to L1 (a first-order hold) within D and a time constant tau:
    y1 = L1 + e (y0 - L0) - g (L1 - L0) behind one pole, and z1 = L1 + e (z0 - L0) + h (y0 - L0) - w (L1 - L0) behind a
    second one, with e = exp(-D / tau), g = (1 - e) tau / D, h = e D / tau and w = 2 g - e. Exact for any D.
    """

    e: NDArray[np.int32]
    g: NDArray[np.int32]
    h: NDArray[np.int32]
    w: NDArray[np.int32]


@functools.lru_cache(maxsize=256)
def low_pass(config: SensorConfig, duration_us: int) -> LowPass:
    """Return the coefficients of the photoreceptor for an interval of `duration_us`; `config.cutoff_hz` must be set."""
    assert config.cutoff_hz is not None
    light = np.ones(NUM_LIGHTS) if config.log == "identity" else _light_levels(config)
    tau_us = 1e6 / (2 * math.pi * config.cutoff_hz * (light + DARK_LIGHT) / (1 + DARK_LIGHT))
    ratio = duration_us / tau_us
    e = np.exp(-ratio)
    g = -np.expm1(-ratio) / ratio
    return LowPass(*(np.rint(c * (1 << COEFFICIENT_BITS)).astype(np.int32) for c in (e, g, ratio * e, 2 * g - e)))


@functools.lru_cache(maxsize=64)
def keep_table(config: SensorConfig) -> NDArray[np.int64]:
    """Return the share of shot noise left at each level of light, (256,) int64 with 32 bits after the point.

    It falls from one in the dark to a quarter at full light (v2e: 1 - 0.75 I).
    """
    return np.rint((1 - 0.75 * _light_levels(config)) * (1 << 32)).astype(np.int64)


def to_light(config: SensorConfig, coded: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return linear light in [0, 1] of frame values in [0, 1], by the sensor's `gamma`."""
    if config.gamma is None:
        return coded
    return srgb_to_linear(coded) if config.gamma == "srgb" else coded**config.gamma


def srgb_to_linear(coded: NDArray[Any]) -> NDArray[Any]:
    """Return linear light in [0, 1] of sRGB values in [0, 1] (IEC 61966-2-1)."""
    return np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)


def to_fixed(values: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return `values` in fixed point, rounded to the nearest."""
    return np.rint(values * (1 << FRACTION_BITS)).astype(np.int32)


def _light_levels(config: SensorConfig) -> NDArray[np.float64]:
    return to_light(config, (np.arange(NUM_LIGHTS) + 0.5) / NUM_LIGHTS)
