"""Stacks of textured layers, each moving on its own: what the sensor sees of them, and when it must look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eventfm.simulation.compositing import box_steps, lay_over, opacities, to_16_bit
from eventfm.simulation.motion import LONGEST_STEP_US
from eventfm.simulation.paths import Path
from eventfm.simulation.render import OVERSAMPLING, Plane, fit, seen
from eventfm.simulation.warp import warp

Matrix = NDArray[np.float64]

_LENS = np.array([1, 2, 3, 2, 1], np.float32) / 9
"""What `render.fit` smooths with: the light that a pixel gathers through a lens of the same sharpness."""
_MARGIN = OVERSAMPLING + 2
"""Transparent samples round a sprite, so that its smoothed edge fits in."""
_FRAMES_AT_ONCE = 32


class Surface(Path, Protocol):
    """A path with depth: where a flat layer is at any time."""

    def inverse_depth(self, t_us: ArrayLike) -> Matrix:
        """Return n (..., 3) float64, per metre: 1 / depth = n (x, y, 1) for a pixel (x, y) that sees the layer."""
        ...


@dataclass(frozen=True)
class Flat:
    """A layer that moves along a path of `motion` in front of the sensor, at one depth."""

    path: Path
    depth_m: float = 1.0

    def at(self, t_us: ArrayLike) -> Matrix:
        """Return H, (..., 3, 3) float64."""
        return self.path.at(t_us)

    def inverse_depth(self, t_us: ArrayLike) -> Matrix:
        """Return (..., 3) float64."""
        return np.broadcast_to([0.0, 0.0, 1 / self.depth_m], (*np.shape(t_us), 3))


@dataclass(frozen=True, eq=False)
class Layer:
    """A picture with opacity, made ready for one sensor: three samples a pixel, smoothed as `render.fit` does."""

    light: NDArray[np.float32]
    """(R, C) linear luminance times opacity, in [0, 1]."""
    alpha: NDArray[np.float32] | None
    """(R, C) opacity in [0, 1]; None = opaque, and beyond its border mirrored."""
    to_sensor: Matrix
    """(3, 3) homography from its samples to the sensor at rest."""
    surface: Surface
    kind: int = 0
    """Class."""


def ground(light: NDArray[np.float32], size: tuple[int, int], surface: Surface, kind: int = 0) -> Layer:
    """Return an opaque layer that covers a sensor of `size` at rest with a picture in linear light (`render.fit`)."""
    plane = fit(light, size)
    return Layer(plane.light, None, plane.to_sensor, surface, kind)


def sprite(
    light: NDArray[np.float32],
    alpha: NDArray[np.float32],
    box: tuple[float, float, float, float],
    surface: Surface,
    kind: int = 0,
) -> Layer:
    """Return a cut-out picture that fills a box on the sensor at rest.

    Args:
        light: (H', W') float32 linear luminance in [0, 1].
        alpha: (H', W') float32 opacity in [0, 1].
        box: Left, top, width and height in pixels, of the outer edges of the picture.
        surface: Where it is.
        kind: Class.

    Raises:
        ValueError: Arrays of different shapes, values outside [0, 1], or an empty box.
    """
    import cv2

    left, top, width, height = box
    shapes = np.shape(light), np.shape(alpha)
    if shapes[0] != shapes[1] or len(shapes[0]) != 2 or not (width > 0 and height > 0):
        raise ValueError(f"expected light and alpha (H, W) and a box above 0, got {shapes[0]}, {shapes[1]}, {box}")
    for name, values in (("light", light), ("alpha", alpha)):
        if not (np.min(values) >= 0 and np.max(values) <= 1):
            raise ValueError(f"expected {name} in [0, 1], got values from {np.min(values)} to {np.max(values)}")
    opacity = np.asarray(alpha, np.float32)
    columns, rows = max(1, round(width * OVERSAMPLING)), max(1, round(height * OVERSAMPLING))
    shrinks = columns < opacity.shape[1] or rows < opacity.shape[0]
    light, opacity = (
        cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        for part in (np.asarray(light, np.float32) * opacity, opacity)
    )
    step_x, step_y = width / columns, height / rows
    to_sensor = np.array(
        [[step_x, 0.0, left + step_x / 2 - 0.5], [0.0, step_y, top + step_y / 2 - 0.5], [0.0, 0.0, 1.0]]
    )
    return prepared(np.pad(light, _MARGIN), np.pad(opacity, _MARGIN), _shifted(to_sensor, -_MARGIN), surface, kind)


def prepared(
    light: NDArray[np.float32], alpha: NDArray[np.float32] | None, to_sensor: Matrix, surface: Surface, kind: int
) -> Layer:
    """Return the layer of samples that are already multiplied by their opacity, smoothed for the sensor."""
    import cv2

    light, opacity = (
        part if part is None else cv2.sepFilter2D(part, cv2.CV_32F, _LENS, _LENS, borderType=cv2.BORDER_REPLICATE)
        for part in (light, alpha)
    )
    return Layer(light, opacity, to_sensor, surface, kind)


def composite(layers: Sequence[Layer], times: ArrayLike, size: tuple[int, int]) -> NDArray[np.uint16]:
    """Return the frames (F, H, W) uint16, linear light, that a sensor of `size` sees of a stack of layers.

    Args:
        layers: From back to front; the first is opaque.
        times: (F,) microseconds.
        size: Sensor height and width.

    Raises:
        ValueError: No opaque layer at the back.
    """
    times = np.asarray(times)
    out = np.empty((len(times), *size), np.uint16)
    for start in range(0, len(times), _FRAMES_AT_ONCE):
        part = slice(start, start + _FRAMES_AT_ONCE)
        to_16_bit(composite_light(layers, times[part], size), out[part])
    return out


def composite_light(layers: Sequence[Layer], times: ArrayLike, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return what `composite` does before it is cut to 16 bits, (F, H, W) float32 in [0, 1]."""
    if not layers or layers[0].alpha is not None:
        raise ValueError("expected an opaque layer at the back (alpha=None), so that every pixel sees something")
    times = np.asarray(times)
    out = np.empty((len(times), *size), np.float32)
    for layer in layers:
        moved = layer.surface.at(times) @ layer.to_sensor
        back = np.linalg.inv(moved)
        if layer.alpha is None:
            warp(layer.light, back, np.float32(1), np.float32(0), out)
        else:
            lay_over(out, layer.light, layer.alpha, back, _boxes(layer, moved, size))
    return out


