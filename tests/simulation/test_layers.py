"""Layers: compositing against float64 and supersampled references, masks, frame times."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from skimage import data

from eventfm.random import generator
from eventfm.simulation.layers import Flat, Layer, composite, composite_light, frontmost, ground, layer_times, sprite
from eventfm.simulation.light import linear
from eventfm.simulation.motion import flow
from eventfm.simulation.paths import Affine, translation
from eventfm.simulation.pixel import simulate
from eventfm.simulation.random_paths import random_planar_motion
from eventfm.simulation.render import render
from eventfm.simulation.sensor import SensorConfig

SIZE = (48, 64)
TURNING = Affine(velocity=(90.0, -40.0), spin=2.0, zoom=0.5, centre=(30.0, 20.0))


def back_layer(path: object | None = None) -> Layer:
    return ground(linear(data.camera()), SIZE, Flat(path or translation(60.0, 30.0)))


def disc(path: object = TURNING, box: tuple[float, float, float, float] = (20.0, 10.0, 20.0, 20.0)) -> Layer:
    y, x = np.mgrid[:120, :120]
    alpha = (np.hypot(x - 59.5, y - 59.5) < 55).astype(np.float32)
    light = linear(data.coffee())[100:220, 100:220]
    return sprite(light, alpha, box, Flat(path), kind=3)


def bilinear(canvas: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return zero outside the canvas."""
    padded = np.pad(canvas.astype(np.float64), 2)
    u, v = np.clip(u + 2, 0, padded.shape[1] - 2), np.clip(v + 2, 0, padded.shape[0] - 2)
    i, j = np.floor(u).astype(int), np.floor(v).astype(int)
    a, b = u - i, v - j
    upper = (1 - a) * padded[j, i] + a * padded[j, i + 1]
    return (1 - b) * upper + b * ((1 - a) * padded[j + 1, i] + a * padded[j + 1, i + 1])


def laid_over(behind: np.ndarray, layer: Layer, t: float) -> np.ndarray:
    back = np.linalg.inv(layer.surface.at(t) @ layer.to_sensor)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float64)
    u, v, w = (row[0] * x + row[1] * y + row[2] for row in back)
    light, alpha = (bilinear(part, u / w, v / w) for part in (layer.light, layer.alpha))
    return light + (1 - alpha) * behind


@pytest.mark.parametrize("seed", range(3))
def test_frames_match_a_float64_reference(seed: int) -> None:
    path = random_planar_motion(generator(seed), SIZE, 100_000, 200.0)
    front = disc(box=(5.0, 15.0, 30.0, 12.0))
    layers = [back_layer(path), disc(), front]
    times = np.arange(0, 100_001, 20_000)
    frames = composite(layers, times, SIZE)
    assert (frames.shape, frames.dtype) == ((6, *SIZE), np.uint16)
    behind = render(linear(data.camera()), path, times, SIZE) / 65535
    for frame, under, t in zip(frames, behind, times, strict=True):
        expected = laid_over(laid_over(under, layers[1], t), front, t)
        assert np.abs(frame / 65535 - expected).max() < 6e-5


def test_edges_are_the_area_that_is_covered() -> None:
    """A white half-transparent box over black, against the overlap of the lens with the box, counted finely."""
    black = ground(np.zeros(SIZE, np.float32), SIZE, Flat(Affine()))
    white = np.ones((30, 30), np.float32)
    for offset in (0.0, 0.2, 0.5, 0.77):
        box = sprite(white, white * 0.5, (10 + offset, 5.0, 20.0, 20.0), Flat(Affine()))
        row = composite_light([black, box], [0], SIZE)[0, 15]
        fine = (np.arange(64 * 300) + 0.5) / 300 - 0.5
        inside = ((fine > 9.5 + offset) & (fine < 29.5 + offset)).astype(float) * 0.5
        share = np.convolve(inside, np.ones(300) / 300, "same")  # a pixel
        expected = np.convolve(share, np.ones(300) / 300, "same")[150::300]  # behind a lens as sharp
        np.testing.assert_allclose(row, expected, atol=0.03)
        assert row.sum() == pytest.approx(10.0, abs=0.02)


