"""Pictures in linear light, and what the sensor sees of one while it moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eventfm.events import Events
from eventfm.simulation.motion import Path, frame_times
from eventfm.simulation.pixel import EventSimulator
from eventfm.simulation.sensor import SensorConfig, srgb_to_linear

OVERSAMPLING = 3
"""Samples of the picture per sensor pixel, in both directions."""
_FRAMES_AT_ONCE = 32


def linear(picture: ArrayLike) -> NDArray[np.float32]:
    """Return the linear luminance (H, W) float32 in [0, 1] of an sRGB picture, uint8 or uint16, grey or RGB.

    Raises:
        ValueError: Another dtype or shape.
    """
    coded = np.asarray(picture)
    if coded.dtype not in (np.uint8, np.uint16) or not (coded.ndim == 2 or (coded.ndim == 3 and coded.shape[2] == 3)):
        raise ValueError(
            f"expected a uint8 or uint16 picture (H, W) or (H, W, 3), got {coded.dtype} of shape {coded.shape}"
        )
    scale = np.iinfo(coded.dtype).max
    light = srgb_to_linear(np.arange(scale + 1) / scale).astype(np.float32)[coded]
    return light if light.ndim == 2 else light @ np.array([0.2126, 0.7152, 0.0722], np.float32)


@dataclass(frozen=True, eq=False)
class Plane:
    """A picture made ready for one sensor: oversampled, without detail that the sensor could not resolve."""

    light: NDArray[np.float32]
    """(H', W') linear luminance in [0, 1]."""
    to_sensor: NDArray[np.float64]
    """(3, 3) homography from its pixels to the sensor at rest; `path.at(t) @ to_sensor` holds at time t."""
    size: tuple[int, int]
    """Sensor height and width."""


def fit(light: NDArray[np.float32], size: tuple[int, int]) -> Plane:
    """Return the picture placed so that at rest its centre just covers the sensor of `size` (height, width).

    The picture is resized to three samples per sensor pixel each way (by area where that is smaller, else linearly) and
    smoothed with (1, 2, 3, 2, 1) / 9 both ways: the light that a pixel one sensor pixel wide gathers through a lens of
    the same sharpness. Detail that the sensor would alias is gone, and bilinear sampling of the rest is nearly exact,
    so moving the picture by parts of a pixel makes grey values shift and not flicker.

    Raises:
        ValueError: Not a two-dimensional picture in [0, 1].
    """
    import cv2

    light = np.asarray(light, np.float32)
    if light.ndim != 2 or not (light.min() >= 0 and light.max() <= 1):
        raise ValueError(
            f"expected linear luminance (H, W) in [0, 1], got shape {light.shape}, "
            f"values from {light.min()} to {light.max()}"
        )
    height, width = size
    scale = OVERSAMPLING * max(height / light.shape[0], width / light.shape[1])
    rows, columns = (
        max(round(extent * scale), OVERSAMPLING * pixels) for extent, pixels in zip(light.shape, size, strict=True)
    )
    resized = cv2.resize(light, (columns, rows), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    kernel = np.array([1, 2, 3, 2, 1], np.float32) / 9
    smooth = cv2.sepFilter2D(resized, cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
    sample = 1 / OVERSAMPLING
    to_sensor = np.array(
        [
            [sample, 0.0, (width - 1) / 2 - sample * (columns - 1) / 2],
            [0.0, sample, (height - 1) / 2 - sample * (rows - 1) / 2],
            [0.0, 0.0, 1.0],
        ]
    )
    return Plane(smooth, to_sensor, (height, width))


def view(plane: Plane, h: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return what the sensor sees, (H, W) float32 in [0, 1], with the plane moved by `h` (3, 3) from rest.

    Beyond its edge the picture is mirrored; `seen` tells where.
    """
    import cv2

    back = np.linalg.inv(h @ plane.to_sensor)
    height, width = plane.size
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpPerspective(plane.light, back, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT_101)