def frontmost(layers: Sequence[Layer], t_us: float, size: tuple[int, int]) -> NDArray[np.int16]:
    """Return (H, W) int16: the number of the layer that each pixel sees, the frontmost of opacity over one half."""
    out = np.zeros(size, np.int16)
    for number, layer in enumerate(layers):
        moved = layer.surface.at([t_us]) @ layer.to_sensor
        left, right, top, bottom = _boxes(layer, moved, size)[0]
        y, x = np.mgrid[top:bottom, left:right].astype(np.float32)
        covers = opacity_at(layer, t_us, x, y) > 0.5
        out[top:bottom, left:right][covers] = number
    return out


def opacity_at(layer: Layer, t_us: float, x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the opacity of a layer at points of the sensor, in pixels; float32 of the shape of `x` and `y`."""
    out = np.ones(x.shape, np.float32)
    if layer.alpha is not None and x.size:
        back = np.linalg.inv(layer.surface.at(t_us) @ layer.to_sensor)
        opacities(layer.alpha, back, x.ravel(), y.ravel(), out.reshape(-1))
    return out


def layer_times(
    layers: Sequence[Layer], t0_us: int, t1_us: int, size: tuple[int, int], max_step_px: float = 0.5
) -> NDArray[np.int64]:
    """Return frame times from `t0_us` to `t1_us`, both included, between which no layer moves further than allowed.

    Holds for every pixel of the sensor that a layer may cover, by the bound of `homography.displacement_bound`, from
    a frame to the next and to the middle between the two; frames are at most 10 ms apart.

    Returns:
        (F,) int64 microseconds, strictly increasing.

    Raises:
        ValueError: An empty range, or motion that goes further than `max_step_px` within one microsecond.
    """
    if t1_us <= t0_us or not max_step_px > 0:
        raise ValueError(f"expected t0 < t1 and a step above 0, got [{t0_us}, {t1_us}] us and {max_step_px} px")
    times = np.linspace(t0_us, t1_us, -((t0_us - t1_us) // LONGEST_STEP_US) + 1).astype(np.int64)
    open_intervals = np.ones(len(times) - 1, bool)
    while open_intervals.any():
        start, stop = times[:-1][open_intervals], times[1:][open_intervals]
        moved = np.max([_steps(layer, start, stop, size) for layer in layers], axis=0)
        too_far = moved > max_step_px
        if (too_far & (stop - start == 1)).any():
            at = start[too_far & (stop - start == 1)][0]
            raise ValueError(f"expected motion below {max_step_px} px per microsecond, got more at {at} us")
        # A tenth more than the mean step needs, so that few parts have to be cut again.
        share = np.where(np.isfinite(moved), 1.1 * moved / max_step_px, 2)
        num_parts = np.where(too_far, np.clip(np.ceil(share), 2, stop - start), 1).astype(np.int64)
        parts = np.ones(len(times) - 1, np.int64)
        parts[open_intervals] = num_parts
        times = _cut(times, parts)
        open_intervals = np.repeat(parts > 1, parts)
    return times


def _steps(layer: Layer, start: NDArray[np.int64], stop: NDArray[np.int64], size: tuple[int, int]) -> Matrix:
    """Return a bound on how far a layer moves from each start to its stop, and to halfway, (N,) pixels."""
    here, halfway, there = (layer.surface.at(t) for t in (start, (start + stop) / 2, stop))
    boxes = _boxes(layer, here @ layer.to_sensor, size)
    back = np.linalg.inv(here)
    return np.maximum(box_steps(halfway @ back, boxes), box_steps(there @ back, boxes))


def _cut(times: NDArray[np.int64], parts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return `times` with the n-th interval cut into `parts[n]` parts of almost equal length."""
    place = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    first, length, count = (np.repeat(values, parts) for values in (times[:-1], np.diff(times), parts))
    return np.append(first + length * place // count, times[-1])


def _boxes(layer: Layer, moved: Matrix, size: tuple[int, int]) -> NDArray[np.int64]:
    """Return the part of the sensor that a layer may cover where `moved` (F, 3, 3) takes its samples, (F, 4)."""
    height, width = size
    everything = np.array([0, width, 0, height])
    if layer.alpha is None:
        return np.tile(everything, (len(moved), 1))
    rows, columns = layer.light.shape
    corners = np.array([[0, columns - 1, columns - 1, 0], [0, 0, rows - 1, rows - 1], [1, 1, 1, 1]], np.float64)
    x, y, w = np.moveaxis(moved @ corners, 1, 0)
    in_front = (w > 0).all(axis=1)
    w = np.where(in_front[:, None], w, 1.0)
    x, y = x / w, y / w
    limits = [np.floor(x.min(axis=1)), np.ceil(x.max(axis=1)) + 1, np.floor(y.min(axis=1)), np.ceil(y.max(axis=1)) + 1]
    boxes = np.stack(
        [np.clip(limit, 0, extent) for limit, extent in zip(limits, (width, width, height, height), strict=True)],
        axis=1,
    )
    return np.where(in_front[:, None], boxes, everything).astype(np.int64)


def _shifted(to_sensor: Matrix, samples: float) -> Matrix:
    """Return `to_sensor` for a canvas whose first sample is at (`samples`, `samples`) of the old one."""
    return to_sensor @ np.array([[1.0, 0.0, samples], [0.0, 1.0, samples], [0.0, 0.0, 1.0]])


def picture_itself(layer: Layer, t_us: float, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return (H, W) bool: the pixel, if it sees the layer, sees its picture, not the mirror image beyond the border."""
    return seen(Plane(layer.light, layer.to_sensor, size), layer.surface.at(t_us))
