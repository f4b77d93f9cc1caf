"""Worlds of layers with classes: their events, and everything about them that a network may be asked for, exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventfm.events import Events
from eventfm.simulation.layers import (
    Layer,
    composite,
    composite_light,
    frontmost,
    layer_times,
    opacity_at,
    picture_itself,
)
from eventfm.simulation.motion import flow, velocity
from eventfm.simulation.pixel import EventSimulator
from eventfm.simulation.render import check_linear, joined
from eventfm.simulation.response import FRACTION_BITS, FULL, brightness_table
from eventfm.simulation.sensor import SensorConfig
from eventfm.simulation.shapes import SHAPES

GROUNDS = ("wall", "floor")
"""Classes of what lies behind everything."""
CLASS_NAMES = (*GROUNDS, *SHAPES)
"""Classes of semantic masks, by number."""
PALETTE = np.array(
    [
        (204, 204, 204),
        (120, 120, 120),
        (230, 159, 0),
        (86, 180, 233),
        (0, 158, 115),
        (240, 228, 66),
        (0, 114, 178),
        (213, 94, 0),
        (204, 121, 167),
        (102, 51, 153),
    ],
    np.uint8,
)
"""(classes, 3): a colour for each class; `PALETTE[semantic]` is a picture."""

_FRAMES_AT_ONCE = 32


@dataclass(frozen=True, eq=False)
class Scene:
    """Layers that move before a sensor from time 0 to `duration_us`."""

    layers: tuple[Layer, ...]
    """From back to front: the grounds, then the things."""
    num_grounds: int
    """How many of the layers are grounds."""
    size: tuple[int, int]
    """Sensor height and width, pixels."""
    duration_us: int

    @property
    def label(self) -> int:
        """Class of the only thing, an index into `SHAPES`; -1 where there is none or more than one."""
        things = self.layers[self.num_grounds :]
        return things[0].kind - len(GROUNDS) if len(things) == 1 else -1


@dataclass(frozen=True, eq=False)
class SceneClip:
    """What a sensor says of a world."""

    events: Events
    """Times in (t0, t1]."""
    times: NDArray[np.int64]
    """(F,) microseconds of the frames that were simulated, t0 to t1."""


@dataclass(frozen=True, eq=False)
class SceneView:
    """What is to be seen at one time. A pixel belongs to the frontmost layer of opacity over one half."""

    light: NDArray[np.float32]
    """(H, W) linear luminance in [0, 1]."""
    semantic: NDArray[np.uint8]
    """(H, W) class, an index into `CLASS_NAMES`."""
    instance: NDArray[np.uint8]
    """(H, W) number of the thing, from back to front: 1, 2, ...; 0 is ground."""
    depth_m: NDArray[np.float32]
    """(H, W) metres along the axis of the camera."""
    velocity: NDArray[np.float32]
    """(2, H, W) pixels per second, (vx, vy)."""


@dataclass(frozen=True, eq=False)
class SceneTruth:
    """What happens between two times."""

    start: SceneView
    stop: SceneView
    flow: NDArray[np.float32]
    """(2, H, W) pixels, (dx, dy): where the point that a pixel sees at the start is at the stop, hidden or not."""
    occluded: NDArray[np.bool_]
    """(H, W): that point is hidden at the stop, or outside the sensor."""
    valid: NDArray[np.bool_]
    """(H, W): flow holds; the point is on a picture itself and not on the mirror image beyond its border."""

    @property
    def difference(self) -> NDArray[np.float32]:
        """(H, W) linear luminance at the stop less that at the start."""
        return self.stop.light - self.start.light

    def log_difference(self, config: SensorConfig) -> NDArray[np.float32]:
        """Return a sensor's response (`SensorConfig.log`) at the stop less that at the start, (H, W) float32 nats.

        To less than a threshold it is what the thresholds times the events are, for a sensor without noise.
        """
        table = brightness_table(config)
        start, stop = (
            table[np.rint(view.light * FULL).astype(np.uint16)].astype(np.int64) for view in (self.start, self.stop)
        )
        return ((stop - start) / (1 << FRACTION_BITS)).astype(np.float32)


def film_scene(
    scene: Scene, config: SensorConfig, t_us_range: tuple[int, int] | None = None, clip_id: int = 0
) -> SceneClip:
    """Return the events that a sensor sends of a world; frames are rendered wherever a layer has moved half a pixel.

    Args:
        scene: The world.
        config: The sensor. Frames are linear light, so its `gamma` must be None.
        t_us_range: (t0, t1) in microseconds; by default the whole clip.
        clip_id: Which random maps of `config.seed` to use.

    Raises:
        ValueError: An empty range, or a sensor with gamma.
    """
    check_linear(config)
    t0, t1 = (0, scene.duration_us) if t_us_range is None else t_us_range
    times = layer_times(scene.layers, t0, t1, scene.size)
    simulator = EventSimulator(*scene.size, config, clip_id)
    parts = [
        simulator.push(composite(scene.layers, part, scene.size), part)
        for part in np.split(times, range(_FRAMES_AT_ONCE, len(times), _FRAMES_AT_ONCE))
    ]
    return SceneClip(joined(parts, (t0 + 1, t1 + 1)), times)


def view_scene(scene: Scene, t_us: int) -> SceneView:
    """Return what is to be seen of a world at one time."""
    return _view(scene, t_us, frontmost(scene.layers, t_us, scene.size))


def supervise_scene(scene: Scene, t1_us: int, t2_us: int) -> SceneTruth:
    """Return what is to be seen of a world at two times, and what happens between them."""
    size = scene.size
    fronts = [frontmost(scene.layers, t, size) for t in (t1_us, t2_us)]
    moved = _merged(scene.layers, fronts[0], lambda layer: flow(layer.surface, t1_us, t2_us, size)[0])
    to_x, to_y = (
        np.arange(size[1], dtype=np.float32) + moved[0],
        np.arange(size[0], dtype=np.float32)[:, None] + moved[1],
    )
    hidden = (to_x < 0) | (to_x > size[1] - 1) | (to_y < 0) | (to_y > size[0] - 1)
    for number, layer in enumerate(scene.layers[1:], 1):
        behind = fronts[0] < number
        hidden[behind] |= opacity_at(layer, t2_us, to_x[behind], to_y[behind]) > 0.5
    valid = _merged(scene.layers, fronts[0], lambda layer: picture_itself(layer, t1_us, size))
    return SceneTruth(
        *(_view(scene, t, front) for t, front in zip((t1_us, t2_us), fronts, strict=True)), moved, hidden, valid
    )


def _view(scene: Scene, t_us: int, front: NDArray[np.int16]) -> SceneView:
    layers, size = scene.layers, scene.size
    y, x = np.ogrid[: size[0], : size[1]]

    def depth(layer: Layer) -> NDArray[np.float32]:
        n = layer.surface.inverse_depth(t_us)
        with np.errstate(divide="ignore"):
            return (1 / (n[0] * x + n[1] * y + n[2])).astype(np.float32)

    return SceneView(
        light=np.minimum(composite_light(layers, [t_us], size)[0], 1),  # sums of weights are one to rounding
        semantic=np.array([layer.kind for layer in layers], np.uint8)[front],
        instance=np.maximum(front - (scene.num_grounds - 1), 0).astype(np.uint8),
        depth_m=_merged(layers, front, depth),
        velocity=_merged(layers, front, lambda layer: velocity(layer.surface, t_us, size)),
    )


def _merged(
    layers: tuple[Layer, ...], front: NDArray[np.int16], values: Callable[[Layer], NDArray[Any]]
) -> NDArray[Any]:
    """Return `values` (..., H, W) of whichever layer is frontmost, pixel by pixel."""
    numbers = np.unique(front).tolist()
    out = values(layers[numbers[0]])
    for number in numbers[1:]:
        out = np.where(front == number, values(layers[number]), out)
    return out
