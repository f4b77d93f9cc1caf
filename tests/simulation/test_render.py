"""Rendering against a float64 reference, shifts of arrays, and photometry along the exact flow."""

from __future__ import annotations

import numpy as np
import pytest
from skimage import data

from eventfm.random import generator
from eventfm.simulation.motion import Affine, flow, random_planar_motion, translation
from eventfm.simulation.pixel import simulate
from eventfm.simulation.render import Plane, fit, linear, make_clip, render, seen, view
from eventfm.simulation.sensor import FRACTION_BITS, SensorConfig, brightness_table, threshold_maps

SIZE = (60, 80)


def photograph() -> np.ndarray:
    return linear(data.camera())


def reference_view(plane: Plane, h: np.ndarray) -> np.ndarray:
    """Return the bilinear view with mirrored borders, all in float64."""
    height, width = plane.size
    back = np.linalg.inv(h @ plane.to_sensor)
    y, x = np.mgrid[:height, :width].astype(np.float64)
    u, v, w = (row[0] * x + row[1] * y + row[2] for row in back)
    u, v = u / w, v / w
    left, top = np.floor(u).astype(int), np.floor(v).astype(int)
    rows, columns = plane.light.shape

    def mirrored(i: np.ndarray, extent: int) -> np.ndarray:
        i = np.abs(i) % (2 * extent - 2)
        return np.where(i >= extent, 2 * extent - 2 - i, i)

    def light(dy: int, dx: int) -> np.ndarray:
        return plane.light.astype(np.float64)[mirrored(top + dy, rows), mirrored(left + dx, columns)]

    a, b = u - left, v - top
    return (1 - b) * ((1 - a) * light(0, 0) + a * light(0, 1)) + b * ((1 - a) * light(1, 0) + a * light(1, 1))


@pytest.mark.parametrize("seed", range(3))
def test_frames_match_a_float64_reference(seed: int) -> None:
    path = random_planar_motion(generator(seed), SIZE, 100_000, 200.0)
    times = np.arange(0, 100_001, 20_000)
    frames = render(photograph(), path, times, SIZE)
    assert (frames.shape, frames.dtype) == ((6, *SIZE), np.uint16)
    plane = fit(photograph(), SIZE)
    for frame, t in zip(frames, times, strict=True):
        expected = reference_view(plane, path.at(t)) * 65535
        assert np.abs(frame - expected).max() < 4
        assert np.abs(frame - expected).mean() < 0.5


def test_whole_pixel_translation_is_an_array_shift() -> None:
    frames = render(photograph(), translation(1000.0, 2000.0), np.array([0, 1000, 3000]), SIZE).astype(int)
    assert np.abs(frames[1][2:, 1:] - frames[0][:-2, :-1]).max() <= 1
    assert np.abs(frames[2][6:, 3:] - frames[0][:-6, :-3]).max() <= 1
    assert np.abs(frames[1] - frames[0]).max() > 1000


def test_a_fraction_of_a_pixel_neither_blurs_nor_flickers() -> None:
    """All phases must hold the same contrast: what is left of the detail is below what the sampling can carry."""
    frames = render(linear(data.astronaut()), translation(1000.0, 0.0), np.arange(9) * 125, (224, 224)) / 65535
    inner = frames[:, 5:-5, 5:-5]
    contrast = np.abs(np.diff(inner, axis=2)).mean(axis=(1, 2))
    assert np.ptp(contrast) / contrast.mean() < 0.025


def test_a_checkerboard_finer_than_the_sensor_is_grey_at_any_phase() -> None:
    fine = (np.indices((480, 640)).sum(axis=0) % 2).astype(np.float32)
    frames = render(fine, translation(1000.0, 700.0), np.arange(8) * 130, SIZE) / 65535
    np.testing.assert_allclose(frames, 0.5, atol=0.01)


@pytest.mark.parametrize("shape", [(60, 80), (45, 60), (240, 320), (500, 333), (61, 400), (7, 9)])
def test_the_picture_covers_the_sensor_from_any_resolution(shape: tuple[int, int]) -> None:
    _, x = np.indices(shape)
    ramp = ((x + 0.5) / shape[1]).astype(np.float32)
    plane = fit(ramp, SIZE)
    assert seen(plane, np.eye(3)).all()
    at_rest = view(plane, np.eye(3))
    covered = max(SIZE[0] / shape[0], SIZE[1] / shape[1]) * shape[1]
    expected = 0.5 + (np.arange(80) - 39.5) / covered
    np.testing.assert_allclose(at_rest[30, 10:-10], expected[10:-10], atol=0.02)