def test_without_its_sprite_a_stack_is_its_ground() -> None:
    times = np.arange(0, 50_000, 5000)
    alone = composite([back_layer()], times, SIZE)
    np.testing.assert_array_equal(alone, render(linear(data.camera()), translation(60.0, 30.0), times, SIZE))
    off_the_sensor = disc(Affine(), box=(200.0, 10.0, 20.0, 20.0))
    np.testing.assert_array_equal(composite([back_layer(), off_the_sensor], times, SIZE), alone)
    clear = sprite(np.ones((9, 9), np.float32), np.zeros((9, 9), np.float32), (9, 9, 9, 9), Flat(Affine()))
    np.testing.assert_array_equal(composite([back_layer(), clear], times, SIZE), alone)


def test_the_front_layer_is_that_of_opacity_over_one_half() -> None:
    layers = [back_layer(), disc(), disc(box=(30.0, 15.0, 20.0, 20.0))]
    for t in (0, 33_000):
        alphas = [laid_over(np.ones(SIZE), layer, t) - laid_over(np.zeros(SIZE), layer, t) for layer in layers[1:]]
        expected = np.where(1 - alphas[1] > 0.5, 2, np.where(1 - alphas[0] > 0.5, 1, 0))
        unsure = np.min([np.abs(0.5 - alpha) for alpha in alphas], axis=0) < 1e-5
        assert ((frontmost(layers, t, SIZE) == expected) | unsure).all()
        assert (expected == 1).sum() > 50 < (expected == 2).sum()


def test_a_disc_has_the_area_of_a_disc() -> None:
    mask = frontmost([back_layer(), disc(Affine())], 0, SIZE) == 1
    radius = 55 / 120 * 20
    assert mask.sum() == pytest.approx(np.pi * radius**2, rel=0.04)
    y, x = np.nonzero(mask)
    assert (x.mean(), y.mean()) == (pytest.approx(29.5, abs=0.05), pytest.approx(19.5, abs=0.05))


def test_no_layer_goes_further_than_half_a_pixel() -> None:
    fast = Affine(velocity=(900.0, 0.0), spin=8.0, centre=(30.0, 20.0))
    layers = [back_layer(), disc(fast)]
    times = layer_times(layers, 1000, 21_000, SIZE)
    assert (times[0], times[-1]) == (1000, 21_000)
    assert (np.diff(times) > 0).all()
    farthest = 0.0
    for before, after in pairwise(times.tolist()):
        for layer in layers:
            moved, _ = flow(layer.surface, before, after, SIZE)
            covered = (
                frontmost([layers[0], layer], before, SIZE) == 1 if layer.alpha is not None else np.ones(SIZE, bool)
            )
            farthest = max(farthest, float(np.hypot(*moved)[covered].max(initial=0.0)))
    assert 0.3 < farthest <= 0.5
    assert (np.diff(layer_times([back_layer(Affine())], 0, 95_000, SIZE)) <= 10_000).all()


def test_nothing_that_moves_makes_no_event() -> None:
    layers = [back_layer(Affine()), disc(Affine())]
    times = layer_times(layers, 0, 50_000, SIZE)
    assert len(simulate(composite(layers, times, SIZE), times, SensorConfig())) == 0


def test_events_of_a_sprite_stay_where_it_has_been() -> None:
    layers = [back_layer(Affine()), disc(translation(200.0, 0.0))]
    times = layer_times(layers, 0, 50_000, SIZE)
    events = simulate(composite(layers, times, SIZE), times, SensorConfig())
    assert len(events) > 500
    assert events.x.min() >= 18
    assert events.x.max() <= 52
    assert events.y.min() >= 8
    assert events.y.max() <= 31


def test_bad_layers_are_named() -> None:
    with pytest.raises(ValueError, match="opaque layer at the back"):
        composite([disc()], [0], SIZE)
    ones = np.ones((4, 4), np.float32)
    with pytest.raises(ValueError, match=r"alpha in \[0, 1\]"):
        sprite(ones, 2 * ones, (0, 0, 4, 4), Flat(Affine()))
    with pytest.raises(ValueError, match="box above 0"):
        sprite(ones, ones, (0, 0, 0, 4), Flat(Affine()))
    with pytest.raises(ValueError, match="t0 < t1"):
        layer_times([back_layer()], 5, 5, SIZE)
    with pytest.raises(ValueError, match="per microsecond"):
        layer_times([back_layer(translation(1e7, 0.0))], 0, 100, SIZE)
