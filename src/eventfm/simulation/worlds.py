"""Random worlds: things of several classes before a wall and over a floor, each with its own motion and depth.

One pinhole camera moves before planes in space (`rigid`), so flow, depth, occlusion and masks belong together, and
near things move faster than far ones. The height of the camera above the floor and its field of view are settings,
and things are of like size, so that depth in metres can be learnt. Texture, brightness, place and motion are drawn
alike for all classes of things: only the outline tells them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventfm.simulation.canvas import Paint, before, cut_out, filled
from eventfm.simulation.homography import mean_steps
from eventfm.simulation.rigid import AT_REST, Body, Camera, Card, random_waves, rotations
from eventfm.simulation.scene import GROUNDS, Scene
from eventfm.simulation.shapes import SHAPES, contours
from eventfm.simulation.textures import Texture, photographs, random_texture

Matrix = NDArray[np.float64]

NEAREST_M = 1.1
"""Things are at least this far away."""
_FARTHEST_M = 4.0
_RADIUS_M = 0.2, 0.38
_LEAST_RADIUS = 0.07
"""Of the shorter side of the sensor."""
_LYING = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""Attitude of a floor: its axes point to the right, to the camera and down."""
_NUM_LOOKS = 33
_LARGEST_TILT = 0.5
_LARGEST_PACE = 4.0
"""Of a round: who is just turning round shall not be driven to and fro to make up for it."""
_SHADES = -2.5, -0.7
"""Mean natural logarithm of the luminance of a thing."""
_CONTRASTS = 0.2, 0.5
"""Spread of the logarithm."""
_TEXELS_PER_PX = 0.4, 1.6


@dataclass(frozen=True)
class SceneConfig:
    """What worlds are drawn from.

    Raises:
        ValueError: A range that is empty or of the wrong sign.
    """

    size: tuple[int, int] = (128, 128)
    """Sensor height and width, pixels."""
    duration_us: int = 50_000
    """Length of a clip, microseconds."""
    num_objects: tuple[int, int] = (1, 4)
    """Fewest and most things; (1, 1) for recognition."""
    shapes: tuple[str, ...] = SHAPES
    """Classes of the things; they keep their numbers, whichever are left out."""
    speed_px_s: tuple[float, float] = (30.0, 250.0)
    """Mean speed of the wall on the sensor, by the motion of the camera; log-uniform."""
    object_speed_px_s: tuple[float, float] = (20.0, 250.0)
    """Mean speed of a thing that moves by itself, log-uniform; on the sensor it adds to the camera's."""
    still_camera: float = 0.0
    """Share of worlds in which the camera stands still, and only things move."""
    still_object: float = 0.3
    """Share of things that do not move by themselves."""
    floor: float = 0.8
    """Share of worlds with a floor; the rest has a slanted wall alone."""
    field_of_view_deg: float = 55.0
    """Angle that the longer side of the sensor sees."""
    camera_height_m: float = 1.0
    """Height of the camera above the floor."""
    wall_m: tuple[float, float] = (2.5, 7.0)
    """Distance of the wall, log-uniform."""

    def __post_init__(self) -> None:
        for name in ("speed_px_s", "object_speed_px_s", "wall_m"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"expected {name} above 0 and in order, got {getattr(self, name)}")
        if min(self.size) < 1:
            raise ValueError(f"expected a size (height, width) of at least a pixel each way, got {self.size}")
        if not 0 <= self.num_objects[0] <= self.num_objects[1] <= 100:
            raise ValueError(f"expected num_objects in order and from 0 to 100, got {self.num_objects}")
        for name in ("still_camera", "still_object", "floor"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"expected {name} to be a share from 0 to 1, got {getattr(self, name)}")
        for name, low, high, unit in (
            ("duration_us", 1, 10**8, "microseconds"),
            ("field_of_view_deg", 20, 65, "degrees"),
            ("camera_height_m", 0.5, 10, "metres"),
        ):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"expected {name} from {low} to {high} {unit}, got {getattr(self, name)}")
        if not self.shapes or not set(self.shapes) <= set(SHAPES) or len(set(self.shapes)) < len(self.shapes):
            raise ValueError(f"expected shapes among {', '.join(SHAPES)}, each once, got {self.shapes}")
        if self.wall_m[0] < 2.5:
            raise ValueError(f"expected walls at least 2.5 m away, for things to fit in, got {self.wall_m}")


