"""Windows: which stretch of a recording makes one sample."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from eventfm.config import Config
from eventfm.data.adaptive import active_span
from eventfm.events import Events, Sensor
from eventfm.protocols import Recording

Difference = Literal["linear", "log"]
DARKEST = 1 / 255
"""Added to grey in [0, 1] before its logarithm is taken: one step of 8 bits, below which frames know nothing."""
MIN_COVERAGE = 0.75
"""A pair of frames makes a window only if events cover at least this share of the time between them."""
FLOW, FLOW_END = "flow", "flow_until"
"""The track of flow, and the one that says, where there is one, at which microsecond each of its entries ends."""


class WindowError(ValueError):
    """Raised when a recording has no window of the kind that was asked for."""


class WindowConfig(Config):
    """How recordings are cut into windows."""

    by: Literal["time", "count", "frames", "frame", "whole"] = "time"
    """`time`: `duration_us` long; `count`: `num_events` long; `frames`: between two frames; `frame`: from each frame
    on, or up to it; `whole`: the recording."""
    track: str = "frames"
    """What windows by `frames` and by `frame` mean by a frame: an entry of this track, e.g. `semantic` or `depth`. By
    `frames` of `flow`, a window is the time that an entry of it holds for (`cut`)."""
    duration_us: PositiveInt = 50_000
    """Length of a window by time, microseconds."""
    stride_us: PositiveInt | None = None
    """Step from one window to the next by time, microseconds; the length where it is not given."""
    num_events: PositiveInt = 20_000
    """Length of a window by count."""
    frame_gap: PositiveInt = 1
    """Frames from the first to the second that bound a window; every pair of the recording is used."""
    length: Literal["time", "count", "adaptive"] = "time"
    """How long windows by `frame` are: by time, by count, or until `active_share` of the sensor is active
    (`data.adaptive`)."""
    frame_at: Literal["start", "end"] = "start"
    """Where the frame stands in a window by `frame`: at its start, as in ScaleEvent (section 3.1), or at its end."""
    active_share: float = Field(default=0.3, gt=0, le=1)
    """Share of the sensor's patches of 16x16 pixels that is to be active."""
    active_threshold: PositiveFloat = 64.0
    """Events per 256 pixels that make a patch active."""
    max_us: PositiveInt = 200_000
    """Longest window by `frame` whose length is not by time, microseconds."""
    jitter: bool = True
    """While training, each window by time or count starts up to half a stride earlier or later, drawn per epoch."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.by == "frames" and self.track == FLOW and self.frame_gap > 1:
            raise ValueError(f"expected frame_gap=1, for one flow does not reach over several, got {self.frame_gap}")
        return self


class Shorten(NamedTuple):
    """How a window is shortened when it is read, from its start on or, with `backwards`, up to its end."""

    num_events: int | None = None
    """To so many events."""
    share: float = 0.0
    threshold: float = 0.0
    """Else until this share of the sensor has this many events per 256 pixels."""
    backwards: bool = False


class Window(NamedTuple):
    """One window. `start`, `stop` are microseconds `[t0, t1)`, or event numbers where `counted`."""

    start: int
    stop: int
    counted: bool = False
    frames: tuple[int, int] | None = None
    """The two frames that bound the window, whose events lie in `(T_a, T_b]`."""
    entry: int | None = None
    """Which entry of `WindowConfig.track` the window stands at or, between two of them, begins with."""
    limit: int | None = None
    """Where, in the units of `stop`, what follows is held out: jitter may not move the window beyond it."""
    shorten: Shorten | None = None


def cut(recording: Recording, config: WindowConfig) -> list[Window]:
    """Return the windows of `recording`, in time order; none for a recording without events.

    A recording shorter than one window gives one window of full length that starts with it. The rest at the end
    that fills no window is left out.

    An entry of `flow` holds from its time until the time that a track `flow_until` says; without that, until the next
    frame where every flow begins with a frame, as in simulated recordings; else until the next flow. A last one whose
    end is not known so makes no window.

    Raises:
        WindowError: Windows by frames are asked of a recording without frames, or without the track that is meant; or
            the ends of its flow do not fit it.
    """
    if config.by == "frames":
        return _between_frames(recording, config)
    if config.by == "frame":
        return _at_frames(recording, config)
    if not recording.num_events:
        return []
    first, last = recording.t_range
    if config.by == "whole":
        return [Window(first, last + 1)]
    if config.by == "count":
        starts = range(0, max(recording.num_events - config.num_events, 0) + 1, config.num_events)
        return [Window(start, start + config.num_events, counted=True) for start in starts]
    stride = config.stride_us or config.duration_us
    starts = range(first, max(last + 1 - config.duration_us, first) + 1, stride)
    return [Window(start, start + config.duration_us) for start in starts]


def shifted(window: Window, recording: Recording, config: WindowConfig, rng: np.random.Generator) -> Window:
    """Return `window` moved by up to half a stride either way, but neither out of the recording nor over its limit."""
    if not config.jitter or config.by not in ("time", "count"):
        return window
    length = window.stop - window.start
    if window.counted:
        low, high, half = 0, recording.num_events - length, length // 2
    else:
        low, high = recording.t_range[0], recording.t_range[1] + 1 - length
        half = (config.stride_us or length) // 2
    if window.limit is not None:
        high = min(high, window.limit - length)
    if high <= low:
        return window
    start = int(np.clip(window.start + rng.integers(-half, half + 1), low, high))
    return window._replace(start=start, stop=start + length)


def spread(recording: Recording, config: WindowConfig, count: int) -> list[Window]:
    """Return `count` windows of the configured length, evenly from the start to the end of the recording.

    They overlap where the recording is short. Windows between frames, or of the whole recording, are as `cut` makes
    them, `count` of them picked evenly, repeated where there are fewer.

    Raises:
        WindowError: The recording has no window at all.
    """
    windows = cut(recording, config)
    if not windows:
        raise WindowError(f"expected a recording with at least one window by {config.by}, got none: it is empty")
    if config.by in ("frames", "frame", "whole"):
        return [windows[i] for i in np.linspace(0, len(windows) - 1, count).round().astype(int)]
    length, counted = windows[0].stop - windows[0].start, windows[0].counted
    first, stop = (0, recording.num_events) if counted else (recording.t_range[0], recording.t_range[1] + 1)
    # Counted from the first, for times since 1970 in nanoseconds are beyond what float64 holds exactly.
    starts = first + np.linspace(0, max(stop - length - first, 0), count).round().astype(np.int64)
    return [Window(int(start), int(start) + length, counted) for start in starts]


def read(recording: Recording, window: Window) -> Events:
    """Return the events of `window`, with its time range remembered."""
    if window.shorten is not None:
        return _shortened(recording.events(window.start, window.stop), window.shorten)
    if not window.counted:
        return recording.events(window.start, window.stop)
    events = recording.events_by_index(window.start, min(window.stop, recording.num_events))
    span = (int(events.t[0]), int(events.t[-1]) + 1) if len(events) else (0, 1)
    return replace(events, window=span)


def frame_difference(recording: Recording, window: Window, kind: Difference = "linear") -> NDArray[np.float32]:
    """Return the grey difference (H, W) float32 of the two frames that bound `window`, second minus first.

    Grey is in [0, 1] as stored. See `difference_of` for `kind`.

    Raises:
        WindowError: The frames are not as large as the sensor, so that no pixel of theirs belongs to one of its.
    """
    assert window.frames is not None
    first, second = (grey(recording.tracks["frames"].read(i)) for i in window.frames)
    for frame in (first, second):
        require_frame_size(recording.sensor, frame.shape)
    return difference_of(first, second, kind)


def difference_of(first: NDArray[np.float32], second: NDArray[np.float32], kind: Difference) -> NDArray[np.float32]:
    """Return what came between two grey pictures (H, W) in [0, 1].

    `linear`: second minus first, which EventPretrain learns to draw (section 3). `log`: log(second + 1/255) minus
    log(first + 1/255), what an ideal event sensor adds up to.
    """
    if kind == "log":
        return np.log(second + np.float32(DARKEST)) - np.log(first + np.float32(DARKEST))
    return second - first


def require_frame_size(sensor: Sensor, shape: tuple[int, ...]) -> None:
    """Refuse a frame (height, width) that is not as large as the sensor.

    Raises:
        WindowError: It is not, so that no pixel of it belongs to one of the sensor's.
    """
    if shape != (sensor.height, sensor.width):
        raise WindowError(
            f"expected frames as large as the sensor, {sensor.width}x{sensor.height} pixels, got "
            f"{shape[1]}x{shape[0]}; give the right size with data.sensor=[W,H], align the frames with the events, or "
            "train without them: data.target=events"
        )


def grey(picture: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return a stored picture, (H, W) or (H, W, 3), uint8, uint16 or float, as grey (H, W) float32 in [0, 1]."""
    scale = {"u1": 1 / 255, "u2": 1 / 65535}.get(picture.dtype.str[1:], 1.0)
    values = picture.astype(np.float32) * np.float32(scale)
    if values.ndim == 3:
        # Luma weights of ITU-R BT.601, as every common grey conversion of stored pictures.
        values = (
            values[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32) if values.shape[2] > 1 else values[..., 0]
        )
    return values


