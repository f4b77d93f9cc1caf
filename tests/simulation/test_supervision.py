"""Targets against the events, the frames and the flow they must agree with; clean and noisy twins."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from skimage import data

from eventfm.random import generator
from eventfm.simulation.light import linear
from eventfm.simulation.maps import threshold_maps
from eventfm.simulation.motion import flow, velocity
from eventfm.simulation.paths import Affine, translation
from eventfm.simulation.random_paths import random_planar_motion
from eventfm.simulation.render import fit, make_clip
from eventfm.simulation.sensor import SensorConfig
from eventfm.simulation.supervision import Shot, shoot, supervise, twins

SIZE = (60, 80)
NOISY = SensorConfig(
    sigma=0.05,
    seed=9,
    refractory_us=500,
    cutoff_hz=200.0,
    leak_hz=2.0,
    shot_hz=10.0,
    hot_fraction=0.01,
    dead_fraction=0.01,
    latency_us=100,
    jitter_us=50,
    tick_us=10,
    max_rate_hz=1e7,
)


def moving(config: SensorConfig, seed: int = 3, speed: float = 150.0) -> Shot:
    path = random_planar_motion(generator(seed), SIZE, 100_000, speed, pause_probability=0.0)
    return shoot(data.astronaut(), path, SIZE, config)


@pytest.mark.parametrize("log", ["log", "linlog", "linlog_v2e", "identity"])
@pytest.mark.parametrize("init", ["zero", "uniform"])
def test_log_difference_is_what_the_events_integrate_to(log: str, init: str) -> None:
    """For any window inside the clip and not just the whole."""
    config = SensorConfig(c_pos=0.15, c_neg=0.2, sigma=0.03, log=log, init=init, seed=4)
    film = moving(config)
    clip = make_clip(film.plane, film.path, (20_000, 90_000), SIZE, config)
    c_pos, c_neg = (c / 2**24 for c in threshold_maps(config, *SIZE, 0))
    for t2 in (int(clip.times[len(clip.times) // 3]), 90_000):
        targets = supervise(film, 20_000, t2)
        e = clip.events.between(20_001, t2 + 1)
        total = np.zeros(SIZE)
        np.add.at(total, (e.y, e.x), np.where(e.p == 1, c_pos[e.y, e.x], -c_neg[e.y, e.x]))
        residual = targets.log_difference - total
        slack = c_pos + c_neg if init == "uniform" else 0  # it started anywhere between its thresholds
        assert (residual > -c_neg - slack - 1e-6).all()
        assert (residual < c_pos + slack + 1e-6).all()
        assert np.abs(total).max() > 0.3


def test_log_difference_of_a_window_inside_a_clip() -> None:
    """Whatever came before: the pixel was somewhere between its thresholds at the start and is at the end."""
    config = SensorConfig(c_pos=0.15, c_neg=0.2, sigma=0.03, seed=4)
    film = moving(config)
    clip = make_clip(film.plane, film.path, (0, 90_000), SIZE, config)
    c_pos, c_neg = (c / 2**24 for c in threshold_maps(config, *SIZE, 0))
    start, stop = (int(clip.times[len(clip.times) * k // 4]) for k in (1, 3))
    e = clip.events.between(start + 1, stop + 1)
    total = np.zeros(SIZE)
    np.add.at(total, (e.y, e.x), np.where(e.p == 1, c_pos[e.y, e.x], -c_neg[e.y, e.x]))
    assert (np.abs(supervise(film, start, stop).log_difference - total) < c_pos + c_neg).all()
    assert np.abs(total).max() > 0.6


def test_the_fields_agree_with_the_functions_they_come_from() -> None:
    config = SensorConfig(seed=4)
    film = moving(config)
    clip = make_clip(film.plane, film.path, (20_000, 50_000), SIZE, config)
    targets = supervise(film, 20_000, 50_000)
    np.testing.assert_array_equal(targets.difference, clip.last - clip.first)
    expected_log = np.log(clip.last.astype(np.float64) + 1e-3) - np.log(clip.first.astype(np.float64) + 1e-3)
    np.testing.assert_allclose(targets.log_difference, expected_log, atol=1e-4)
    moved, lands = flow(film.path, 20_000, 50_000, SIZE)
    np.testing.assert_array_equal(targets.flow, moved)
    np.testing.assert_array_equal(targets.velocity, velocity(film.path, 20_000, SIZE))
    np.testing.assert_array_equal(targets.valid, clip.valid & lands)
    np.testing.assert_array_equal(targets.homographies[1], film.path.at(50_000))
    for name in ("flow", "velocity", "difference", "log_difference"):
        assert getattr(targets, name).dtype == np.float32


def test_backwards_is_the_negative() -> None:
    film = moving(SensorConfig())
    there, back = supervise(film, 10_000, 30_000), supervise(film, 30_000, 10_000)
    np.testing.assert_array_equal(there.difference, -back.difference)
    np.testing.assert_array_equal(there.log_difference, -back.log_difference)
    np.testing.assert_array_equal(there.homographies, back.homographies[::-1])


def test_nothing_happens_at_rest() -> None:
    film = shoot(data.camera(), Affine(), SIZE, SensorConfig())
    targets = supervise(film, 0, 10**6)
    for name in ("flow", "velocity", "difference", "log_difference"):
        assert not getattr(targets, name).any()
    assert targets.valid.all()


def test_a_shift_by_whole_pixels_is_known_everywhere() -> None:
    film = shoot(data.camera(), translation(3000.0, 2000.0), SIZE, SensorConfig())
    targets = supervise(film, 0, 1000)
    assert (targets.flow[0] == 3).all()
    assert (targets.flow[1] == 2).all()
    np.testing.assert_allclose(targets.velocity[:, 5, 5], [3000, 2000])
    expected = np.zeros(SIZE, bool)
    expected[2:-2, 3:-3] = True  # mirrored at the later time in the first, leaves the sensor in the last
    # the photograph is square, so above and below the sensor there is more of it
    expected[:2, 3:-3] = True
    np.testing.assert_array_equal(targets.valid, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_anchor_in_colour_warps_onto_what_the_sensor_sees(dtype: type) -> None:
    picture = data.astronaut().astype(dtype) * dtype(np.iinfo(dtype).max // 255)
    film = moving(SensorConfig())
    film = shoot(picture, film.path, SIZE, film.config)
    targets = supervise(film, 30_000, 60_000)
    assert (targets.anchor.shape, targets.anchor.dtype) == ((*SIZE, 3), dtype)
    clip = make_clip(picture, film.path, (30_000, 60_000), SIZE, film.config)
    at_rest = linear(targets.anchor)
    for h, frame in zip(targets.homographies, (clip.first, clip.last), strict=True):
        warped = cv2.warpPerspective(at_rest, h, SIZE[::-1], flags=cv2.INTER_LINEAR)
        inner = targets.valid.copy()
        inner[:4], inner[-4:], inner[:, :4], inner[:, -4:] = False, False, False, False
        assert inner.sum() > 1000
        assert np.abs(warped - frame)[inner].mean() < np.abs(at_rest - frame)[inner].mean() / 4


def test_the_anchor_of_light_is_light() -> None:
    light = linear(data.camera())
    film = shoot(light, Affine(), SIZE, SensorConfig())
    assert film.anchor.dtype == np.float32
    np.testing.assert_allclose(
        film.anchor, make_clip(light, Affine(), (0, 1000), SIZE, SensorConfig()).first, atol=1e-5
    )
    grey = shoot(data.camera(), Affine(), SIZE, SensorConfig()).anchor
    assert (grey.shape, grey.dtype) == (SIZE, np.uint8)
    np.testing.assert_allclose(linear(grey), film.anchor, atol=0.01)


def test_twins_share_motion_and_thresholds() -> None:
    film = moving(NOISY)
    clean, noisy = twins(film, (0, 60_000))
    np.testing.assert_array_equal(clean.times, noisy.times)
    np.testing.assert_array_equal(clean.first, noisy.first)
    alone = make_clip(data.astronaut(), film.path, (0, 60_000), SIZE, SensorConfig(sigma=0.05, seed=9))
    for name in "xytp":
        np.testing.assert_array_equal(getattr(clean.events, name), getattr(alone.events, name))
    dirty = make_clip(data.astronaut(), film.path, (0, 60_000), SIZE, NOISY)
    for name in ("x", "y", "t", "p", "noise"):
        np.testing.assert_array_equal(getattr(noisy.events, name), getattr(dirty.events, name))
    assert clean.events.noise is None
    assert noisy.events.noise is not None
    assert noisy.events.noise.sum() > 50


def test_without_noise_leaves_thresholds_start_and_response() -> None:
    clean = NOISY.without_noise()
    assert clean == SensorConfig(sigma=0.05, seed=9)
    assert not clean.has_noise
    kept = SensorConfig(c_pos=0.3, c_neg=0.1, sigma=0.1, eps=0.01, init="zero", log="linlog", seed=5)
    assert kept.without_noise() == kept
    # laid over unchanged, what is not noise in the noisy twin is the clean one
    film = moving(replace(kept, log="log", shot_hz=20.0, hot_fraction=0.01, noise_resets=False))
    clean, noisy = twins(film, (0, 40_000))
    signal = noisy.events.noise == 0
    for name in "xytp":
        np.testing.assert_array_equal(getattr(noisy.events, name)[signal], getattr(clean.events, name))
    assert (~signal).sum() > 20


def test_a_shot_may_be_put_together_from_a_plane() -> None:
    picture = data.camera()
    ours = Shot(picture, fit(linear(picture), SIZE), translation(100.0, 0.0), SensorConfig())
    np.testing.assert_array_equal(
        supervise(ours, 0, 9000).difference,
        supervise(shoot(picture, ours.path, SIZE, ours.config), 0, 9000).difference,
    )


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="gamma=None"):
        shoot(data.camera(), Affine(), SIZE, SensorConfig(gamma=2.2))
    with pytest.raises(ValueError, match="expected a picture, got its plane"):
        shoot(fit(np.zeros((64, 64)), SIZE, enlarge=True), Affine(), SIZE, SensorConfig())
    with pytest.raises(ValueError, match="enlarge=True"):
        shoot(np.zeros((28, 28), np.uint8), Affine(), SIZE, SensorConfig())
