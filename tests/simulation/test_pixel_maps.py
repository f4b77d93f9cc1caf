"""What is worked out before the first frame: maps of the pixels, response curves, coefficients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from oracle import level, light_level
from pixel_clips import ONE

from eventfm.simulation.maps import dead_map, hot_pixels, initial_distance, leak_map, threshold_maps
from eventfm.simulation.response import brightness_table, keep_table, low_pass
from eventfm.simulation.sensor import SensorConfig

NUM = 4800
"""Pixels of 60x80."""


def test_thresholds_have_the_mean_and_the_spread_that_was_asked_for() -> None:
    for config in (SensorConfig(), SensorConfig(c_pos=0.3, c_neg=0.4, sigma=0.05, seed=1)):
        on, off = threshold_maps(config, 60, 80, 0)
        assert (on.dtype, on.shape) == (np.int32, (60, 80))
        for values, mean in ((on / ONE, config.c_pos), (off / ONE, config.c_neg)):
            assert abs(values.mean() - mean) < 5 * config.sigma / np.sqrt(NUM)
            assert abs(values.std() / config.sigma - 1) < 5 / np.sqrt(2 * NUM)
        assert abs(np.corrcoef(on.ravel(), off.ravel())[0, 1]) < 5 / np.sqrt(NUM)
        assert abs(np.corrcoef(on[:, 1:].ravel(), on[:, :-1].ravel())[0, 1]) < 5 / np.sqrt(NUM)
    uniform, _ = threshold_maps(SensorConfig(c_pos=0.123, sigma=0), 60, 80, 0)
    assert (uniform == round(0.123 * ONE)).all()


def test_thresholds_are_clamped_and_the_share_of_the_clamped_is_that_of_a_normal() -> None:
    wide, _ = threshold_maps(SensorConfig(c_pos=0.2, sigma=0.2), 60, 80, 0)
    assert wide.min() == round(0.01 * ONE)
    share = 0.171056  # of a normal below (0.01 - 0.2) / 0.2 standard deviations
    clamped = (wide == wide.min()).mean()
    assert abs(clamped - share) < 5 * np.sqrt(share * (1 - share) / NUM)


def test_clips_and_seeds_have_their_own_maps() -> None:
    config = SensorConfig(leak_hz=1.0, dead_fraction=0.1, hot_fraction=0.1)

    def all_maps(seed: int, clip_id: int) -> list[np.ndarray]:
        seeded = replace(config, seed=seed)
        c_pos, c_neg = threshold_maps(seeded, 60, 80, clip_id)
        return [
            c_pos,
            c_neg,
            initial_distance(seeded, c_pos, c_neg, clip_id),
            leak_map(seeded, c_pos, clip_id),
            dead_map(seeded, 60, 80, clip_id),
            hot_pixels(seeded, 60, 80, clip_id),
        ]

    first, again = all_maps(0, 0), all_maps(0, 0)
    for mine, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(mine, same)
    for other in (all_maps(0, 1), all_maps(1, 0)):
        for mine, its in zip(first, other, strict=True):
            assert not np.array_equal(mine, its)


def test_uniform_start_fills_the_room_between_the_thresholds() -> None:
    config = SensorConfig(c_pos=0.1, c_neg=0.3, sigma=0)
    c_pos, c_neg = threshold_maps(config, 100, 100, 0)
    distance = initial_distance(config, c_pos, c_neg, 0)
    assert distance.min() > -c_neg.min()
    assert distance.max() < c_pos.max()
    assert abs(distance.mean() / ONE + 0.1) < 5 * 0.4 / np.sqrt(12 * 10_000)
    assert abs(distance.std() / ONE / (0.4 / np.sqrt(12)) - 1) < 0.03
    assert not initial_distance(replace(config, init="zero"), c_pos, c_neg, 0).any()


def test_no_pixel_starts_on_a_threshold() -> None:
    c_pos, c_neg = np.full((60, 80), 3, np.int32), np.full((60, 80), 2, np.int32)
    values, counts = np.unique(initial_distance(SensorConfig(), c_pos, c_neg, 0), return_counts=True)
    assert values.tolist() == [-1, 0, 1, 2]
    assert np.abs(counts - NUM / 4).max() < 5 * np.sqrt(NUM * 3 / 16)


def test_dead_and_hot_pixels_are_counted_and_apart() -> None:
    config = SensorConfig(dead_fraction=0.4, hot_fraction=0.4, leak_hz=10.0)
    dead, hot = dead_map(config, 60, 80, 0), hot_pixels(config, 60, 80, 0)
    assert (dead.dtype, dead.shape, dead.sum()) == (np.bool_, (60, 80), round(0.4 * NUM))
    assert len(np.unique(hot)) == len(hot) == round(0.4 * NUM)
    assert not dead.ravel()[hot].any()
    c_pos, c_neg = threshold_maps(config, 60, 80, 0)
    assert ((c_pos == 2**31 - 1) == dead).all()
    assert ((c_neg == 2**31 - 1) == dead).all()
    assert ((leak_map(config, c_pos, 0) == 0) == dead).all()
    for fraction in (0.0, 1e-4, 3e-4):
        few = replace(config, dead_fraction=fraction, hot_fraction=fraction)
        assert dead_map(few, 60, 80, 0).sum() == len(hot_pixels(few, 60, 80, 0)) == round(fraction * NUM)


def test_leak_map() -> None:
    config = SensorConfig(c_pos=0.25, leak_hz=0.3, leak_spread=0.0)
    c_pos, _ = threshold_maps(config, 60, 80, 0)
    exact = leak_map(config, c_pos, 0)
    assert exact.dtype == np.uint32
    np.testing.assert_array_equal(exact, np.rint(0.3e-6 * c_pos.astype(np.float64) * 2.0**18))
    spread = leak_map(replace(config, leak_spread=0.2), c_pos, 0)
    decades = np.log10(spread / exact)
    assert abs(decades.mean()) < 5 * 0.2 / np.sqrt(NUM)
    assert abs(decades.std() / 0.2 - 1) < 5 / np.sqrt(2 * NUM)
    assert abs(np.corrcoef(decades.ravel(), c_pos.ravel())[0, 1]) < 5 / np.sqrt(NUM)
    assert leak_map(SensorConfig(c_pos=16.0, sigma=0, leak_hz=1000.0), c_pos * 60, 0).max() == 2**32 - 1


@pytest.mark.parametrize("gamma", [None, "srgb", 2.2])
@pytest.mark.parametrize("log", ["log", "linlog", "linlog_v2e", "identity"])
def test_response_curves_are_those_of_the_oracle(log: str, gamma: str | float | None) -> None:
    config = SensorConfig(log=log, gamma=gamma, eps=0.002)
    table = brightness_table(config, 65536)
    values = [*range(300), *range(300, 65536, 101), 5139, 5140, 5141, 65534, 65535]
    assert np.abs(table[values] - np.array([level(config, v) for v in values])).max() <= 1
    assert np.abs(brightness_table(config, 256) - table[::257]).max() == 0
    keep = [round((1 - 0.75 * light_level(config, i)) * 2**32) for i in range(256)]
    assert np.abs(keep_table(config) - np.array(keep)).max() <= 1


def test_photoreceptor_coefficients_at_the_ends_of_their_range() -> None:
    """From far below a time constant, where 1 - exp(-x) would lose its digits, to far above."""
    slow = low_pass(SensorConfig(cutoff_hz=1e-3), 1)
    np.testing.assert_allclose([c / 2**30 for c in slow], np.array([1, 1, 0, 1])[:, None] * np.ones(256), atol=1e-8)
    fast = low_pass(SensorConfig(cutoff_hz=1e6), 2**30 - 1)
    assert max(int(np.abs(c).max()) for c in fast) <= 4
    for x in (1e-4, 0.3, 1.0, 20.0):
        config = SensorConfig(cutoff_hz=x / (2 * np.pi) * 1e6 / 1000, log="identity")
        e, g, h, w = (c[77] / 2**30 for c in low_pass(config, 1000))
        assert abs(e - np.exp(-x)) < 1e-9
        assert abs(g - (1 - x / 2 + x * x / 6 if x < 1e-3 else (1 - np.exp(-x)) / x)) < 1e-9
        assert abs(h - x * np.exp(-x)) < 1e-9
        assert abs(w - (2 * g - e)) < 3e-9