def before(window: Window) -> Window:
    """Return the window of the same length right before one by time."""
    assert not window.counted
    return Window(2 * window.start - window.stop, window.start)


def is_covered(recording: Recording, window: Window) -> bool:
    """Return whether the recording lasts for most of a window by time: `MIN_COVERAGE` of it."""
    first, last = recording.t_range
    return min(window.stop, last + 1) - max(window.start, first) >= MIN_COVERAGE * (window.stop - window.start)


def _shortened(events: Events, how: Shorten) -> Events:
    """Return what is left of the events of a whole window."""
    assert events.window is not None
    first, stop = events.window
    if how.num_events is None:
        span = active_span(events, how.share, how.threshold, how.backwards)
        return events if span is None else events.between(*span)
    if len(events) <= how.num_events:
        return events
    if how.backwards:
        return events.between(int(events.t[-how.num_events]), stop)
    return events.between(first, int(events.t[how.num_events - 1]) + 1)


def _entry_times(recording: Recording, track: str, what: str) -> NDArray[np.int64]:
    if track in recording.tracks:
        return recording.tracks[track].times
    there = f"got tracks {sorted(recording.tracks) or 'none'}"
    if track != "frames":
        raise WindowError(f"expected a recording with a track {track!r} for windows {what} its entries, {there}")
    raise WindowError(
        f"expected a recording with frames for windows {what} frames, {there}; use window.by=time and target=events"
    )


