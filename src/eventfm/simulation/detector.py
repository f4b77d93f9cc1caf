"""The pixels of one sensor on the CPU: their state, and the step over one frame interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventfm.simulation.kernels import DROP, HOLD, SUPPRESS, filter_brightness, scan_interval, start_pixels
from eventfm.simulation.maps import initial_distance, leak_map, threshold_maps
from eventfm.simulation.noise import NONE, NoiseClocks, thin
from eventfm.simulation.response import brightness_table, keep_table, low_pass
from eventfm.simulation.sensor import SensorConfig

MODES = {"hold": HOLD, "drop": DROP, "suppress": SUPPRESS}
LARGEST_DRIFT = 1 << 29
"""Leak in one interval must stay well inside 32 bits."""


class CompiledDetector:
    """Pixels (H, W) of one clip, stepped from frame to frame by compiled loops.

    Args:
        config: The sensor.
        height: Rows.
        width: Columns.
        clip_id: Which random maps of `config.seed`.
    """

    def __init__(self, config: SensorConfig, height: int, width: int, clip_id: int) -> None:
        self.config = config
        self.clip_id = clip_id
        self.c_pos, self.c_neg = threshold_maps(config, height, width, clip_id)
        self._span = (self.c_pos.astype(np.int64) + self.c_neg - 1).astype(np.uint32)
        self._leak = leak_map(config, self.c_pos, clip_id) if config.leak_hz else None
        self._strongest_leak = 0 if self._leak is None else int(self._leak.max())
        self._table = brightness_table(config)
        self._keep = keep_table(config)
        self._keys = np.empty(height * width // 4 + 16, np.uint64)
        self._distance: NDArray[np.int32] | None = None
        self._clocks = NoiseClocks(config, self.c_pos, self.c_neg, clip_id) if config.has_noise else None
        by_steps = config.refractory_us > 0 or config.has_noise
        self._hold = np.zeros((height, width), np.int64) if by_steps else None
        self._held = np.zeros((height, width), np.uint8) if by_steps else None
        self._low = np.empty((height, width), np.int32)

    def start(self, frame: NDArray[np.uint16]) -> None:
        """Take `frame` (H, W) for the first one."""
        if self._distance is None and self.config.init == "uniform":
            self._distance = initial_distance(self.config, self.c_pos, self.c_neg, self.clip_id)
        start_pixels(frame, self._table, self.c_pos, self.c_neg, self._distance, self._low)
        poles = self.config.poles if self.config.cutoff_hz else 0
        self._level = np.repeat(self._table[frame][None], poles, axis=0) if poles else None
        self._next_level = None if self._level is None else np.empty_like(self._level)
        if self._clocks is not None:
            self._clocks.reset()
        if self._hold is not None and self._held is not None:
            self._hold.fill(0)
            self._held.fill(0)

    def longest_interval_us(self) -> int:
        """Return how far apart two frames may be for the leak to stay in bounds."""
        return ((LARGEST_DRIFT << 18) // self._strongest_leak) if self._strongest_leak else 2**62

    def advance(
        self, first: NDArray[np.uint16], last: NDArray[np.uint16], elapsed: int, duration: int
    ) -> NDArray[np.uint64]:
        """Step over the interval between two frames and return its events in raster order.

        Args:
            first: (H, W), the frame before.
            last: (H, W), the frame after.
            elapsed: Microseconds from the very first frame to `first`.
            duration: Microseconds from `first` to `last`.

        Returns:
            Keys (see `kernels.scan_interval`), valid until the next call.
        """
        before = after = None
        if self._level is not None and self._next_level is not None:
            coefficients = low_pass(self.config, duration)
            filter_brightness(first, last, self._table, *coefficients, self._level, self._next_level)
            before, after = self._level[-1], self._next_level[-1]
        noise = NONE
        if self._clocks is not None:
            noise = thin(self._clocks.take(elapsed + duration), first, last, self._keep)
        num_keys = row = column = next_noise = 0
        while True:
            num_keys, row, column, next_noise, needed = scan_interval(
                first,
                last,
                self._table,
                before,
                after,
                self._low,
                self._span,
                self.c_neg,
                self._leak,
                elapsed,
                duration,
                self._hold,
                self._held,
                self.config.refractory_us,
                MODES[self.config.refractory],
                noise.pixel,
                noise.elapsed - elapsed,
                noise.polarity,
                self.config.noise_resets,
                self._keys,
                num_keys,
                row,
                column,
                next_noise,
            )
            if needed <= len(self._keys):
                break
            grown = np.empty(max(needed, 2 * len(self._keys)), np.uint64)
            grown[:num_keys] = self._keys[:num_keys]
            self._keys = grown
        self._level, self._next_level = self._next_level, self._level
        return self._keys[:num_keys]

    def state(self) -> dict[str, Any]:
        """Return what differs from the start, as copies: reference, level, hold, noise."""
        return {
            "reference": (self._low + self.c_neg - np.int32(1)).astype(np.int32),
            "level": None if self._level is None else self._level.copy(),
            "hold": None if self._hold is None else self._hold.copy(),
            "noise": None if self._clocks is None else self._clocks.state(),
        }

    def load(self, state: Mapping[str, Any], frame: NDArray[np.uint16], elapsed: int) -> None:
        """Go on from a `state` that was taken at `frame`, `elapsed` microseconds after the first one."""
        self.start(frame)
        reference = np.asarray(state["reference"], np.int32)
        self._low = reference - self.c_neg + np.int32(1)  # wraps around for dead pixels, as in the kernels
        if self._level is not None:
            self._level[:] = state["level"]
        if self._hold is not None and self._held is not None:
            self._hold[:] = state["hold"]
            if self.config.refractory != "drop":
                self._held[:] = self._hold > elapsed
        if self._clocks is not None:
            self._clocks.load(state["noise"])
