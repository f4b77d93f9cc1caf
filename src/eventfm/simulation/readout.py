"""What the way out of the sensor does to events: delay, coarse clocks, a limited rate. Off unless asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventfm.events import Events
from eventfm.random import derive, splitmix64
from eventfm.simulation.sensor import SensorConfig

PERIOD_US = 1000
"""The rate is limited millisecond by millisecond, as the rate controllers of cameras do."""


class Readout:
    """Delays, rounds and drops the events of one clip as they come; the same for any chunks.

    Each event is late by `latency_us` and an even share of `jitter_us`, is stamped with the next multiple of `tick_us`
    since the first frame, and is lost if as many as `max_rate_hz` allows went out before it in the same millisecond.
    Events on their way at the last frame come out with the next call.
    """

    def __init__(self, config: SensorConfig, clip_id: int) -> None:
        self.config = config
        self._key = np.uint64(derive(config.seed, "clip", clip_id, "jitter"))
        self._count = 0
        self._waiting: dict[str, NDArray[Any]] = {}
        self._period, self._sent = -1, 0

    @staticmethod
    def needed(config: SensorConfig) -> bool:
        """Return whether the readout does anything."""
        return bool(config.latency_us or config.jitter_us or config.tick_us > 1 or config.max_rate_hz)

    def push(self, events: Events, t_first_us: int, t_last_us: int) -> Events:
        """Return the events that have come out by `t_last_us`; `t_first_us` is the time of the very first frame."""
        columns = {"x": events.x, "y": events.y, "p": events.p, "arrival": self._late(events.t - t_first_us)}
        if events.noise is not None:
            columns["noise"] = events.noise
        if self._waiting:
            columns = {name: np.concatenate([self._waiting[name], column]) for name, column in columns.items()}
        order = np.argsort(columns["arrival"], kind="stable")
        tick = self.config.tick_us
        stamps = -(-columns["arrival"][order] // tick) * tick
        num_out = int(np.searchsorted(stamps, t_last_us - t_first_us, side="right"))
        # What waits keeps the order in which it was sent: it will be sorted again among later events.
        self._waiting = {name: column[np.sort(order[num_out:])] for name, column in columns.items()}
        chosen, stamps = order[:num_out], stamps[:num_out]
        if self.config.max_rate_hz:
            kept = self._let_through(stamps)
            chosen, stamps = chosen[kept], stamps[kept]
        out = {name: column[chosen] for name, column in columns.items()}
        t = stamps + t_first_us
        return Events(out["x"], out["y"], t, out["p"], events.sensor, events.window, out.get("noise"))

    def state(self) -> dict[str, Any]:
        """Return what is on its way, as copies."""
        waiting = {name: column.copy() for name, column in self._waiting.items()}
        return {"count": self._count, "waiting": waiting, "period": self._period, "sent": self._sent}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self._count, self._period, self._sent = state["count"], state["period"], state["sent"]
        self._waiting = {name: np.array(column) for name, column in state["waiting"].items()}

    def _late(self, elapsed: NDArray[np.int64]) -> NDArray[np.int64]:
        late = elapsed + self.config.latency_us
        if self.config.jitter_us:
            with np.errstate(over="ignore"):
                numbers = np.arange(self._count, self._count + len(late), dtype=np.uint64)
                bits = splitmix64(splitmix64(np.full(1, self._key)) + numbers)
            late = late + ((bits >> np.uint64(32)) * np.uint64(self.config.jitter_us + 1) >> np.uint64(32)).astype(
                np.int64
            )
        self._count += len(late)
        return late

    def _let_through(self, elapsed: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of the ordered events come before their millisecond is full."""
        assert self.config.max_rate_hz is not None
        most = math.floor(self.config.max_rate_hz * PERIOD_US * 1e-6)
        if not len(elapsed):
            return np.zeros(0, bool)
        period = elapsed // PERIOD_US
        starts = np.flatnonzero(np.diff(period, prepend=period[0] - 1))
        rank = np.arange(len(period)) - np.repeat(starts, np.diff(starts, append=len(period)))
        if period[0] == self._period:
            rank[: starts[1] if len(starts) > 1 else None] += self._sent
        last = period == period[-1]
        self._sent = int(rank[last][-1]) + 1
        self._period = int(period[-1])
        return rank < most