def _at_frames(recording: Recording, config: WindowConfig) -> list[Window]:
    """Return a window for each frame; none for a frame whose window events hardly cover."""
    times = _entry_times(recording, config.track, "at")
    backwards = config.frame_at == "end"
    shorten = None
    if config.length == "count":
        shorten = Shorten(num_events=config.num_events, backwards=backwards)
    elif config.length == "adaptive":
        shorten = Shorten(share=config.active_share, threshold=config.active_threshold, backwards=backwards)
    first, last = recording.t_range
    reach = config.duration_us if config.length == "time" else min(config.max_us, max(last + 1 - first, 1))
    windows = []
    for number, time in enumerate(times.tolist()):
        start, stop = (time + 1 - reach, time + 1) if backwards else (time, time + reach)
        frames = (number, number) if config.track == "frames" else None
        window = Window(start, stop, frames=frames, entry=number, shorten=shorten)
        if is_covered(recording, window):
            windows.append(window)
    return windows


def _between_frames(recording: Recording, config: WindowConfig) -> list[Window]:
    times, gap = _entry_times(recording, config.track, "between"), config.frame_gap
    ends = _flow_ends(recording) if config.track == FLOW else times[gap:]
    windows = []
    for number, (start, end) in enumerate(zip(times.tolist(), ends.tolist(), strict=False)):
        frames = (number, number + gap) if config.track == "frames" else None
        window = Window(start + 1, end + 1, frames=frames, entry=number)
        if end > start and is_covered(recording, window):
            windows.append(window)
    return windows


def _flow_ends(recording: Recording) -> NDArray[np.int64]:
    """Return until when the entries of `flow` hold, microseconds, (N,); fewer where the last ones' are not known."""
    times = recording.tracks[FLOW].times
    if FLOW_END in recording.tracks:
        ends = recording.tracks[FLOW_END]
        if not np.array_equal(ends.times, times):
            raise WindowError(
                f"expected an entry of {FLOW_END} for each of {FLOW}, at the same times, got {len(ends.times)} for "
                f"{len(times)}"
            )
        return np.array([int(ends.read(i)) for i in range(len(times))], np.int64)
    if "frames" in recording.tracks:
        frames = recording.tracks["frames"].times
        if np.isin(times, frames).all():
            return frames[[i for i in np.searchsorted(frames, times, side="right") if i < len(frames)]]
    return times[1:]
