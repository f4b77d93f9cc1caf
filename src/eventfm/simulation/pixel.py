"""The simulator: frames in, events out, in any chunks and with the same bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eventfm.events import Events, Sensor
from eventfm.simulation.detector import CompiledDetector
from eventfm.simulation.keys import add_to_grid, sort_by_time, unpack
from eventfm.simulation.readout import Readout
from eventfm.simulation.sensor import SensorConfig, checked

if TYPE_CHECKING:
    from eventfm.simulation.torch_detector import TorchDetector

Backend = Literal["numba", "torch"]

LONGEST_INTERVAL_US = 2**30 - 1
"""Longest time between two frames: times inside an interval have 30 bits."""
LONGEST_COUNTED_US = 1 << 17
"""Intervals up to this length are ordered with one bucket per microsecond, longer ones by a comparison sort."""


class EventSimulator:
    """Turns a stream of frames into the events that an event camera would have sent.

    Brightness (behind the photoreceptor, if there is one) is taken to run straight between frames; a pixel sends an
    event each time its brightness has gone a threshold away from its reference. The very first frame only sets the
    state. Frames are (F, H, W): uint8 or uint16 over their full range, or float in [0, 1] (kept to 16 bits).

    Args:
        height: Rows of the sensor.
        width: Columns of the sensor.
        config: Thresholds, response and noise.
        clip_id: Which random maps to draw: clips of one `config.seed` differ by this number.
        backend: "numba" for compiled loops on the CPU, "torch" for tensors on any device. Events and states are the
            same to the last bit; many clips at once are the matter of `batch.simulate_batch`.
        device: Where the pixels lie, for torch.

    Raises:
        ValueError: No such backend or device, or `config` is no `SensorConfig`.
    """

    def __init__(
        self,
        height: int,
        width: int,
        config: SensorConfig,
        clip_id: int = 0,
        backend: Backend = "numba",
        device: Any = "cpu",
    ) -> None:
        self.sensor = Sensor(width, height)
        self.config = checked(config)
        self.clip_id = clip_id
        self._detector = _detector_for(config, height, width, clip_id, backend, device)
        self._longest_us = min(LONGEST_INTERVAL_US, self._detector.longest_interval_us())
        self._sorted = self._all_keys = np.empty(0, np.uint64)
        self.reset()

    def reset(self) -> None:
        """Forget everything that was seen: the next frame is a first frame."""
        self._frame: NDArray[np.uint16] | None = None
        self._dtype: np.dtype[Any] | None = None
        self._t_first_us = self._t_us = 0
        self._readout = Readout(self.config, self.clip_id) if Readout.needed(self.config) else None

    def push(self, frames: ArrayLike, t_us: ArrayLike) -> Events:
        """Return the events since the last frame of the call before, ordered by time, ties in raster order.

        The events between frames k and k + 1 lie in (t_us[k], t_us[k + 1]]. `noise` tells noise from signal where the
        sensor has shot noise or hot pixels.

        Args:
            frames: (F, H, W) uint8, uint16 or float in [0, 1].
            t_us: (F,) integer microseconds, strictly increasing, also from one call to the next.

        Raises:
            ValueError: Wrong shape, dtype or frame size, values that are not in [0, 1], or times that do not increase.
        """
        first = None if self._frame is None else self._t_us
        intervals: list[tuple[int, int]] = []
        num_keys = 0
        for keys, t_start, duration in self._intervals(frames, t_us):
            first = t_start if first is None else first
            # Sorted where the cache is warm, then put behind the others: scattering into fresh memory is slow.
            self._sorted = _with_room(self._sorted, 0, len(keys))
            in_order = self._sorted[: len(keys)]
            if duration <= LONGEST_COUNTED_US:
                sort_by_time(keys, duration, in_order)
            else:
                in_order[:] = keys[np.argsort(keys >> np.uint64(34), kind="stable")]
            self._all_keys = _with_room(self._all_keys, num_keys, num_keys + len(keys))
            self._all_keys[num_keys : num_keys + len(keys)] = in_order
            num_keys += len(keys)
            intervals.append((t_start, num_keys))
        if first is None:
            return Events.empty(self.sensor)
        x, y, t, p = (np.empty(num_keys, dtype) for dtype in (np.uint16, np.uint16, np.int64, np.uint8))
        noise = np.empty(num_keys, np.uint8) if self.config.has_noise else None
        start = 0
        for t_start, stop in intervals:
            part = slice(start, stop)
            labels = None if noise is None else noise[part]
            unpack(self._all_keys[part], t_start, x[part], y[part], t[part], p[part], labels)
            start = stop
        events = Events(x, y, t, p, self.sensor, (first + 1, self._t_us + 1), noise)
        return events if self._readout is None else self._readout.push(events, self._t_first_us, self._t_us)

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
            ValueError: As for `push`, or a grid of another size, or an empty window, or a sensor with a readout (whose
                delays need the list of events).
        """
        shape = (self.sensor.height, self.sensor.width)
        if grid.ndim != 3 or grid.shape[1:] != shape or grid.dtype != np.float32 or not len(grid):
            raise ValueError(f"expected a float32 grid (B, {shape[0]}, {shape[1]}), got {grid.dtype} {grid.shape}")
        window = np.asarray(t_range)
        if window.shape != (2,) or window.dtype.kind not in "iu":
            raise ValueError(f"expected a window [t0, t1) of whole microseconds, got {t_range!r}")
        start, stop = (int(t) for t in window)
        if stop <= start:
            raise ValueError(f"expected a window [t0, t1) with t0 < t1, got [{start}, {stop})")
        if self._readout is not None:
            raise ValueError(
                "expected a sensor without latency, jitter, tick or rate limit: these need the list of events; "
                "make the grid from the events of `push`"
            )
        for keys, t_start, duration in self._intervals(frames, t_us):
            add_to_grid(keys, t_start, duration, start, stop, grid)

    def state_dict(self) -> dict[str, Any]:
        """Return what is needed to go on later or elsewhere: numpy arrays and plain values, all copies."""
        state: dict[str, Any] = {
            "config": asdict(self.config),
            "clip_id": self.clip_id,
            "size": (self.sensor.height, self.sensor.width),
            "t_first_us": self._t_first_us,
            "t_us": self._t_us,
            "frame": None,
        }
        if self._frame is None:
            return state
        readout = None if self._readout is None else self._readout.state()
        return state | {"frame": self._frame.copy(), "readout": readout} | self._detector.state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict` of a simulator with the same size, config and clip.

        Raises:
            ValueError: The state is of another simulator.
        """
        mine = {
            "size": (self.sensor.height, self.sensor.width),
            "config": asdict(self.config),
            "clip_id": self.clip_id,
        }
        for key, value in mine.items():
            if state[key] != value:
                raise ValueError(f"expected the state of a simulator with {key} {value}, got {state[key]}")
        if state["frame"] is None:
            self.reset()
            return
        for key in ("frame", "reference", "hold"):
            if state[key] is not None and np.shape(state[key]) != mine["size"]:
                raise ValueError(f"expected a {key} of shape {mine['size']}, got {np.shape(state[key])}")
        elapsed = int(state["t_us"]) - int(state["t_first_us"])
        if any(next_us <= elapsed - 1 for _, next_us in state["noise"] or ()):
            raise ValueError(f"expected noise clocks that have come to the state's {elapsed} us, got {state['noise']}")
        self.reset()
        self._t_first_us, self._t_us = int(state["t_first_us"]), int(state["t_us"])
        self._frame = np.array(state["frame"], np.uint16)
        self._detector.load(state, self._frame, self._t_us - self._t_first_us)
        if self._readout is not None:
            self._readout.load(state["readout"])

    def _intervals(self, frames: ArrayLike, t_us: ArrayLike) -> Iterator[tuple[NDArray[np.uint64], int, int]]:
        """Yield (keys in raster order, start, duration) of each interval; the state has moved on after each."""
        stack, dtype = self._checked_frames(frames)
        times = self._checked_times(t_us, len(stack))
        self._dtype = dtype if len(stack) else self._dtype
        for frame, t in zip(stack, times, strict=True):
            if self._frame is None:
                self._detector.start(frame)
                self._t_first_us = t
            else:
                start, duration = self._t_us, t - self._t_us
                keys = self._detector.advance(self._frame, frame, start - self._t_first_us, duration)
                self._t_us = t
                yield keys, start, duration
            self._frame, self._t_us = frame, t
        if len(stack):
            self._frame = self._frame.copy()  # the caller may write to its frames after this call

    def _checked_frames(self, frames: ArrayLike) -> tuple[NDArray[np.uint16], np.dtype[Any]]:
        """Return the frames as (F, H, W) uint16, and the dtype they came in."""
        shape = (self.sensor.height, self.sensor.width)
        if isinstance(frames, (list, tuple)):
            frames = _stacked(frames)
        stack = np.asarray(frames)
        if stack.ndim != 3 or stack.shape[1:] != shape:
            raise ValueError(f"expected frames (F, {shape[0]}, {shape[1]}), got shape {stack.shape}")
        if stack.dtype not in (np.uint8, np.uint16) and stack.dtype.kind != "f":
            raise ValueError(f"expected uint8, uint16 or float frames, got {stack.dtype}")
        if self._dtype is not None and stack.dtype != self._dtype:
            raise ValueError(f"expected {self._dtype} frames as before, got {stack.dtype}: convert them to one kind")
        dtype = stack.dtype
        if dtype.kind == "f":
            stack = stack.astype(np.float32) if dtype.itemsize < 4 else stack
            if stack.size and not (stack.min() >= 0 and stack.max() <= 1):
                wrong = next(i for i, frame in enumerate(stack) if not (frame.min() >= 0 and frame.max() <= 1))
                raise ValueError(
                    f"expected float frames in [0, 1] without NaN, got values from {stack[wrong].min()} to "
                    f"{stack[wrong].max()} in frame {wrong}; divide by the full scale, or pass uint8 or uint16"
                )
            out = np.rint(stack * 65535.0).astype(np.uint16)
        elif dtype == np.uint8:
            out = np.multiply(stack, np.uint16(257), dtype=np.uint16)
        else:
            out = np.ascontiguousarray(stack)
        return out, dtype

    def _checked_times(self, t_us: ArrayLike, count: int) -> list[int]:
        times = np.asarray(t_us)
        if times.shape != (count,):
            raise ValueError(f"expected one time for each of {count} frames, got times of shape {times.shape}")
        if count and times.dtype.kind not in "iu":
            raise ValueError(f"expected frame times in integer microseconds, got {times.dtype}")
        out = [int(t) for t in times]
        known = out if self._frame is None else [self._t_us, *out]
        for i, (before, after) in enumerate(pairwise(known), start=1 + len(out) - len(known)):
            if after <= before:
                raise ValueError(f"expected frame times that increase, got {after} us after {before} us at frame {i}")
            if after - before > self._longest_us:
                raise ValueError(
                    f"expected at most {self._longest_us} us between two frames, got {after - before} us "
                    f"from {before} us"
                )
        return out


def simulate(
    frames: ArrayLike,
    t_us: ArrayLike,
    config: SensorConfig,
    clip_id: int = 0,
    backend: Backend = "numba",
    device: Any = "cpu",
) -> Events:
    """Return the events of one clip of frames (F, H, W) at times (F,); see `EventSimulator.push`."""
    return _simulator_for(frames, config, clip_id, backend, device).push(frames, t_us)


def simulate_voxel(
    frames: ArrayLike,
    t_us: ArrayLike,
    config: SensorConfig,
    num_bins: int,
    t_range: tuple[int, int],
    clip_id: int = 0,
    backend: Backend = "numba",
    device: Any = "cpu",
) -> NDArray[np.float32]:
    """Return the signed bilinear voxel grid (num_bins, H, W) float32 of a clip, without making a list of events.

    An event of polarity p (+1 or -1) at t in the half-open window `t_range` = [t0, t1) is at
    tau = (num_bins - 1) (t - t0) / max(t1 - 1 - t0, 1); with i = floor(tau) and f = tau - i, bin i gets p (1 - f) and
    bin i + 1, if there is one, p f. Equals the grid of the events of `simulate` to the last bit, with i found in
    integers and f as a quotient of two float32 numbers.

    Raises:
        ValueError: As for `EventSimulator.add_to_voxel`, or no bins.
    """
    if num_bins < 1:
        raise ValueError(f"expected at least one bin, got {num_bins}")
    simulator = _simulator_for(frames, config, clip_id, backend, device)
    grid = np.zeros((num_bins, simulator.sensor.height, simulator.sensor.width), np.float32)
    simulator.add_to_voxel(frames, t_us, grid, t_range)
    return grid


def _simulator_for(
    frames: ArrayLike, config: SensorConfig, clip_id: int, backend: Backend, device: Any
) -> EventSimulator:
    shape = np.shape(_stacked(frames) if isinstance(frames, (list, tuple)) else frames)
    if len(shape) != 3:
        raise ValueError(f"expected frames (F, H, W), got shape {shape}")
    return EventSimulator(shape[1], shape[2], config, clip_id, backend, device)


def _detector_for(
    config: SensorConfig, height: int, width: int, clip_id: int, backend: Backend, device: Any
) -> CompiledDetector | TorchDetector:
    if backend == "torch":
        from eventfm.simulation.torch_detector import TorchDetector

        return TorchDetector(config, height, width, clip_id, device)
    if backend != "numba":
        raise ValueError(f"expected backend 'numba' or 'torch', got {backend!r}")
    if str(device) != "cpu":
        raise ValueError(f"expected device 'cpu' with backend 'numba', got {device!r}; pass backend='torch'")
    return CompiledDetector(config, height, width, clip_id)


def _stacked(frames: list[Any] | tuple[Any, ...]) -> NDArray[Any]:
    """Return a sequence of frames as one array.

    Raises:
        ValueError: A frame has another size or dtype than the first; the message names it.
    """
    arrays = [np.asarray(frame) for frame in frames]
    for i, frame in enumerate(arrays):
        if frame.shape != arrays[0].shape or frame.dtype != arrays[0].dtype:
            raise ValueError(
                f"expected frames of one size and dtype, got {frame.dtype} {frame.shape} in frame {i} after "
                f"{arrays[0].dtype} {arrays[0].shape}"
            )
    return np.stack(arrays) if arrays else np.empty(0)


def _with_room(buffer: NDArray[np.uint64], used: int, needed: int) -> NDArray[np.uint64]:
    """Return `buffer`, or a longer copy of its first `used` entries, with at least `needed` entries."""
    if needed <= len(buffer):
        return buffer
    grown = np.empty(max(needed, 2 * len(buffer)), np.uint64)
    grown[:used] = buffer[:used]
    return grown
