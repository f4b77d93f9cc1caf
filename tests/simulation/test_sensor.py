"""Sensor configurations: ranges, presets, random sensors, and the tables and maps that follow from them."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from eventfm.random import generator, uniforms
from eventfm.simulation.maps import _uniforms, hot_pixels, leak_map, threshold_maps
from eventfm.simulation.response import brightness_table, keep_table, low_pass
from eventfm.simulation.sensor import SensorConfig

ONE = 1 << 24


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"c_pos": 0.0}, r"expected c_pos in \[0.01, 16\] \(natural-log units\), got 0.0"),
        ({"c_neg": -0.2}, "expected c_neg in"),
        ({"c_pos": math.nan}, "expected c_pos in"),
        ({"sigma": -0.1}, "expected sigma in"),
        ({"eps": 0.0}, "expected eps in"),
        ({"gamma": "rec709"}, "expected gamma to be None, 'srgb' or a number, got 'rec709'"),
        ({"gamma": 0.0}, "expected gamma in"),
        ({"gamma": np.float32(99)}, "expected gamma in"),
        ({"log": "log2"}, "expected log to be 'log' or 'linlog' or 'linlog_v2e' or 'identity', got 'log2'"),
        ({"init": "random"}, "expected init to be"),
        ({"refractory": "wait"}, "expected refractory to be 'hold' or 'drop' or 'suppress'"),
        ({"refractory_us": -1}, r"expected refractory_us in \[0, 1e\+09\] \(microseconds\), got -1"),
        ({"refractory_us": 0.5}, "expected refractory_us to be a whole number, got 0.5"),
        ({"poles": 3}, "expected poles to be 1 or 2, got 3"),
        ({"cutoff_hz": 0.0}, "expected cutoff_hz to be None or in"),
        ({"leak_hz": -1.0}, "expected leak_hz in"),
        ({"shot_hz": math.inf}, "expected shot_hz in"),
        ({"hot_fraction": 0.6}, "expected hot_fraction in"),
        ({"dead_fraction": -0.1}, "expected dead_fraction in"),
        ({"max_rate_hz": 0.0}, "expected max_rate_hz to be None or in"),
        ({"tick_us": 0}, "expected tick_us in"),
        ({"c_pos": "0.2"}, "expected c_pos in .* got '0.2'"),
        ({"cutoff_hz": "200"}, "expected cutoff_hz to be None or in .* got '200'"),
        ({"seed": math.inf}, "expected seed to be a whole number, got inf"),
        ({"seed": None}, "expected seed to be a whole number, got None"),
    ],
)
def test_values_out_of_range_are_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SensorConfig(**fields)  # type: ignore[arg-type]


def test_presets_are_what_they_are_called() -> None:
    clean, noisy, v2e_clean, v2e_noisy, esim = (
        SensorConfig.preset(name) for name in ("clean", "noisy", "v2e-clean", "v2e-noisy", "esim")
    )
    assert not clean.has_noise
    assert clean.leak_hz == 0
    assert clean.cutoff_hz is None
    assert noisy.has_noise
    assert noisy.leak_hz > 0
    assert noisy.cutoff_hz is not None
    assert noisy.refractory_us > 0
    assert (v2e_clean.c_pos, v2e_clean.sigma, v2e_clean.has_noise, v2e_clean.log) == (0.2, 0.02, False, "linlog_v2e")
    # v2e's "noisy" settings: sigma 0.05, 30 Hz, leak 0.1 Hz, shot noise 5 Hz, no refractory time.
    found = (v2e_noisy.sigma, v2e_noisy.cutoff_hz, v2e_noisy.leak_hz, v2e_noisy.shot_hz, v2e_noisy.refractory_us)
    assert found == (0.05, 30.0, 0.1, 5.0, 0)
    assert (esim.sigma, esim.init) == (0.0, "zero")
    with pytest.raises(ValueError, match=r"unknown sensor preset 'cleen'.*clean"):
        SensorConfig.preset("cleen")


def test_random_sensors_cover_their_ranges_and_repeat() -> None:
    sensors = [SensorConfig.sample(generator(0, "sensor", i)) for i in range(400)]
    assert sensors[7] == SensorConfig.sample(generator(0, "sensor", 7))
    c_pos = np.array([sensor.c_pos for sensor in sensors])
    assert 0.05 <= c_pos.min() < 0.06
    assert 0.7 < c_pos.max() <= 0.8
    assert abs(np.median(np.log(c_pos)) - np.log(0.2)) < 0.2  # log-uniform: the middle of 0.05 and 0.8
    ratio = np.array([sensor.c_neg for sensor in sensors]) / c_pos
    assert ratio.min() >= 0.7
    assert ratio.max() <= 1.4
    assert abs(ratio.mean() - 1) < 0.03
    noisy = np.array([sensor.has_noise for sensor in sensors])
    assert abs(noisy.mean() - 0.5) < 0.1
    assert all(sensor.leak_hz == 0 and sensor.cutoff_hz is None for sensor in np.array(sensors)[~noisy])
    assert not any(SensorConfig.sample(generator(1, i), noise_probability=0).has_noise for i in range(50))
    assert len({sensor.seed for sensor in sensors}) == 400
    assert all(SensorConfig(**asdict(sensor)) == sensor for sensor in sensors[:20])


def test_response_curves() -> None:
    light = np.arange(65536) / 65535
    sensor = SensorConfig()
    np.testing.assert_allclose(brightness_table(sensor) / ONE, np.log(light + 1e-3), atol=1e-7)
    linlog = brightness_table(replace(sensor, log="linlog")) / ONE
    knee = 20 / 255
    np.testing.assert_allclose(linlog[light > knee], np.log(light[light > knee]), atol=1e-7)
    assert linlog[0] == pytest.approx(math.log(knee) - 1)
    steps = np.diff(linlog) * 65535
    assert np.abs(np.diff(steps)).max() < 0.01  # no kink: the slope never jumps
    v2e = brightness_table(replace(sensor, log="linlog_v2e")) / ONE
    grey = 255 * light
    expected = np.where(grey <= 20, grey * math.log(20) / 20, np.log(np.maximum(grey, 20)))
    np.testing.assert_allclose(v2e, expected, atol=1e-7)
    np.testing.assert_allclose(brightness_table(replace(sensor, log="identity")) / ONE, light, atol=1e-7)
    squared = brightness_table(replace(sensor, log="identity", gamma=2.0)) / ONE
    np.testing.assert_allclose(squared, light**2, atol=1e-7)
    assert (np.diff(brightness_table(sensor).astype(np.int64)) >= 0).all()


def test_low_pass_coefficients() -> None:
    sensor = SensorConfig(cutoff_hz=100.0)
    c = low_pass(sensor, 1000)
    light = (np.arange(256) + 0.5) / 256
    ratio = 1e-3 * 2 * np.pi * 100 * (light + 20 / 255) / (275 / 255)
    np.testing.assert_allclose(c.e / 2**30, np.exp(-ratio), atol=1e-9)
    np.testing.assert_allclose(c.g / 2**30, (1 - np.exp(-ratio)) / ratio, atol=1e-9)
    np.testing.assert_allclose(c.h / 2**30, ratio * np.exp(-ratio), atol=1e-9)
    np.testing.assert_allclose(c.w, 2 * c.g.astype(float) - c.e, atol=2)
    assert len(set(low_pass(replace(sensor, log="identity"), 1000).e)) == 1
    assert keep_table(sensor)[0] / 2**32 == pytest.approx(1, abs=2e-3)
    assert keep_table(sensor)[255] / 2**32 == pytest.approx(0.25, abs=2e-3)


def test_maps_are_the_published_uniforms_and_follow_seed_and_clip() -> None:
    np.testing.assert_array_equal(_uniforms(5, "a", (10, 100)).ravel(), uniforms(5, "a", 1000))
    maps = [threshold_maps(SensorConfig(seed=seed), 60, 80, clip)[0] for seed, clip in [(0, 0), (0, 1), (1, 0)]]
    assert not any(np.array_equal(a, b) for a, b in [(maps[0], maps[1]), (maps[0], maps[2]), (maps[1], maps[2])])
    np.testing.assert_array_equal(maps[0], threshold_maps(SensorConfig(), 60, 80, 0)[0])


def test_dead_pixels_neither_leak_nor_burn() -> None:
    sensor = SensorConfig(leak_hz=1.0, dead_fraction=0.25, hot_fraction=0.5)
    c_pos, c_neg = threshold_maps(sensor, 20, 30, 0)
    dead = c_pos == 2**31 - 1
    assert dead.sum() == 150
    assert (c_neg[dead] == 2**31 - 1).all()
    assert (leak_map(sensor, c_pos, 0)[dead] == 0).all()
    assert (leak_map(sensor, c_pos, 0)[~dead] > 0).all()
    hot = hot_pixels(sensor, 20, 30, 0)
    assert len(set(hot)) == 300
    assert not dead.ravel()[hot].any()