def test_seen_marks_the_mirrored_border() -> None:
    plane = fit(np.full((60, 80), 0.5, np.float32), SIZE)
    shifted = seen(plane, translation(10.0, -5.0).at(10**6))
    expected = np.zeros(SIZE, bool)
    expected[:55, 10:] = True
    np.testing.assert_array_equal(shifted, expected)


def test_flow_carries_grey_values_along() -> None:
    path = random_planar_motion(generator(2), SIZE, 100_000, 80.0, pause_probability=0.0)
    first, second = render(photograph(), path, np.array([0, 60_000]), SIZE).astype(np.float32) / 65535
    moved, valid = flow(path, 0, 60_000, SIZE)
    import cv2

    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    carried = cv2.remap(second, x + moved[0], y + moved[1], cv2.INTER_LINEAR)
    plane = fit(photograph(), SIZE)
    valid &= seen(plane, path.at(0)) & seen(plane, path.at(60_000))
    valid[:2], valid[-2:], valid[:, :2], valid[:, -2:] = False, False, False, False
    assert valid.sum() > 1000
    with_flow = np.abs(carried - first)[valid].mean()
    without = np.abs(second - first)[valid].mean()
    assert with_flow < without / 5


def test_linear_light() -> None:
    grey = linear(np.array([[0, 188, 255]], np.uint8))
    np.testing.assert_allclose(grey, [[0, 0.5029, 1]], atol=1e-4)
    np.testing.assert_allclose(linear(np.array([[0, 188 * 257, 65535]], np.uint16)), grey, atol=1e-6)
    colours = np.eye(3, dtype=np.uint8)[None] * 255
    np.testing.assert_allclose(linear(colours), [[0.2126, 0.7152, 0.0722]], atol=1e-6)
    np.testing.assert_allclose(linear(np.full((2, 2, 3), 188, np.uint8)), 0.5029, atol=1e-4)


def test_clip_targets_are_what_the_events_integrate_to() -> None:
    config = SensorConfig(sigma=0.03, init="zero", seed=4)
    path = random_planar_motion(generator(6), SIZE, 150_000, 150.0)
    clip = make_clip(data.astronaut(), path, (20_000, 120_000), SIZE, config, clip_id=2)
    assert clip.events.window == (20_001, 120_001)
    assert clip.times[0] == 20_000
    assert clip.times[-1] == 120_000
    assert len(clip.times) > 33, "one chunk would not test the joints"
    assert clip.events.t.min() > 20_000
    assert clip.events.t.max() <= 120_000
    assert (np.diff(clip.events.t) >= 0).all()
    c_pos, c_neg = threshold_maps(config, *SIZE, 2)
    total = np.zeros(SIZE, np.int64)
    e = clip.events
    np.add.at(total, (e.y, e.x), np.where(e.p == 1, c_pos[e.y, e.x].astype(np.int64), -c_neg[e.y, e.x]))
    table = brightness_table(config, 65536).astype(np.int64)
    first, last = (np.rint(frame * 65535).astype(int) for frame in (clip.first, clip.last))
    residual = (table[last] - table[first] - total) / (1 << FRACTION_BITS)
    assert (residual > -c_neg / (1 << FRACTION_BITS) - 1e-6).all()
    assert (residual < c_pos / (1 << FRACTION_BITS) + 1e-6).all()
    whole = simulate(render(linear(data.astronaut()), path, clip.times, SIZE), clip.times, config, clip_id=2)
    for name in "xytp":
        np.testing.assert_array_equal(getattr(e, name), getattr(whole, name))


def test_a_picture_at_rest_makes_no_events() -> None:
    clip = make_clip(data.camera(), Affine(), (0, 50_000), SIZE, SensorConfig())
    assert len(clip.events) == 0
    np.testing.assert_array_equal(clip.first, clip.last)
    assert clip.valid.all()


def test_bad_pictures_are_named() -> None:
    with pytest.raises(ValueError, match="uint8 or uint16 picture"):
        linear(np.zeros((4, 4, 4), np.uint8))
    with pytest.raises(ValueError, match=r"linear luminance \(H, W\) in \[0, 1\]"):
        fit(np.full((4, 4), 2.0, np.float32), SIZE)
    with pytest.raises(ValueError, match="gamma=None"):
        make_clip(data.camera(), Affine(), (0, 1000), SIZE, SensorConfig(gamma="srgb"))
