"""Painting the planes of a world: from outlines and textures in metres to layers that a sensor can see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventfm.simulation.compositing import paint
from eventfm.simulation.layers import Layer, prepared
from eventfm.simulation.render import OVERSAMPLING
from eventfm.simulation.rigid import Body, Card
from eventfm.simulation.shapes import Contour, coverage
from eventfm.simulation.textures import Texture

Matrix = NDArray[np.float64]

_MARGIN_PX = 3


@dataclass(frozen=True, eq=False)
class Paint:
    """How the points of a plane reflect light."""

    texture: Texture
    to_texels: Matrix
    """(3, 3): metres on the plane to texels."""
    brightness: float
    """Mean natural logarithm of the luminance (full scale is 1)."""
    contrast: float
    """Spread of the logarithm."""


def cut_out(card: Card, outline: Sequence[Contour], coat: Paint, kind: int) -> Layer:
    """Return the layer of a painted thing with an outline in metres on the plane of its card."""
    from_metres = np.linalg.inv(card.from_rest)
    corners = [_projected(from_metres, contour) for contour in outline]
    everything = np.concatenate(corners)
    size, to_sensor = _canvas(everything.min(axis=0), everything.max(axis=0))
    back = np.linalg.inv(to_sensor)
    alpha = coverage([_projected(back, contour) for contour in corners], size)
    return prepared(_painted(card, coat, to_sensor, size) * alpha, alpha, to_sensor, card, kind)


def filled(
    card: Card, limit: Matrix | None, coat: Paint, kind: int, times: NDArray[Any], background: bool = False
) -> Layer | None:
    """Return the layer of a painted plane as far as the camera sees it at `times`; None where it never does.

    Args:
        card: The plane.
        limit: (3,): the plane ends where limit (a, b, 1) falls below zero; None = nowhere.
        coat: Its paint.
        kind: Class.
        times: (N,) microseconds, close enough that between them pixels move by less than about two.
        background: Make it opaque, for its end is hidden by what lies before it.
    """
    edge = np.array([0, 0, 1.0]) if limit is None else limit @ card.from_rest
    low, high = _ever_seen(card, edge, times)
    if not (low < high).all():
        return None
    size, to_sensor = _canvas(low, high)
    light = _painted(card, coat, to_sensor, size)
    if background:
        return prepared(light, None, to_sensor, card, kind)
    # Within the canvas the edge is a straight line; its distance in samples gives the share of each that is covered.
    line = edge @ to_sensor
    y, x = np.ogrid[: size[0], : size[1]]
    distance = (line[0] * x + line[1] * y + line[2]) / np.hypot(line[0], line[1])
    alpha = np.clip(distance + 0.5, 0, 1).astype(np.float32)
    return prepared(light * alpha, alpha, to_sensor, card, kind)


def before(body: Body, other: Body) -> Matrix:
    """Return the limit (3,) of the plane of `body` to the near side of the plane of `other`, both at rest."""
    normal = other.attitude[:, 2]
    return -normal @ np.column_stack([body.attitude[:, :2], body.position - other.position])


def _painted(card: Card, coat: Paint, to_sensor: Matrix, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the luminance (R, C) of a canvas of the plane at rest."""
    out = np.empty(size, np.float32)
    paint(coat.texture.texels, coat.texture.levels, coat.to_texels @ card.from_rest @ to_sensor, out)
    out *= np.float32(coat.contrast)
    out += np.float32(coat.brightness)
    np.exp(out, out=out)
    return np.minimum(out, np.float32(1), out=out)


def _canvas(low: Matrix, high: Matrix) -> tuple[tuple[int, int], Matrix]:
    """Return the size (R, C) and the homography to the sensor of a canvas over a box (x, y) of it, with a margin."""
    left, top = np.floor(low) - _MARGIN_PX
    columns, rows = (np.ceil(high - (left, top)).astype(int) + _MARGIN_PX) * OVERSAMPLING
    sample = 1 / OVERSAMPLING
    return (int(rows), int(columns)), np.array([[sample, 0, left], [0, sample, top], [0, 0, 1.0]])


def _ever_seen(card: Card, edge: Matrix, times: NDArray[Any]) -> tuple[Matrix, Matrix]:
    """Return two corners (2,) of the box, in pixels at rest, of all that the sensor sees of a plane at `times`.

    The plane ends at `edge`, a line (3,) in pixels at rest.
    """
    height, width = card.camera.size
    x, y = np.array([-0.5, width - 0.5]), np.array([-0.5, height - 0.5])
    corners = np.array([[x[0], y[0], 1], [x[1], y[0], 1], [x[1], y[1], 1], [x[0], y[1], 1]]).T
    seen = np.linalg.inv(card.at(times)) @ corners  # (N, 3, 4), over the depth at rest
    inside = edge @ seen
    after, inside_after = np.roll(seen, -1, axis=2), np.roll(inside, -1, axis=1)
    # Where the border of the sensor crosses the edge.
    with np.errstate(divide="ignore", invalid="ignore"):
        share = inside / (inside - inside_after)
        crossing = seen + share[:, None] * (after - seen)
    kept = np.concatenate([inside >= 0, (inside >= 0) != (inside_after >= 0)], axis=1)
    points = np.moveaxis(np.concatenate([seen, crossing], axis=2), 1, 2)[kept]
    if not len(points):
        return np.zeros(2), np.zeros(2)
    flat = points[:, :2] / points[:, 2:]
    return flat.min(axis=0), flat.max(axis=0)


def _projected(m: Matrix, points: Matrix) -> Matrix:
    moved = np.column_stack([points, np.ones(len(points))]) @ m.T
    return moved[:, :2] / moved[:, 2:]
