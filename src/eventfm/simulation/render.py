"""What the sensor sees of a picture while the picture moves, and the events that follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eventfm.events import Events
from eventfm.simulation.light import linear
from eventfm.simulation.motion import frame_times
from eventfm.simulation.paths import Path
from eventfm.simulation.pixel import EventSimulator
from eventfm.simulation.response import FULL
from eventfm.simulation.sensor import SensorConfig, checked
from eventfm.simulation.warp import inside, warp

OVERSAMPLING = 3
"""Samples of the picture per sensor pixel, in both directions."""
_BYTES_AT_ONCE = 1 << 23


@dataclass(frozen=True, eq=False)
class Plane:
    """A picture made ready for one sensor: oversampled, without detail that the sensor could not resolve."""

    light: NDArray[np.float32]
    """(H', W') linear luminance in [0, 1]."""
    to_sensor: NDArray[np.float64]
    """(3, 3) homography from its pixels to the sensor at rest; `path.at(t) @ to_sensor` holds at time t."""
    size: tuple[int, int]
    """Sensor height and width."""


def fit(light: NDArray[np.floating], size: tuple[int, int], enlarge: bool = False) -> Plane:
    """Return the picture placed so that at rest its centre just covers the sensor of `size` (height, width).

    The picture is resized to three samples per sensor pixel each way (by area where that is smaller, else linearly) and
    smoothed with (1, 2, 3, 2, 1) / 9 both ways: the light that a pixel one sensor pixel wide gathers through a lens of
    the same sharpness. Detail that the sensor would alias is gone, and bilinear sampling of the rest is nearly exact,
    so moving the picture by parts of a pixel makes grey values shift and not flicker.

    A plane may serve any number of clips of its picture: all that takes a picture takes its plane instead.

    Args:
        light: (H', W') linear luminance in [0, 1].
        size: Sensor height and width.
        enlarge: Take pictures that have fewer pixels than the sensor too, though they look soft on it.

    Raises:
        ValueError: Not a two-dimensional picture of numbers in [0, 1], or a smaller one than the sensor.
    """
    import cv2

    light = np.asarray(light)
    if light.ndim != 2 or light.dtype.kind != "f" or not light.size:
        raise ValueError(
            f"expected linear luminance (H, W) in [0, 1] as floats, got {light.dtype} of shape {light.shape}; "
            "`linear` makes it from pictures of integers"
        )
    if not (light.min() >= 0 and light.max() <= 1):
        raise ValueError(
            f"expected linear luminance (H, W) in [0, 1] without NaN, got values from {light.min()} to {light.max()}"
        )
    height, width = size
    if not enlarge and (light.shape[0] < height or light.shape[1] < width):
        raise ValueError(
            f"expected a picture of at least {width} x {height} pixels, as the sensor has, got {light.shape[1]} x "
            f"{light.shape[0]}: take a smaller sensor, or pass enlarge=True and have it look soft"
        )
    scale = OVERSAMPLING * max(height / light.shape[0], width / light.shape[1])
    rows, columns = (
        max(round(extent * scale), OVERSAMPLING * pixels) for extent, pixels in zip(light.shape, size, strict=True)
    )
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    samples = cv2.resize(light.astype(np.float32, copy=False), (columns, rows), interpolation=method)
    kernel = np.array([1, 2, 3, 2, 1], np.float32) / 9
    # In place, for fresh pages for a second array take longer than the sums.
    cv2.sepFilter2D(samples, cv2.CV_32F, kernel, kernel, dst=samples, borderType=cv2.BORDER_REFLECT_101)
    sample = 1 / OVERSAMPLING
    to_sensor = np.array(
        [
            [sample, 0.0, (width - 1) / 2 - sample * (columns - 1) / 2],
            [0.0, sample, (height - 1) / 2 - sample * (rows - 1) / 2],
            [0.0, 0.0, 1.0],
        ]
    )
    return Plane(samples, to_sensor, (height, width))


def prepared(picture: ArrayLike | Plane, size: tuple[int, int], enlarge: bool = False) -> Plane:
    """Return the plane of a picture: coded (see `linear`), linear luminance as floats, or a plane already.

    Raises:
        ValueError: As `linear` and `fit`, or a plane for another sensor.
    """
    if isinstance(picture, Plane):
        if picture.size != tuple(size):
            raise ValueError(f"expected a plane for a sensor (height, width) {tuple(size)}, got one for {picture.size}")
        return picture
    array = np.asarray(picture)
    return fit(array if array.dtype.kind == "f" else linear(array), size, enlarge)


def view(plane: Plane, h: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return what the sensor sees, (H, W) float32 in [0, 1], with the plane moved by `h` (3, 3) from rest.

    Beyond its edge the picture is mirrored; `seen` tells where.
    """
    out = np.empty((1, *plane.size), np.float32)
    warp(plane.light, np.linalg.inv(h @ plane.to_sensor)[None], np.float32(1), np.float32(0), out)
    return np.minimum(out[0], 1)  # sums of weights are one to rounding


