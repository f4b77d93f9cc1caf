"""Made worlds: flow, depth, occlusion and masks from one geometry, proven against each other and against the light."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.random import generator
from eventfm.simulation.layers import opacity_at
from eventfm.simulation.maps import threshold_maps
from eventfm.simulation.rigid import Card
from eventfm.simulation.scene import CLASS_NAMES, GROUNDS, PALETTE, Scene, film_scene, supervise_scene, view_scene
from eventfm.simulation.sensor import SensorConfig
from eventfm.simulation.shapes import SHAPES, contours, coverage
from eventfm.simulation.textures import pattern, texture_of
from eventfm.simulation.worlds import SceneConfig, random_scene

SIZE = (64, 80)
CONFIG = SceneConfig(size=SIZE, duration_us=40_000)
STATIC = SceneConfig(size=SIZE, duration_us=40_000, still_object=1.0, num_objects=(2, 3))


def world(seed: int, config: SceneConfig = CONFIG) -> Scene:
    return random_scene(generator(seed, "test"), config)


@pytest.mark.parametrize("seed", range(4))
def test_flow_carries_light_along(seed: int) -> None:
    scene = world(seed)
    truth = supervise_scene(scene, 0, scene.duration_us)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    carried = cv2.remap(truth.stop.light, x + truth.flow[0], y + truth.flow[1], cv2.INTER_CUBIC)
    edges = cv2.morphologyEx(truth.start.instance, cv2.MORPH_GRADIENT, np.ones((5, 5))) > 0
    edges |= cv2.morphologyEx(truth.start.semantic, cv2.MORPH_GRADIENT, np.ones((5, 5))) > 0
    inner = truth.valid & ~cv2.dilate(truth.occluded.astype(np.uint8), np.ones((5, 5))).astype(bool) & ~edges
    assert inner.mean() > 0.3
    with_flow = np.abs(carried - truth.start.light)[inner].mean()
    without = np.abs(truth.difference)[inner].mean()
    assert with_flow < 0.25 * without


@pytest.mark.parametrize("seed", range(4))
def test_static_flow_is_depth_and_the_motion_of_the_camera(seed: int) -> None:
    """Points are lifted by their depth, moved with the camera's pose and projected again, without any homography."""
    scene = world(seed, STATIC)
    truth = supervise_scene(scene, 3000, 36_000)
    card = scene.layers[0].surface
    assert isinstance(card, Card)
    camera = card.camera
    (turn1, turn2), (eye1, eye2) = camera.body.poses(np.array([3000, 36_000]))
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float64)
    rays = np.stack([x - (SIZE[1] - 1) / 2, y - (SIZE[0] - 1) / 2, np.full(SIZE, camera.focal_px)]) / camera.focal_px
    points = turn1 @ (rays * truth.start.depth_m).reshape(3, -1) + eye1[:, None]
    moved = turn2.T @ (points - eye2[:, None])
    to_x, to_y = camera.focal_px * moved[:2] / moved[2] + np.array([[(SIZE[1] - 1) / 2], [(SIZE[0] - 1) / 2]])
    np.testing.assert_allclose(truth.flow[0].ravel(), to_x - x.ravel(), atol=1e-3)
    np.testing.assert_allclose(truth.flow[1].ravel(), to_y - y.ravel(), atol=1e-3)
    assert np.hypot(*truth.flow).max() > 0.5