def random_scene(
    rng: np.random.Generator,
    config: SceneConfig | None = None,
    pictures: Sequence[Texture] | None = None,
    label: int | None = None,
) -> Scene:
    """Return a random world.

    Args:
        rng: From `eventfm.random.generator`; equal generators give equal worlds.
        config: What is drawn from; by default `SceneConfig()`.
        pictures: Textures beside the drawn patterns; by default the photographs inside scikit-image.
        label: Class of all things, an index into `SHAPES`; by default each has its own, one of `config.shapes`.

    Raises:
        ValueError: No class has that number.
    """
    if label is not None and not 0 <= label < len(SHAPES):
        raise ValueError(f"expected a label from 0 to {len(SHAPES) - 1} ({', '.join(SHAPES)}), got {label}")
    config = SceneConfig() if config is None else config
    textures = photographs() if pictures is None else tuple(pictures)
    middle_us = config.duration_us / 2
    looks = np.linspace(0, config.duration_us, _NUM_LOOKS)

    has_floor = bool(rng.uniform() < config.floor)
    grounds = [_random_wall(rng, config, slanted=not has_floor)]
    if has_floor:
        grounds.append(Body(np.array([0.0, config.camera_height_m, 0.0]), _LYING, AT_REST))
    camera = _random_camera(rng, config, grounds[0], looks)
    layers = []
    shades: list[float] = []
    for kind, ground in enumerate(grounds):
        card = Card(camera, ground, middle_us)
        shades.append(_random_shade(rng, shades))
        distance = ground.position[2] if kind == 0 else 2 * config.camera_height_m
        coat = _random_paint(rng, textures, shades[-1], camera.focal_px / float(distance))
        limit = before(ground, grounds[1 - kind]) if has_floor else None
        layer = filled(card, limit, coat, kind, looks, background=kind == 0)
        if layer is not None:
            layers.append(layer)
    num_grounds = len(layers)
    for thing in reversed(_random_things(rng, config, camera, grounds[0], has_floor)):
        card = Card(camera, thing.body, middle_us)
        shape = SHAPES.index(config.shapes[rng.integers(len(config.shapes))]) if label is None else label
        coat = _random_paint(rng, textures, _random_shade(rng, shades), camera.focal_px / float(thing.body.position[2]))
        stretch = thing.radius_m * np.array([rng.uniform(0.75, 1.0), 1.0])
        outline = [contour * stretch for contour in contours(SHAPES[shape], rng)]
        layers.append(cut_out(card, outline, coat, len(GROUNDS) + shape))
    return Scene(tuple(layers), num_grounds, config.size, config.duration_us)


class _Thing(NamedTuple):
    body: Body
    radius_m: float


def _random_wall(rng: np.random.Generator, config: SceneConfig, slanted: bool) -> Body:
    turn, lean = rng.uniform(-0.5, 0.5), rng.uniform(-0.4, 0.4) if slanted else 0.0
    return Body(np.array([0.0, 0.0, _log_uniform(rng, config.wall_m)]), rotations([lean, turn, 0.0]), AT_REST)


def _random_camera(rng: np.random.Generator, config: SceneConfig, wall: Body, looks: Matrix) -> Camera:
    """Return a camera at about the origin that looks ahead, and sways so that the wall moves at the speed asked for."""
    height, width = config.size
    focal = max(height, width) / 2 / np.tan(np.radians(config.field_of_view_deg) / 2)
    attitude = rotations([rng.uniform(-0.12, 0.08), 0.0, rng.uniform(-0.08, 0.08)])
    reach = float(min(0.07 * wall.position[2], 0.3))
    limits = (reach, 0.7 * reach, 0.6 * reach, 0.03, 0.03, 0.06)
    waves = random_waves(rng, tuple(limit * rng.uniform(0.2, 1.0) for limit in limits))
    speed = _log_uniform(rng, config.speed_px_s)
    body = Body(np.zeros(3), attitude, waves)
    if rng.uniform() < config.still_camera:
        return Camera(config.size, float(focal), Body(np.zeros(3), attitude, AT_REST))
    for _ in range(3):  # the way is nearly in proportion to the pace
        path = Card(Camera(config.size, float(focal), body), wall, 0.0).at(looks)
        travelled = float(mean_steps(path, config.size).sum()) / config.duration_us * 1e6
        body = body.paced(speed / max(travelled, 1e-6), config.duration_us / 2)
    return Camera(config.size, float(focal), body)