def seen(plane: Plane, h: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return (H, W) bool: the pixel looks at the picture itself, not at its mirrored continuation."""
    out = np.empty(plane.size, np.bool_)
    inside(np.linalg.inv(h @ plane.to_sensor), plane.light.shape, out)
    return out


def render(
    picture: ArrayLike | Plane, path: Path, times: ArrayLike, size: tuple[int, int], enlarge: bool = False
) -> NDArray[np.uint16]:
    """Return the frames (F, H, W) uint16, linear light, that a sensor of `size` sees of a moving picture.

    The picture is placed and filtered by `fit`: source of any resolution, no aliasing.

    Args:
        picture: As for `make_clip`.
        path: The motion.
        times: (F,) microseconds.
        size: Sensor height and width.
        enlarge: Take pictures that have fewer pixels than the sensor too.

    Raises:
        ValueError: A picture of the wrong kind, or a smaller one than the sensor.
    """
    matrices = path.at(np.asarray(times))
    out = np.empty((len(matrices), *size), np.uint16)
    _write_frames(prepared(picture, size, enlarge), matrices, out)
    return out


@dataclass(frozen=True, eq=False)
class Clip:
    """Events of a moving picture and what the sensor saw at the two ends of the time."""

    events: Events
    """Times in (t0, t1]."""
    first: NDArray[np.float32]
    """(H, W) linear luminance at t0, in [0, 1]: the frame's 16 bits, so events integrate to the difference exactly."""
    last: NDArray[np.float32]
    """(H, W) linear luminance at t1."""
    valid: NDArray[np.bool_]
    """(H, W): the pixel looks at the picture, not at its mirrored continuation, at both ends."""
    times: NDArray[np.int64]
    """(F,) microseconds of the frames that were simulated, t0 to t1."""


def make_clip(
    picture: ArrayLike | Plane,
    path: Path,
    t_us_range: tuple[int, int],
    size: tuple[int, int],
    config: SensorConfig,
    clip_id: int = 0,
    enlarge: bool = False,
) -> Clip:
    """Return the events that a sensor sends while `picture` moves along `path` from t0 to t1, and both end frames.

    Args:
        picture: sRGB (H', W') or (H', W', 3), uint8 or uint16; float linear luminance (H', W') in [0, 1]; or its plane.
        path: The motion; frames are rendered wherever a pixel has moved by half a pixel.
        t_us_range: (t0, t1) in microseconds.
        size: Sensor height and width.
        config: The sensor. Frames are linear light, so its `gamma` must be None.
        clip_id: Which random maps of `config.seed` to use.
        enlarge: Take pictures that have fewer pixels than the sensor too, though they look soft on it.

    Raises:
        ValueError: A picture of the wrong kind, or smaller than the sensor; an empty range; a sensor with gamma.
    """
    return record(prepared(picture, size, enlarge), path, t_us_range, [config], clip_id)[0]


def record(
    plane: Plane, path: Path, t_us_range: tuple[int, int], configs: Sequence[SensorConfig], clip_id: int = 0
) -> list[Clip]:
    """Return one clip for each sensor; all of them see the same frames. See `make_clip`."""
    for config in configs:
        check_linear(config)
    t0, t1 = t_us_range
    times = frame_times(path, t0, t1, plane.size)
    matrices = path.at(times)
    simulators = [EventSimulator(*plane.size, config, clip_id) for config in configs]
    parts: list[list[Events]] = [[] for _ in simulators]
    at_once = max(1, _BYTES_AT_ONCE // (2 * plane.size[0] * plane.size[1]))
    frames = np.empty((min(len(times), at_once), *plane.size), np.uint16)
    for start in range(0, len(times), at_once):
        part = slice(start, start + at_once)
        some = frames[: len(times[part])]
        _write_frames(plane, matrices[part], some)
        if start == 0:
            first = some[0] / np.float32(FULL)
        for simulator, events in zip(simulators, parts, strict=True):
            events.append(simulator.push(some, times[part]))
    last = some[-1] / np.float32(FULL)
    valid = seen(plane, matrices[0]) & seen(plane, matrices[-1])
    return [Clip(joined(events, (t0 + 1, t1 + 1)), first, last, valid, times) for events in parts]


def check_linear(config: SensorConfig) -> None:
    """Refuse a sensor that takes its frames for coded ones.

    Raises:
        ValueError: It has a gamma, or is no `SensorConfig`.
    """
    if checked(config).gamma is not None:
        raise ValueError(
            f"expected a sensor with gamma=None, for rendered frames are linear light, got {config.gamma!r}"
        )


def joined(parts: Sequence[Events], window: tuple[int, int]) -> Events:
    """Return the events of one sensor that came part by part, as one list with its `window` (microseconds)."""
    if len(parts) == 1:
        return replace(parts[0], window=window)
    x, y, t, p = (np.concatenate([getattr(part, name) for part in parts]) for name in "xytp")
    labels = [part.noise for part in parts if part.noise is not None]
    return Events(x, y, t, p, parts[0].sensor, window, np.concatenate(labels) if labels else None)


def _write_frames(plane: Plane, matrices: NDArray[np.float64], out: NDArray[np.uint16]) -> None:
    """Write the frames (F, H, W) of `matrices` (F, 3, 3), rounded: a cast would shift grey values by half a step."""
    warp(plane.light, np.linalg.inv(matrices @ plane.to_sensor), np.float32(FULL), np.float32(0.5), out)