def test_depth_of_wall_and_floor_is_that_of_planes() -> None:
    scene = world(1, SceneConfig(size=SIZE, floor=1.0, num_objects=(0, 0), camera_height_m=1.3))
    view = view_scene(scene, 20_000)
    camera = scene.layers[1].surface.camera
    turn, eye = camera.body.poses(20_000)
    y, x = np.nonzero(view.semantic == CLASS_NAMES.index("floor"))
    rays = np.stack([x - (SIZE[1] - 1) / 2, y - (SIZE[0] - 1) / 2, np.full(len(x), camera.focal_px)]) / camera.focal_px
    points = turn @ (rays * view.depth_m[y, x]) + eye[:, None]
    assert len(x) > 100
    np.testing.assert_allclose(points[1], 1.3, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_velocity_is_the_limit_of_flow(seed: int) -> None:
    scene = world(seed)
    view = view_scene(scene, 20_000)
    truth = supervise_scene(scene, 20_000, 20_010)
    np.testing.assert_allclose(truth.flow / 10e-6, view.velocity, atol=0.01 * np.abs(view.velocity).max())


@pytest.mark.parametrize("seed", range(3))
def test_occlusion_is_the_order_in_space(seed: int) -> None:
    """Pixel by pixel: a point is hidden if a thing in front covers where it has gone, or it has left the sensor."""
    scene = world(seed, SceneConfig(size=SIZE, num_objects=(3, 4), object_speed_px_s=(200.0, 400.0)))
    truth = supervise_scene(scene, 0, scene.duration_us)
    checked = 0
    for y in range(0, SIZE[0], 3):
        for x in range(0, SIZE[1], 3):
            to = np.array([x, y]) + truth.flow[:, y, x].astype(np.float64)
            at = [np.array([value], np.float32) for value in to]
            front = max(k for k, layer in enumerate(scene.layers) if _covers(layer, 0, x, y))
            expected = not (0 <= to[0] <= SIZE[1] - 1 and 0 <= to[1] <= SIZE[0] - 1)
            opacities = [float(opacity_at(layer, scene.duration_us, *at)[0]) for layer in scene.layers[front + 1 :]]
            expected |= any(opacity > 0.5 for opacity in opacities)
            if all(abs(opacity - 0.5) > 1e-3 for opacity in opacities):
                assert truth.occluded[y, x] == expected
                checked += 1
    assert checked > 400
    assert 0 < truth.occluded.mean() < 0.7


def _covers(layer: object, t: int, x: int, y: int) -> bool:
    card = layer.surface
    if layer.alpha is None:
        return True
    rows, columns = layer.alpha.shape
    u, v, w = np.linalg.inv(card.at(t) @ layer.to_sensor) @ (x, y, 1.0)
    inside = 0 <= u / w <= columns - 1 and 0 <= v / w <= rows - 1
    return inside and float(opacity_at(layer, t, *np.array([[[x]], [[y]]], np.float32))[0, 0]) > 0.5


@pytest.mark.parametrize("seed", range(4))
def test_nearer_layers_are_in_front_all_the_time(seed: int) -> None:
    """Painting from back to front is right only if, wherever two layers meet on the sensor, the later is nearer."""
    scene = world(seed, SceneConfig(size=SIZE, num_objects=(4, 4)))
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    for t in (0, 25_000, 50_000):
        nearest = np.zeros(SIZE)
        for layer in scene.layers:
            points = zip(x[::4, ::4].ravel(), y[::4, ::4].ravel(), strict=True)
            covers = np.array([_covers(layer, t, *point) for point in points]).reshape(x[::4, ::4].shape)
            n = layer.surface.inverse_depth(t)
            inverse = n[0] * x + n[1] * y + n[2]
            assert (inverse[::4, ::4] >= nearest[::4, ::4] - 1e-6)[covers].all()
            nearest[::4, ::4][covers] = inverse[::4, ::4][covers]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**40), floor=st.sampled_from([0.0, 1.0]), count=st.integers(0, 5))
def test_every_world_is_sound(seed: int, floor: float, count: int) -> None:
    config = SceneConfig(size=(40, 48), duration_us=30_000, floor=floor, num_objects=(count, count))
    scene = random_scene(generator(seed), config)
    truth = supervise_scene(scene, 0, scene.duration_us)
    for view in (truth.start, truth.stop):
        assert 0 <= view.light.min() <= view.light.max() <= 1
        assert (view.depth_m > 0.5).all()
        assert (view.depth_m < 60).all()
        assert view.semantic.max() < len(CLASS_NAMES) == len(PALETTE)
        assert view.instance.max() <= count
        assert ((view.instance > 0) == (view.semantic >= len(GROUNDS))).all()
        assert np.isfinite(view.velocity).all()
    assert np.isfinite(truth.flow).all()
    assert truth.valid[truth.start.semantic != 0].all()
    assert truth.valid.mean() > 0.99
    assert scene.label == (scene.layers[-1].kind - len(GROUNDS) if count == 1 else -1)


def test_equal_seeds_give_equal_bits_and_others_do_not() -> None:
    clips = [film_scene(world(seed), SensorConfig(seed=1, shot_hz=2.0)) for seed in (5, 5, 6)]
    for name in ("x", "y", "t", "p", "noise"):
        np.testing.assert_array_equal(getattr(clips[0].events, name), getattr(clips[1].events, name))
    assert len(clips[0].events) != len(clips[2].events)
    assert clips[0].events.window == (1, 40_001)
    assert clips[0].events.t.max() <= 40_000


