"""What differs from pixel to pixel of one clip's sensor: pure functions of (config, size, clip)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from eventfm.random import derive, splitmix64
from eventfm.simulation.response import FRACTION_BITS, to_fixed

if TYPE_CHECKING:
    from eventfm.simulation.sensor import SensorConfig

LEAK_BITS = 42
"""Bits after the point of a leak in natural-log units per microsecond."""
DEAD_THRESHOLD = 2**31 - 1
"""No brightness is that far from any reference."""
_SMALLEST, _LARGEST = 0.01, 16.0


def threshold_maps(
    config: SensorConfig, height: int, width: int, clip_id: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the fixed-point ON and OFF thresholds of every pixel of one clip, both (height, width) int32."""
    on, off = (np.full((height, width), mean) for mean in (config.c_pos, config.c_neg))
    if config.sigma:
        first, second = _normals(_key(config, clip_id), "threshold", (height, width))
        on += config.sigma * first
        off += config.sigma * second
    dead = dead_map(config, height, width, clip_id)
    maps = tuple(to_fixed(np.clip(values, _SMALLEST, _LARGEST)) for values in (on, off))
    for values in maps:
        values[dead] = DEAD_THRESHOLD
    return maps


def initial_distance(
    config: SensorConfig, c_pos: NDArray[np.int32], c_neg: NDArray[np.int32], clip_id: int
) -> NDArray[np.int32]:
    """Return how far each pixel's brightness starts above its reference, strictly between -c_neg and c_pos."""
    if config.init == "zero":
        return np.zeros_like(c_pos)
    distance = np.empty(c_pos.shape, np.int32)
    key = derive(_key(config, clip_id), "initial distance")
    _fill_between(np.uint64(key), c_pos.reshape(-1), c_neg.reshape(-1), distance.reshape(-1))
    return distance


def leak_map(config: SensorConfig, c_pos: NDArray[np.int32], clip_id: int) -> NDArray[np.uint32]:
    """Return how fast the reference of every pixel sinks: uint32, natural-log units per microsecond with 42 bits.

    `leak_hz` times the ON threshold, spread log-normally by `leak_spread` decades: ON events at that rate, one by one.
    """
    per_us = config.leak_hz * 1e-6 * c_pos / (1 << FRACTION_BITS)
    if config.leak_spread:
        per_us = per_us * 10 ** (config.leak_spread * _normals(_key(config, clip_id), "leak", c_pos.shape)[0])
    leak = np.minimum(np.rint(per_us * (1 << LEAK_BITS)), 2**32 - 1).astype(np.uint32)
    leak[c_pos == DEAD_THRESHOLD] = 0
    return leak


def dead_map(config: SensorConfig, height: int, width: int, clip_id: int) -> NDArray[np.bool_]:
    """Return which pixels never send anything, (height, width) bool: `dead_fraction` of them, to the nearest whole."""
    dead = np.zeros(height * width, bool)
    count = round(config.dead_fraction * height * width)
    if count:
        dead[np.argsort(_uniforms(_key(config, clip_id), "dead", dead.shape), kind="stable")[:count]] = True
    return dead.reshape(height, width)


def hot_pixels(config: SensorConfig, height: int, width: int, clip_id: int) -> NDArray[np.int64]:
    """Return the pixels that fire by themselves, as increasing raster positions: `hot_fraction` of all, none dead."""
    count = round(config.hot_fraction * height * width)
    if not count:
        return np.empty(0, np.int64)
    rank = _uniforms(_key(config, clip_id), "hot", (height * width,))
    rank[dead_map(config, height, width, clip_id).ravel()] = 2.0
    live = int((rank < 2).sum())
    return np.sort(np.argsort(rank, kind="stable")[: min(count, live)])


def _key(config: SensorConfig, clip_id: int) -> int:
    return derive(config.seed, "clip", clip_id)


def _normals(key: int, stream: str, shape: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return two independent maps of standard normals: Box and Muller's pairs, which no library version can change."""
    radius = np.sqrt(-2 * np.log1p(-_uniforms(key, f"{stream} radius", shape)))
    angle = 2 * np.pi * _uniforms(key, f"{stream} angle", shape)
    return radius * np.cos(angle), radius * np.sin(angle)


def _uniforms(key: int, stream: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return uniforms in [0, 1): those of `eventfm.random.uniforms`, faster."""
    out = np.empty(shape)
    _fill(np.uint64(derive(key, stream)), out.reshape(-1))
    return out


_mixed = njit(nogil=True, cache=True)(splitmix64)


@njit(nogil=True, cache=True)
def _fill(base: Any, out: Any) -> None:
    start = _mixed(base)
    for i in range(out.shape[0]):
        out[i] = np.float64(_mixed(start + np.uint64(i)) >> np.uint64(11)) * 2.0**-53


@njit(nogil=True, cache=True)
def _fill_between(base: Any, c_pos: Any, c_neg: Any, out: Any) -> None:
    """Write whole numbers even between -c_neg and c_pos, both excluded; zero for dead pixels."""
    start = _mixed(base)
    for i in range(out.shape[0]):
        u = np.float64(_mixed(start + np.uint64(i)) >> np.uint64(11)) * 2.0**-53
        room = np.int64(c_pos[i]) + np.int64(c_neg[i]) - 1
        drawn = np.int64(u * room) - np.int64(c_neg[i]) + 1
        out[i] = 0 if c_pos[i] == DEAD_THRESHOLD else drawn
