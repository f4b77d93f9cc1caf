"""Rendering: shifts of arrays, photometry along the exact flow, how many frames; clips and what they integrate to."""

from __future__ import annotations

import numpy as np
import pytest
from skimage import data

from eventfm.random import generator
from eventfm.simulation.light import linear
from eventfm.simulation.maps import threshold_maps
from eventfm.simulation.motion import flow, frame_times
from eventfm.simulation.paths import Affine, Paused, omnidirectional, saccades, translation
from eventfm.simulation.pixel import simulate
from eventfm.simulation.random_paths import random_affine_motion, random_planar_motion
from eventfm.simulation.render import fit, make_clip, record, render, seen, view
from eventfm.simulation.response import FRACTION_BITS, brightness_table
from eventfm.simulation.sensor import SensorConfig

SIZE = (60, 80)


def photograph() -> np.ndarray:
    return linear(data.camera())


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
    plane = fit(ramp, SIZE, enlarge=True)
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


def test_long_clips_are_rendered_in_parts_that_join(monkeypatch: pytest.MonkeyPatch) -> None:
    config = SensorConfig(seed=3, shot_hz=20.0)
    path = random_planar_motion(generator(6), SIZE, 60_000, 200.0)
    whole = make_clip(data.camera(), path, (0, 50_000), SIZE, config)
    monkeypatch.setattr("eventfm.simulation.render._BYTES_AT_ONCE", 7 * 2 * SIZE[0] * SIZE[1])
    parts = make_clip(data.camera(), path, (0, 50_000), SIZE, config)
    assert len(whole.times) > 21
    assert whole.events.noise is not None
    assert whole.events.window == parts.events.window == (1, 50_001)
    for name in ("x", "y", "t", "p", "noise"):
        np.testing.assert_array_equal(getattr(whole.events, name), getattr(parts.events, name))
    np.testing.assert_array_equal(whole.first, parts.first)
    np.testing.assert_array_equal(whole.last, parts.last)


def dead_leaves(shape: tuple[int, int]) -> np.ndarray:
    """Return overlapping discs of all sizes and greys, log-uniform from 0.05 to 1."""
    import cv2

    rng = generator(5, "leaves")
    out = np.full(shape, 0.5, np.float32)
    for _ in range(300):
        centre = int(rng.integers(shape[1])), int(rng.integers(shape[0]))
        grey = float(np.exp(rng.uniform(np.log(0.05), 0)))
        cv2.circle(out, centre, int(min(120, 6 / rng.uniform(0.02, 1))), grey, -1, cv2.LINE_AA)
    return out


@pytest.mark.parametrize(
    ("light", "exact_pixels", "events"), [(dead_leaves((240, 320)), 0.985, 0.01), (photograph(), 0.94, 0.02)]
)
def test_half_a_pixel_a_frame_is_enough(light: np.ndarray, exact_pixels: float, events: float) -> None:
    """The rule that frame times are chosen by: the whole sequence of polarities of every pixel."""
    path = random_planar_motion(generator(12), SIZE, 60_000, 130.0, pause_probability=0.0)
    plane = fit(light, SIZE)

    def sequences(step_px: float) -> list[np.ndarray]:
        t = frame_times(path, 0, 60_000, SIZE, step_px)
        e = simulate(render(plane, path, t, SIZE), t, SensorConfig(seed=1))
        pixel = e.y.astype(np.int64) * SIZE[1] + e.x
        order = np.argsort(pixel, kind="stable")
        return np.split(e.p[order], np.searchsorted(pixel[order], np.arange(1, SIZE[0] * SIZE[1])))

    coarse, fine = sequences(0.5), sequences(0.025)
    count, expected = sum(map(len, coarse)), sum(map(len, fine))
    assert expected > 10_000
    assert np.mean([np.array_equal(a, b) for a, b in zip(coarse, fine, strict=True)]) > exact_pixels
    assert abs(count / expected - 1) < events


def test_clip_targets_are_what_the_events_integrate_to() -> None:
    config = SensorConfig(sigma=0.03, init="zero", seed=4)
    path = random_planar_motion(generator(6), SIZE, 150_000, 150.0)
    clip = make_clip(data.astronaut(), path, (20_000, 120_000), SIZE, config, clip_id=2)
    assert clip.events.window == (20_001, 120_001)
    assert clip.times[0] == 20_000
    assert clip.times[-1] == 120_000
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


@pytest.mark.parametrize("start", [0, 17_003])
def test_no_events_in_a_pause(start: int) -> None:
    """None even in the first and last microsecond, at a speed of tens of pixels a frame of video."""
    pause = (start + 12_345, start + 26_789)
    for inner in (translation(900.0, 500.0), omnidirectional(4.0, leg_us=7000), saccades(9.0, leg_us=20_000)):
        clip = make_clip(data.camera(), Paused(inner, (pause,)), (start, start + 40_000), SIZE, SensorConfig())
        t = clip.events.t
        assert (t <= pause[0]).sum() > 500
        assert (t > pause[1]).sum() > 500
        assert not ((t > pause[0]) & (t <= pause[1])).any()


def test_all_motions_make_clips() -> None:
    for path in (omnidirectional(2.0, speed_px_s=100.0), random_affine_motion(generator(1), SIZE, 30_000, 100.0)):
        clip = make_clip(data.camera(), path, (0, 30_000), SIZE, SensorConfig())
        assert len(clip.events) > 1000
        assert clip.valid.mean() > 0.7