@pytest.mark.parametrize("log", ["log", "linlog"])
def test_events_integrate_to_the_log_difference(log: str) -> None:
    config = SensorConfig(log=log, init="zero", seed=4)
    scene = world(7)
    events = film_scene(scene, config).events
    c_pos, c_neg = (c / (1 << 24) for c in threshold_maps(config, *scene.size, 0))
    total = np.zeros(scene.size)
    step = np.where(events.p == 1, c_pos[events.y, events.x], -c_neg[events.y, events.x])
    np.add.at(total, (events.y, events.x), step)
    residual = supervise_scene(scene, 0, scene.duration_us).log_difference(config) - total
    # The frames are rounded by another rule than the view: by up to a step of 16 bits.
    assert (residual < c_pos + 0.01).all()
    assert (residual > -c_neg - 0.01).all()
    assert np.abs(total).max() > 3 * config.c_pos


def test_a_world_at_rest_is_silent() -> None:
    config = SceneConfig(size=SIZE, still_camera=1.0, still_object=1.0)
    scene = world(0, config)
    assert len(film_scene(scene, SensorConfig()).events) == 0
    truth = supervise_scene(scene, 0, 50_000)
    assert np.abs(truth.flow).max() < 1e-6
    assert not truth.occluded.any()
    assert not truth.difference.any()
    assert not truth.log_difference(SensorConfig()).any()


def test_a_label_is_the_class_of_the_only_thing() -> None:
    config = SceneConfig(size=SIZE, num_objects=(1, 1))
    for label in range(len(SHAPES)):
        scene = random_scene(generator(label), config, label=label)
        assert scene.label == label
        assert (view_scene(scene, 25_000).semantic == label + len(GROUNDS)).sum() > 20


def test_a_label_that_is_no_class() -> None:
    with pytest.raises(ValueError, match=r"expected a label from 0 to 7 \(.*\), got 8"):
        random_scene(generator(0), label=8)


def test_own_pictures_replace_the_photographs() -> None:
    picture = texture_of(np.random.Generator(np.random.Philox(1)).integers(0, 255, (64, 90, 3), dtype=np.uint8))
    mine = random_scene(generator(3), CONFIG, [picture])
    theirs = random_scene(generator(3), CONFIG)
    assert (view_scene(mine, 0).light != view_scene(theirs, 0).light).any()
    with pytest.raises(ValueError, match="16 x 16"):
        texture_of(np.zeros((8, 99), np.uint8))


@pytest.mark.parametrize("kind", ["noise", "checks", "stripes", "leaves"])
def test_patterns_have_unit_contrast(kind: str) -> None:
    texture = pattern(kind, generator(1))
    values = texture.texels[: texture.size[0] * texture.size[1]]
    assert abs(values.mean()) < 0.1
    assert 0.8 < values.std() < 1.1
    assert texture.levels[-1, 0] + texture.levels[-1, 1] * texture.levels[-1, 2] == len(texture.texels)


@pytest.mark.parametrize("kind", SHAPES)
def test_shapes_fill_the_unit_circle_and_are_covered_exactly(kind: str) -> None:
    outline = contours(kind, generator(2))
    assert max(np.hypot(*c.T).max() for c in outline) == pytest.approx(1.0)
    share = coverage([c * 40 + 50 for c in outline], (101, 101))
    y, x = np.mgrid[:101, :101]
    crossings = np.zeros((101, 101), int)
    for c in outline:  # even-odd rule at the centres of the samples
        for (x0, y0), (x1, y1) in zip(c * 40 + 50, np.roll(c, -1, axis=0) * 40 + 50, strict=True):
            spans = (y0 > y) != (y1 > y)
            if y0 != y1:
                crossings += spans & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    inside = crossings % 2 == 1
    assert (inside == (share > 0.5)).mean() > 0.985
    assert share.sum() == pytest.approx(inside.sum(), rel=0.05)


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match="speed_px_s above 0"):
        SceneConfig(speed_px_s=(5.0, 1.0))
    with pytest.raises(ValueError, match="share from 0 to 1"):
        SceneConfig(floor=1.5)
    with pytest.raises(ValueError, match=r"walls at least 2\.5 m"):
        SceneConfig(wall_m=(1.0, 3.0))
    with pytest.raises(ValueError, match="gamma=None"):
        film_scene(world(0), SensorConfig(gamma="srgb"))
