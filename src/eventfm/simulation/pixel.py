"""The change detector: frames in, events out, in any chunks and with the same bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eventfm.events import Events, Sensor
from eventfm.simulation.kernels import scan_interval, sort_by_time, unpack, voxel_interval
from eventfm.simulation.sensor import SensorConfig, brightness_table, initial_distance, threshold_maps

LONGEST_INTERVAL_US = 2**31 - 1
"""Longest time between two frames: times inside an interval have 31 bits."""
LONGEST_COUNTED_US = 1 << 17
"""Intervals up to this length are ordered with one bucket per microsecond, longer ones by a comparison sort."""


class EventSimulator:
    """Turns a stream of frames into the events that an ideal event camera would have sent.

    Brightness is taken to run straight between frames; a pixel sends an event each time its brightness has gone a
    threshold away from where it stood at its last event. The very first frame only sets the state.
    Frames are (F, H, W): uint8 or uint16 over their full range, or float in [0, 1] (kept to 16 bits).

    Args:
        height: Rows of the sensor.
        width: Columns of the sensor.
        config: Thresholds and response.
        clip_id: Which random maps to draw: clips of one `config.seed` differ by this number.
    """

    def __init__(self, height: int, width: int, config: SensorConfig, clip_id: int = 0) -> None:
        self.sensor = Sensor(width, height)
        self.config = config
        self.clip_id = clip_id
        self._c_pos, self._c_neg = threshold_maps(config, height, width, clip_id)
        self._tables = {"uint8": brightness_table(config, 1 << 8), "uint16": brightness_table(config, 1 << 16)}
        self._keys = np.empty(height * width // 4, np.uint64)
        self._sorted = np.empty(0, np.uint64)
        self.reset()

    def reset(self) -> None:
        """Forget everything that was seen: the next frame is a first frame."""
        self._reference: NDArray[np.int32] | None = None
        self._frame: NDArray[Any] | None = None
        self._t_us = 0

    def push(self, frames: ArrayLike, t_us: ArrayLike) -> Events:
        """Return the events since the last frame of the call before, ordered by time, ties in raster order.

        The events between frames k and k + 1 lie in (t_us[k], t_us[k + 1]].

        Args:
            frames: (F, H, W) uint8, uint16 or float in [0, 1].
            t_us: (F,) integer microseconds, strictly increasing, also from one call to the next.

        Raises:
            ValueError: Wrong shape, dtype or frame size, values that are not in [0, 1], or times that do not increase.
        """
        first = None if self._frame is None else self._t_us
        intervals: list[tuple[int, int]] = []
        num_sorted = 0
        for previous, current, t_start, t_stop in self._intervals(frames, t_us):
            first = t_start if first is None else first
            num_keys = self._scan(previous, current, t_stop - t_start)
            self._sorted = _with_room(self._sorted, num_sorted, num_sorted + num_keys)
            out = self._sorted[num_sorted : num_sorted + num_keys]
            if t_stop - t_start <= LONGEST_COUNTED_US:
                sort_by_time(self._keys[:num_keys], t_stop - t_start, out)
            else:
                out[:] = np.sort(self._keys[:num_keys])  # a key is time, row, column from its top bits down
            num_sorted += num_keys
            intervals.append((t_start, num_sorted))
        if first is None or not intervals:
            return Events.empty(self.sensor)
        x, y, t, p = (np.empty(num_sorted, dtype) for dtype in (np.uint16, np.uint16, np.int64, np.uint8))
        start = 0
        for t_start, stop in intervals:
            part = slice(start, stop)
            unpack(self._sorted[part], t_start, x[part], y[part], t[part], p[part])
            start = stop
        return Events(x, y, t, p, self.sensor, (first + 1, self._t_us + 1))

    def add_to_voxel(
        self, frames: ArrayLike, t_us: ArrayLike, grid: NDArray[np.float32], t_range: tuple[int, int]
    ) -> None:
        """Add the events of `frames` inside the window `t_range` to `grid`, without making a list of events.

        The state moves on exactly as with `push`; see `simulate_voxel` for the rule.

        Args:
            frames: As for `push`.
            t_us: As for `push`.
            grid: (B, H, W) float32, added to in place.
            t_range: Half-open window in integer microseconds; bin 0 is at its first and bin B - 1 at its last one.

        Raises:
            ValueError: As for `push`, or a grid of another size, or an empty window.
        """
        shape = (self.sensor.height, self.sensor.width)
        if grid.ndim != 3 or grid.shape[1:] != shape or grid.dtype != np.float32 or not len(grid):
            raise ValueError(f"expected a float32 grid (B, {shape[0]}, {shape[1]}), got {grid.dtype} {grid.shape}")
        start, stop = (int(t) for t in t_range)
        if stop <= start:
            raise ValueError(f"expected a window [t0, t1) with t0 < t1, got [{start}, {stop})")
        for previous, current, t_start, t_stop in self._intervals(frames, t_us):
            voxel_interval(
                previous,
                current,
                self._tables[current.dtype.name],
                self._reference,
                self._c_pos,
                self._c_neg,
                t_stop - t_start,
                t_start,
                start,
                stop,
                grid,
            )

    def state_dict(self) -> dict[str, Any]:
        """Return what is needed to go on later or elsewhere: numpy arrays and plain values, all copies."""
        return {
            "config": asdict(self.config),
            "clip_id": self.clip_id,
            "size": (self.sensor.height, self.sensor.width),
            "t_us": self._t_us,
            "frame": None if self._frame is None else self._frame.copy(),
            "reference": None if self._reference is None else self._reference.copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict` of a simulator with the same size, config and clip.

        Raises:
            ValueError: The state is of another simulator.
        """
        mine = self.state_dict()
        for key in ("size", "config", "clip_id"):
            if state[key] != mine[key]:
                raise ValueError(f"expected the state of a simulator with {key} {mine[key]}, got {state[key]}")
        for key in ("frame", "reference"):
            if state[key] is not None and np.shape(state[key]) != mine["size"]:
                raise ValueError(f"expected a {key} of shape {mine['size']}, got {np.shape(state[key])}")
        self._t_us = int(state["t_us"])
        self._frame = None if state["frame"] is None else np.array(state["frame"])
        self._reference = None if state["reference"] is None else np.array(state["reference"], np.int32)

    def _intervals(self, frames: ArrayLike, t_us: ArrayLike) -> Iterator[tuple[NDArray[Any], NDArray[Any], int, int]]:
        """Yield (frame before, frame after, time before, time after); the state has moved on after each."""
        stack = self._checked_frames(frames)
        times = self._checked_times(t_us, len(stack))
        for frame, t in zip(stack, times, strict=True):
            if self._frame is None or self._reference is None:
                distance = initial_distance(self.config, self._c_pos, self._c_neg, self.clip_id)
                self._reference = self._tables[frame.dtype.name][frame] - distance
            else:
                previous = self._frame
                if previous.dtype != frame.dtype:
                    previous, frame = _as_16_bit(previous), _as_16_bit(frame)
                yield previous, frame, self._t_us, t
            self._frame, self._t_us = frame, t
        if len(stack):
            self._frame = self._frame.copy()  # the caller may write to its frames after this call

    def _scan(self, previous: NDArray[Any], current: NDArray[Any], duration: int) -> int:
        """Fill `_keys` with the events of one interval and return their number."""
        table = self._tables[current.dtype.name]
        num_keys = row = 0
        while True:
            num_keys, row, needed = scan_interval(
                previous, current, table, self._reference, self._c_pos, self._c_neg, duration, self._keys, num_keys, row
            )
            if needed <= len(self._keys):
                return int(num_keys)
            self._keys = _with_room(self._keys, num_keys, needed)

    def _checked_frames(self, frames: ArrayLike) -> NDArray[Any]:
        stack = np.asarray(frames)
        shape = (self.sensor.height, self.sensor.width)
        if stack.ndim != 3 or stack.shape[1:] != shape:
            raise ValueError(f"expected frames (F, {shape[0]}, {shape[1]}), got shape {stack.shape}")
        if stack.dtype in (np.uint8, np.uint16):
            return np.ascontiguousarray(stack)
        if stack.dtype.kind != "f":
            raise ValueError(f"expected uint8, uint16 or float frames, got {stack.dtype}")
        if stack.size and not (stack.min() >= 0 and stack.max() <= 1):
            raise ValueError(
                f"expected float frames in [0, 1] without NaN, got values from {stack.min()} to {stack.max()}"
            )
        return np.rint(stack * 65535.0).astype(np.uint16)

    def _checked_times(self, t_us: ArrayLike, count: int) -> list[int]:
        times = np.asarray(t_us)
        if times.shape != (count,):
            raise ValueError(f"expected one time for each of {count} frames, got times of shape {times.shape}")
        if count and times.dtype.kind not in "iu":
            raise ValueError(f"expected frame times in integer microseconds, got {times.dtype}")
        out = [int(t) for t in times]
        known = out if self._frame is None else [self._t_us, *out]
        for before, after in pairwise(known):
            if after <= before:
                raise ValueError(f"expected frame times that increase, got {after} us after {before} us")
            if after - before > LONGEST_INTERVAL_US:
                raise ValueError(
                    f"expected at most {LONGEST_INTERVAL_US} us between two frames, got {after - before} us "
                    f"from {before} us"
                )
        return out