def test_black_and_constant_pictures_make_no_events() -> None:
    path = random_planar_motion(generator(1), SIZE, 20_000, 200.0)
    for grey in (0, 130, 255):
        clip = make_clip(np.full((120, 160, 3), grey, np.uint8), path, (0, 20_000), SIZE, SensorConfig())
        assert len(clip.events) == 0
        assert np.ptp(clip.first) <= 2 / 65535


def test_16_bit_pictures_keep_what_8_bits_lose() -> None:
    """A ramp in the dark, all of it within three of 256 levels, still moves smoothly."""
    ramp = np.repeat(np.linspace(4 * 257, 7 * 257, 240).astype(np.uint16)[None], 180, 0)
    assert len(np.unique(ramp // 257)) <= 4
    path, config = translation(300.0, 0.0), SensorConfig(c_pos=0.05, c_neg=0.05, sigma=0.0)
    fine = render(ramp, path, [0], SIZE)[0, 20]
    coarse = render((ramp // 257).astype(np.uint8), path, [0], SIZE)[0, 20]
    assert len(np.unique(fine[5:-5])) > 2 * len(np.unique(coarse[5:-5]))
    np.testing.assert_allclose(
        fine[5:-5] / 65535, np.interp(np.arange(5, 75), np.arange(80), linear(ramp)[0, 1::3]), atol=2e-5
    )
    assert len(make_clip(ramp, path, (0, 40_000), SIZE, config).events) > 0


def test_a_plane_serves_many_clips() -> None:
    plane = fit(photograph(), SIZE)
    path = translation(200.0, 0.0)
    ours = make_clip(plane, path, (0, 20_000), SIZE, SensorConfig())
    theirs = make_clip(data.camera(), path, (0, 20_000), SIZE, SensorConfig())
    for name in "xytp":
        np.testing.assert_array_equal(getattr(ours.events, name), getattr(theirs.events, name))
    with pytest.raises(ValueError, match=r"plane for a sensor \(height, width\) \(60, 90\)"):
        make_clip(plane, path, (0, 20_000), (60, 90), SensorConfig())


def test_sensors_in_one_recording_see_the_same() -> None:
    path = random_planar_motion(generator(2), SIZE, 30_000, 150.0)
    configs = [SensorConfig(c_pos=0.1, seed=1), SensorConfig(c_pos=0.4, seed=2)]
    together = record(fit(photograph(), SIZE), path, (0, 30_000), configs, clip_id=3)
    for clip, config in zip(together, configs, strict=True):
        alone = make_clip(data.camera(), path, (0, 30_000), SIZE, config, clip_id=3)
        for name in "xytp":
            np.testing.assert_array_equal(getattr(clip.events, name), getattr(alone.events, name))
    assert len(together[0].events) > 2 * len(together[1].events) > 0


@pytest.mark.parametrize("shape", [(180, 240), (60, 80), (333, 500)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pictures_are_not_written_to(shape: tuple[int, int], dtype: type) -> None:
    light = generator(1).uniform(size=shape).astype(dtype)
    before = light.copy()
    plane = fit(light, SIZE)
    np.testing.assert_array_equal(light, before)
    assert not np.shares_memory(plane.light, light)


def test_small_pictures_need_leave() -> None:
    small = np.full((59, 80), 0.5, np.float32)
    with pytest.raises(ValueError, match=r"at least 80 x 60 pixels, as the sensor has, got 80 x 59.*enlarge=True"):
        fit(small, SIZE)
    with pytest.raises(ValueError, match="enlarge=True"):
        make_clip(small, Affine(), (0, 1000), SIZE, SensorConfig())
    with pytest.raises(ValueError, match="enlarge=True"):
        render(small, Affine(), [0], SIZE)
    assert fit(small, SIZE, enlarge=True).size == SIZE
    assert render(np.full((1, 1), 0.5, np.float32), Affine(), [0], SIZE, enlarge=True).min() == 32768
    fit(np.full((60, 80), 0.5, np.float32), SIZE)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.full((90, 90), 2.0, np.float32), r"in \[0, 1\] without NaN, got values from 2"),
        (np.full((90, 90), -0.1, np.float64), r"in \[0, 1\] without NaN, got values from -0.1"),
        (np.full((90, 90), np.nan, np.float32), r"in \[0, 1\] without NaN, got values from nan"),
        (np.full((90, 90), np.inf, np.float32), r"in \[0, 1\] without NaN, got values from inf"),
        (np.zeros((90, 90, 3), np.float32), r"luminance \(H, W\).*shape \(90, 90, 3\)"),
        (np.zeros((0, 90), np.float32), r"luminance \(H, W\).*shape \(0, 90\)"),
        (np.zeros((90, 90), np.uint8), r"luminance \(H, W\).*got uint8.*`linear`"),
    ],
)
def test_bad_light_is_named(picture: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(picture, SIZE)


def test_bad_pictures_are_named() -> None:
    with pytest.raises(ValueError, match="uint8 or uint16 picture"):
        make_clip(np.zeros((90, 90), np.int64), Affine(), (0, 1000), SIZE, SensorConfig())
    with pytest.raises(ValueError, match="with pixels"):
        make_clip(np.zeros((0, 0), np.uint8), Affine(), (0, 1000), SIZE, SensorConfig())
    with pytest.raises(ValueError, match="gamma=None"):
        make_clip(data.camera(), Affine(), (0, 1000), SIZE, SensorConfig(gamma="srgb"))