def seen(plane: Plane, h: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return (H, W) bool: the pixel looks at the picture itself, not at its mirrored continuation."""
    back = np.linalg.inv(h @ plane.to_sensor)
    height, width = plane.size
    x, y = np.arange(width), np.arange(height)[:, None]
    u, v, w = (row[0] * x + row[1] * y + row[2] for row in back)
    rows, columns = plane.light.shape
    edge = 0.5  # the picture reaches half a sample beyond its outermost centres
    return (
        (w > 0) & (u >= -edge * w) & (u <= (columns - 1 + edge) * w) & (v >= -edge * w) & (v <= (rows - 1 + edge) * w)
    )


def render(light: NDArray[np.float32], path: Path, times: ArrayLike, size: tuple[int, int]) -> NDArray[np.uint16]:
    """Return the frames (F, H, W) uint16, linear light, that a sensor of `size` sees of a moving picture.

    The picture is placed and filtered by `fit`: source of any resolution, no aliasing.

    Args:
        light: (H', W') float32 linear luminance in [0, 1].
        path: The motion.
        times: (F,) microseconds.
        size: Sensor height and width.
    """
    return _frames(fit(light, size), path, np.asarray(times))


@dataclass(frozen=True, eq=False)
class Clip:
    """Events of a moving picture and what the sensor saw at the two ends of the time."""

    events: Events
    """Times in (t0, t1]."""
    first: NDArray[np.float32]
    """(H, W) linear luminance at t0, in [0, 1]."""
    last: NDArray[np.float32]
    """(H, W) linear luminance at t1."""
    valid: NDArray[np.bool_]
    """(H, W): the pixel looks at the picture, not at its mirrored continuation, at both ends."""
    times: NDArray[np.int64]
    """(F,) microseconds of the frames that were simulated, t0 to t1."""


def make_clip(
    picture: ArrayLike,
    path: Path,
    t_us_range: tuple[int, int],
    size: tuple[int, int],
    config: SensorConfig,
    clip_id: int = 0,
) -> Clip:
    """Return the events that a sensor sends while `picture` moves along `path` from t0 to t1, and both end frames.

    Args:
        picture: sRGB (H', W') or (H', W', 3), uint8 or uint16; or float: linear luminance (H', W') in [0, 1].
        path: The motion; frames are rendered wherever a pixel has moved by half a pixel.
        t_us_range: (t0, t1) in microseconds.
        size: Sensor height and width.
        config: The sensor. Frames are linear light, so its `gamma` must be None.
        clip_id: Which random maps of `config.seed` to use.

    Raises:
        ValueError: A picture of the wrong kind, an empty range, or a sensor with gamma.
    """
    if config.gamma is not None:
        raise ValueError(
            f"expected a sensor with gamma=None, for rendered frames are linear light, got {config.gamma!r}"
        )
    array = np.asarray(picture)
    plane = fit(array if array.dtype.kind == "f" else linear(array), size)
    t0, t1 = t_us_range
    times = frame_times(path, t0, t1, size)
    simulator = EventSimulator(*size, config, clip_id)
    parts = [
        simulator.push(_frames(plane, path, part), part)
        for part in np.split(times, range(_FRAMES_AT_ONCE, len(times), _FRAMES_AT_ONCE))
    ]
    x, y, t, p = (np.concatenate([getattr(part, name) for part in parts]) for name in "xytp")
    start, stop = path.at(t0), path.at(t1)
    return Clip(
        Events(x, y, t, p, simulator.sensor, (t0 + 1, t1 + 1)),
        view(plane, start),
        view(plane, stop),
        seen(plane, start) & seen(plane, stop),
        times,
    )


def _frames(plane: Plane, path: Path, times: NDArray[Any]) -> NDArray[np.uint16]:
    out = np.empty((len(times), *plane.size), np.uint16)
    for frame, t in zip(out, times, strict=True):
        # Rounded by hand: a cast would cut off, and so shift every grey value by half a step.
        frame[:] = view(plane, path.at(int(t))) * np.float32(65535) + np.float32(0.5)
    return out