def _random_things(
    rng: np.random.Generator, config: SceneConfig, camera: Camera, wall: Body, has_floor: bool
) -> list[_Thing]:
    """Return things from near to far, each in a range of depth of its own, so that none passes through another."""
    height, width = config.size
    count = int(rng.integers(config.num_objects[0], config.num_objects[1] + 1))
    middle_us, looks = config.duration_us / 2, np.linspace(0, config.duration_us, _NUM_LOOKS)
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]])
    nearest_wall = 1 / float((corners @ Card(camera, wall, middle_us).inverse_depth(middle_us)).max())
    bounds = np.geomspace(NEAREST_M, max(1.1 * NEAREST_M, min(0.85 * nearest_wall, _FARTHEST_M)), count + 1)
    attitude, eye = camera.body.poses(middle_us)
    placed: list[tuple[Matrix, float]] = []
    things = []
    for nearest, farthest in pairwise(bounds):
        z = nearest + (farthest - nearest) * rng.uniform(0.3, 0.7)
        room = min(z - nearest, farthest - z)
        to_px = camera.focal_px / z
        radius = max(rng.uniform(*_RADIUS_M), _LEAST_RADIUS * min(config.size) / to_px)
        sway = rng.uniform(6, 20) / 128 * max(config.size) / to_px
        tilt = min(float(np.arcsin(min(0.8 * room / radius, 1.0))), _LARGEST_TILT)
        body = Body(
            np.zeros(3),
            rotations(np.array([rng.uniform(-0.5, 0.5) * tilt, rng.uniform(-0.5, 0.5) * tilt, 0.0]))
            @ rotations([0.0, 0.0, rng.uniform(-np.pi, np.pi)]),
            random_waves(rng, (sway, sway, 0.15 * room, 0.2 * tilt, 0.2 * tilt, 0.7)),
        )
        x, y = _random_place(rng, config.size, radius * to_px, placed)
        ray = attitude @ np.array([x - (width - 1) / 2, y - (height - 1) / 2, camera.focal_px])
        position = eye + ray * (z - eye[2]) / ray[2]
        if has_floor:
            position[1] = min(position[1], config.camera_height_m - radius - sway - 0.01)
        body = replace(body, position=position)
        way = _log_uniform(rng, config.object_speed_px_s) * config.duration_us * 1e-6 / to_px
        for _ in range(3):  # as for the camera
            travelled = float(np.hypot(*np.diff(body.poses(looks)[1][:, :2], axis=0).T).sum())
            body = body.paced(min(way / max(travelled, 1e-9), _LARGEST_PACE), middle_us)
        if rng.uniform() < config.still_object:
            body = replace(body, waves=AT_REST)
        things.append(_Thing(body, float(radius)))
    return things


def _random_place(
    rng: np.random.Generator, size: tuple[int, int], radius_px: float, placed: list[tuple[Matrix, float]]
) -> Matrix:
    """Return (x, y) on the sensor, of five random places the one where the thing hides least of those before it."""
    height, width = size
    places = rng.uniform(0.15, 0.85, (5, 2)) * (width - 1, height - 1)
    free = [
        min((np.hypot(*(place - other)) / (radius_px + reach) for other, reach in placed), default=1.0)
        for place in places
    ]
    best = places[int(np.argmax(free))]
    placed.append((best, radius_px))
    return best


def _random_shade(rng: np.random.Generator, others: Sequence[float]) -> float:
    """Return a mean log luminance, of six the one that differs most from the `others`; one half is enough."""
    shades = rng.uniform(*_SHADES, 6)
    apart = np.array([min((abs(shade - other) for other in others), default=1.0) for shade in shades])
    return float(shades[int(np.argmax(np.minimum(apart, 0.5)))])


def _random_paint(rng: np.random.Generator, textures: Sequence[Texture], shade: float, px_per_metre: float) -> Paint:
    """Return a random texture, turned and moved at random, with detail that the sensor can just see."""
    texture = random_texture(rng, textures)
    scale = px_per_metre * _log_uniform(rng, _TEXELS_PER_PX)
    turn = rng.uniform(-np.pi, np.pi)
    cos, sin = scale * np.cos(turn), scale * np.sin(turn)
    rows, columns = texture.size
    to_texels = np.array(
        [[cos, -sin, rng.uniform(0, columns)], [sin, cos, rng.uniform(0, rows)], [0.0, 0.0, 1.0]],
    )
    return Paint(texture, to_texels, shade, float(rng.uniform(*_CONTRASTS)))


def _log_uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(*np.log(bounds))))
