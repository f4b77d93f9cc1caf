"""Noise without touching every pixel: Poisson clocks of the whole sensor, thinned to each pixel's own rate.

The clocks run in time and know nothing of frames, so noise does not depend on how a clip is sampled or cut. Candidates
are drawn at the rate of the dark, their pixels in proportion to the weight of each, by counter; light then thins them,
which is exact (Lewis and Shedler, Naval Research Logistics 1979).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from eventfm.random import derive, splitmix64
from eventfm.simulation.maps import DEAD_THRESHOLD, hot_pixels
from eventfm.simulation.sensor import SensorConfig

_ARRIVALS_AT_ONCE = 1 << 20


class Candidates(NamedTuple):
    """Possible noise events in raster order, those of one pixel in order of time."""

    pixel: NDArray[np.int64]
    """Raster position."""
    elapsed: NDArray[np.int64]
    """Microseconds since the first frame."""
    polarity: NDArray[np.uint8]
    draw: NDArray[np.int64]
    """In [0, 2**32): kept where below the share that the light leaves."""


NONE = Candidates(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint8), np.empty(0, np.int64))


def thin(
    candidates: Candidates, first: NDArray[np.uint16], last: NDArray[np.uint16], keep: NDArray[np.int64]
) -> Candidates:
    """Return the candidates that the light between the frames `first` and `last` (H, W) leaves; see `keep_table`."""
    light = (first.reshape(-1)[candidates.pixel].astype(np.int64) + last.reshape(-1)[candidates.pixel]) >> 9
    kept = candidates.draw < keep[light]
    return Candidates(*(column[kept] for column in candidates))


class NoiseClocks:
    """Both noise processes of one clip.

    Args:
        config: Rates.
        c_pos: (H, W) int32, the ON thresholds, of which low ones see more noise.
        c_neg: (H, W) int32, the OFF thresholds.
        clip_id: Which clip of `config.seed`.
    """

    def __init__(
        self, config: SensorConfig, c_pos: NDArray[np.int32], c_neg: NDArray[np.int32], clip_id: int = 0
    ) -> None:
        key = derive(config.seed, "clip", clip_id)
        live = int((c_pos != DEAD_THRESHOLD).sum())
        hot = hot_pixels(config, *c_pos.shape, clip_id)
        self._clocks = []
        if config.shot_hz > 0 and live:
            # Entry 2 i is ON at pixel i, entry 2 i + 1 OFF.
            weights = np.stack([_weights(c_pos), _weights(c_neg)], axis=-1).reshape(-1)
            entries = np.flatnonzero(weights)
            rate = config.shot_hz * live
            self._clocks.append(_Clock(derive(key, "shot"), rate, entries, weights[entries], thinned=True))
        if config.hot_hz > 0 and len(hot):
            entries = np.stack([2 * hot, 2 * hot + 1], axis=-1).reshape(-1)
            weights = np.ones(len(entries))
            self._clocks.append(_Clock(derive(key, "hot"), config.hot_hz * len(hot), entries, weights, thinned=False))

    def reset(self) -> None:
        """Go back to the start."""
        for clock in self._clocks:
            clock.reset()

    def take(self, until: int) -> Candidates:
        """Return the candidates since the last call, up to and with `until` (microseconds since the first frame)."""
        if not self._clocks:  # rates, but not a pixel to have them
            return NONE
        parts = [clock.take(until) for clock in self._clocks]
        entry, elapsed, draw = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.lexsort((elapsed, entry >> 1))
        entry = entry[order]
        return Candidates(entry >> 1, elapsed[order], (1 - (entry & 1)).astype(np.uint8), draw[order])

    def state(self) -> list[tuple[int, float]]:
        """Return where each clock stands: (arrivals so far, time of the next one)."""
        return [(clock.count, clock.next_us) for clock in self._clocks]

    def load(self, state: list[tuple[int, float]]) -> None:
        """Set the clocks to a `state`."""
        for clock, (count, next_us) in zip(self._clocks, state, strict=True):
            clock.count, clock.next_us = int(count), float(next_us)


class _Clock:
    """A Poisson process of `rate_hz` whose arrivals fall on `entries` in proportion to `weights`."""

    def __init__(
        self, key: int, rate_hz: float, entries: NDArray[np.int64], weights: NDArray[np.float64], thinned: bool
    ) -> None:
        self.key = np.uint64(key)
        self.mean_gap_us = 1e6 / rate_hz
        self.entries = entries
        self.odds, self.other = _alias_table(weights)
        self.thinned = thinned
        self.reset()

    def reset(self) -> None:
        """Go back to the start."""
        self.count = 0
        self.next_us = float(_first_gap(self.key, self.mean_gap_us))

    def take(self, until: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return (entry, elapsed, draw) of the arrivals up to and with `until`, in order of time."""
        room = max(until - self.next_us, 0) / self.mean_gap_us
        size = min(int(room + 8 * math.sqrt(room) + 16), _ARRIVALS_AT_ONCE)
        parts = []
        while True:
            entry, elapsed, draw = (np.empty(size, np.int64) for _ in range(3))
            num, self.next_us = _arrivals(
                self.key, self.count, self.next_us, self.mean_gap_us, until, self.odds, self.other, entry, elapsed, draw
            )
            self.count += num
            parts.append((self.entries[entry[:num]], elapsed[:num], draw[:num] if self.thinned else 0 * draw[:num]))
            if num < size:
                return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def _weights(thresholds: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return 1 / threshold, scaled to a mean of one over the live pixels; dead ones weigh nothing."""
    live = thresholds != DEAD_THRESHOLD
    weights = np.where(live, 1.0 / thresholds, 0.0)
    return weights / weights[live].mean()


_mixed = njit(nogil=True, cache=True)(splitmix64)


@njit(nogil=True, cache=True)
def _draw(key: Any, count: int, stream: int) -> Any:
    return _mixed(_mixed(key) + np.uint64(4 * count + stream))


@njit(nogil=True, cache=True)
def _first_gap(key: Any, mean_gap_us: float) -> float:
    return _gap(key, 0, mean_gap_us)


@njit(nogil=True, cache=True)
def _gap(key: Any, count: int, mean_gap_us: float) -> float:
    """Return the time from arrival `count` - 1 to arrival `count`, by inversion of a uniform in (0, 1]."""
    return -math.log((np.float64(_draw(key, count, 0) >> np.uint64(11)) + 1.0) * 2.0**-53) * mean_gap_us


@njit(nogil=True, cache=True)
def _arrivals(
    key: Any,
    count: int,
    next_us: float,
    mean_gap_us: float,
    until: int,
    odds: Any,
    other: Any,
    entry: Any,
    elapsed: Any,
    draw: Any,
) -> tuple[int, float]:
    """Write arrivals with stamps up to `until` while there is room; return their number and the time of the next."""
    num = 0
    size = np.uint64(odds.shape[0])
    low = np.uint64(0xFFFFFFFF)
    while num < entry.shape[0]:
        stamp = np.int64(math.ceil(next_us))
        if stamp > until:
            break
        bits = _draw(key, count, 1)
        place = np.int64(((bits >> np.uint64(32)) * size) >> np.uint64(32))
        if np.int64(bits & low) >= odds[place]:
            place = np.int64(other[place])
        entry[num] = place
        elapsed[num] = max(stamp, 1)
        draw[num] = np.int64(_draw(key, count, 2) >> np.uint64(32))
        num += 1
        count += 1
        next_us += _gap(key, count, mean_gap_us)
    return num, next_us


@njit(nogil=True, cache=True)
def _alias_table(weights: Any) -> tuple[Any, Any]:
    """Return (odds with 32 bits after the point, the other choice) of each entry: a draw in constant time.

    Vose, IEEE Transactions on Software Engineering 1991.
    """
    size = weights.shape[0]
    share = weights * (size / weights.sum())
    odds = np.full(size, 1 << 32, np.int64)
    other = np.arange(size).astype(np.int32)
    small = np.empty(size, np.int32)
    large = np.empty(size, np.int32)
    num_small = num_large = 0
    for i in range(size):
        if share[i] < 1:
            small[num_small] = i
            num_small += 1
        else:
            large[num_large] = i
            num_large += 1
    while num_small and num_large:
        num_small -= 1
        poor, rich = small[num_small], large[num_large - 1]
        odds[poor] = np.int64(share[poor] * 4294967296.0)
        other[poor] = rich
        share[rich] -= 1 - share[poor]
        if share[rich] < 1:
            num_large -= 1
            small[num_small] = rich
            num_small += 1
    return odds, other
