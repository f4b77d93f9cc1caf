"""What differs from pixel to pixel of one clip's sensor: pure functions of (config, size, clip)."""

from __future__ import annotations

import functools
from statistics import NormalDist
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from eventfm.random import derive, splitmix64
from eventfm.simulation.response import FRACTION_BITS
from eventfm.simulation.sensor import LARGEST_THRESHOLD, SMALLEST_THRESHOLD, SensorConfig

LEAK_BITS = 42
"""Bits after the point of a leak in natural-log units per microsecond."""
DEAD_THRESHOLD = 2**31 - 1
"""No brightness is that far from any reference."""


def threshold_maps(
    config: SensorConfig, height: int, width: int, clip_id: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the fixed-point ON and OFF thresholds of every pixel of one clip, both (height, width) int32."""
    key = _key(config, clip_id)
    maps = np.empty((2, height, width), np.int32)
    for polarity, mean, out in (("on", config.c_pos, maps[0]), ("off", config.c_neg, maps[1])):
        base = np.uint64(derive(key, f"threshold {polarity}"))
        _fill_thresholds(base, _normal_values(), mean, config.sigma, out.reshape(-1))
    if config.dead_fraction:
        maps[:, dead_map(config, height, width, clip_id)] = DEAD_THRESHOLD
    return maps[0], maps[1]


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
        spread = _normals(_key(config, clip_id), "leak", c_pos.size).reshape(c_pos.shape)
        per_us = per_us * 10 ** (config.leak_spread * spread)
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


def _normals(key: int, stream: str, count: int) -> NDArray[np.float64]:
    """Return standard normals (count,), by counter, from 65536 equally likely values: up to 4.3 from zero."""
    out = np.empty(count)
    _look_up(np.uint64(derive(key, stream)), _normal_values(), out)
    return out


@functools.lru_cache(maxsize=1)
def _normal_values() -> NDArray[np.float64]:
    inverse = NormalDist().inv_cdf
    return np.array([inverse((i + 0.5) / 65536) for i in range(65536)])


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
def _fill_thresholds(base: Any, values: Any, mean: float, sigma: float, out: Any) -> None:
    """Write fixed-point thresholds about `mean`, in bounds."""
    start = _mixed(base)
    for i in range(0, out.shape[0], 4):
        bits = _mixed(start + np.uint64(i >> 2))
        for k in range(min(4, out.shape[0] - i)):
            threshold = mean + sigma * values[(bits >> np.uint64(16 * k)) & np.uint64(0xFFFF)]
            out[i + k] = np.rint(min(max(threshold, SMALLEST_THRESHOLD), LARGEST_THRESHOLD) * (1 << FRACTION_BITS))


@njit(nogil=True, cache=True)
def _look_up(base: Any, values: Any, out: Any) -> None:
    """Write an entry of `values` (65536,) for each 16 bits of a counted draw."""
    start = _mixed(base)
    for i in range(0, out.shape[0], 4):
        bits = _mixed(start + np.uint64(i >> 2))
        for k in range(min(4, out.shape[0] - i)):
            out[i + k] = values[(bits >> np.uint64(16 * k)) & np.uint64(0xFFFF)]


@njit(nogil=True, cache=True)
def _fill_between(base: Any, c_pos: Any, c_neg: Any, out: Any) -> None:
    """Write whole numbers even between -c_neg and c_pos, both excluded; zero for dead pixels."""
    start = _mixed(base)
    for i in range(out.shape[0]):
        u = np.float64(_mixed(start + np.uint64(i)) >> np.uint64(11)) * 2.0**-53
        room = np.int64(c_pos[i]) + np.int64(c_neg[i]) - 1
        drawn = np.int64(u * room) - np.int64(c_neg[i]) + 1
        out[i] = 0 if c_pos[i] == DEAD_THRESHOLD else drawn