def simulate(frames: ArrayLike, t_us: ArrayLike, config: SensorConfig, clip_id: int = 0) -> Events:
    """Return the events of one clip of frames (F, H, W) at times (F,); see `EventSimulator.push`."""
    return _simulator_for(frames, config, clip_id).push(frames, t_us)


def simulate_voxel(
    frames: ArrayLike,
    t_us: ArrayLike,
    config: SensorConfig,
    num_bins: int,
    t_range: tuple[int, int],
    clip_id: int = 0,
) -> NDArray[np.float32]:
    """Return the signed bilinear voxel grid (num_bins, H, W) float32 of a clip, without making a list of events.

    An event of polarity p (+1 or -1) at t in the half-open window `t_range` = [t0, t1) is at
    tau = (num_bins - 1) (t - t0) / max(t1 - 1 - t0, 1); with i = floor(tau) and f = tau - i, bin i gets p (1 - f) and
    bin i + 1, if there is one, p f. Equals the grid of the events of `simulate` to the last bit, with i found in
    integers and f as a quotient of two float32 numbers.

    Raises:
        ValueError: As for `EventSimulator.push`, or no bins, or an empty window.
    """
    if num_bins < 1:
        raise ValueError(f"expected at least one bin, got {num_bins}")
    simulator = _simulator_for(frames, config, clip_id)
    grid = np.zeros((num_bins, simulator.sensor.height, simulator.sensor.width), np.float32)
    simulator.add_to_voxel(frames, t_us, grid, t_range)
    return grid


def _simulator_for(frames: ArrayLike, config: SensorConfig, clip_id: int) -> EventSimulator:
    shape = np.shape(frames)
    if len(shape) != 3:
        raise ValueError(f"expected frames (F, H, W), got shape {shape}")
    return EventSimulator(shape[1], shape[2], config, clip_id)


def _as_16_bit(frame: NDArray[Any]) -> NDArray[np.uint16]:
    return frame.astype(np.uint16) * np.uint16(257) if frame.dtype == np.uint8 else frame


def _with_room(buffer: NDArray[np.uint64], used: int, needed: int) -> NDArray[np.uint64]:
    """Return `buffer`, or a longer copy of its first `used` entries, with at least `needed` entries."""
    if needed <= len(buffer):
        return buffer
    grown = np.empty(max(needed, 2 * len(buffer)), np.uint64)
    grown[:used] = buffer[:used]
    return grown
