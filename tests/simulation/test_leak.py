"""Leak: ON events at the rate that was asked for, exact at any frame rate, and no pixel that gets stuck by it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pixel_clips import IDEAL, ONE, run, simulator, still, sums_of_thresholds

from eventfm.events import Events
from eventfm.simulation.maps import leak_map, threshold_maps
from eventfm.simulation.sensor import SensorConfig

LEAKY = SensorConfig(leak_hz=4.0, leak_spread=0.15, seed=3)


def stamps(events: Events, height: int, width: int) -> list[np.ndarray]:
    """Return the times of each pixel, in raster order."""
    pixel = events.y.astype(np.int64) * width + events.x
    order = np.argsort(pixel, kind="stable")
    return np.split(events.t[order], np.searchsorted(pixel[order], np.arange(1, height * width)))


def test_rate_polarity_and_regularity_of_a_still_scene(backend: str) -> None:
    """Each pixel at its own rate, one event like the other; the rates spread by `leak_spread` decades."""
    t = np.arange(0, 20_000_001, 500_000)
    events = run(still(0.4, len(t), 40, 50), t, LEAKY, backend=backend)
    assert events.p.all()
    c_pos, _ = threshold_maps(LEAKY, 40, 50, 0)
    period = c_pos / (leak_map(LEAKY, c_pos, 0) / 2**18)
    measured = np.array([np.diff(mine).mean() for mine in stamps(events, 40, 50)]).reshape(40, 50)
    for mine, due in zip(stamps(events, 40, 50), period.ravel(), strict=True):
        gaps = np.diff(mine)
        assert abs(gaps - due).max() <= 2
    decades = np.log10(1e6 / measured / LEAKY.leak_hz)
    assert abs(decades.mean()) < 5 * 0.15 / np.sqrt(2000)
    assert abs(decades.std() / 0.15 - 1) < 5 / np.sqrt(2 * 2000)


@pytest.mark.parametrize("leak_hz", [0.1, 1.0, 25.0])
def test_the_rate_is_the_one_asked_for(leak_hz: float, backend: str) -> None:
    """Without spread every pixel is at `leak_hz`, whatever its threshold: 40 events in 40.5 periods."""
    config = SensorConfig(leak_hz=leak_hz, leak_spread=0.0, sigma=0.05, init="zero")
    length = round(40.5e6 / leak_hz)
    t = np.linspace(0, length, 60).astype(np.int64)
    events = run(still(0.4, len(t), 30, 30), t, config, backend=backend)
    assert [len(mine) for mine in stamps(events, 30, 30)] == [40] * 900
    assert events.p.all()


@pytest.mark.parametrize("fields", [{}, {"cutoff_hz": 30.0}, {"refractory_us": 20_000}])
def test_a_hundred_and_five_thousand_frames_per_second_give_the_same(fields: dict[str, object]) -> None:
    config = replace(LEAKY, **fields)
    slow, fast = (
        run(still(0.4, frame_hz + 1, 20, 20), np.arange(frame_hz + 1) * (1_000_000 // frame_hz), config)
        for frame_hz in (100, 5000)
    )
    assert len(slow) == len(fast) > 1000
    for mine, its in zip(stamps(slow, 20, 20), stamps(fast, 20, 20), strict=True):
        assert len(mine) == len(its)
        # ends of intervals are rounded down to 2**-24 nat: about a microsecond of the slowest leak here
        assert np.abs(mine - its).max(initial=0) <= 2


def test_one_long_interval_gives_the_closed_form_times(backend: str) -> None:
    config = replace(IDEAL, leak_hz=0.05, leak_spread=0.1)
    duration = 1_000_000_000
    c_pos, _ = threshold_maps(config, 2, 3, 0)
    events = run(still(0.4, 2, 2, 3), [7, 7 + duration], config, backend=backend)
    for mine, rate, c in zip(stamps(events, 2, 3), leak_map(config, c_pos, 0).flat, c_pos.flat, strict=True):
        way = int(rate) * duration >> 18
        due = [7 - (-k * int(c) * duration // way) for k in range(1, way // int(c) + 1)]
        assert mine.tolist() == due


def test_rising_light_adds_to_leak_and_falling_light_may_outrun_it(backend: str) -> None:
    config = replace(IDEAL, log="identity", leak_hz=1.02, leak_spread=0.0, c_pos=0.1, c_neg=0.1)
    frames = np.zeros((2, 1, 3), np.uint16)
    frames[0], frames[1] = [6554, 65535, 13107], [65535, 6000, 6554]
    events = run(frames, [0, 1_000_000], config, backend=backend)
    # leak makes a little more than 0.1: up 0.9 + 0.1, down 0.9 - 0.1, and 0.1 against 0.1
    assert [int(((events.x == x) & (events.p == p)).sum()) for x, p in ((0, 1), (1, 0), (0, 0), (1, 1))] == [
        10,
        8,
        0,
        0,
    ]
    assert not (events.x == 2).any()


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    config=st.builds(
        SensorConfig,
        c_pos=st.floats(0.02, 0.15),
        c_neg=st.floats(0.02, 0.15),
        sigma=st.sampled_from([0.0, 0.03]),
        log=st.just("identity"),
        refractory_us=st.sampled_from([0, 1]),
        refractory=st.sampled_from(["hold", "drop", "suppress"]),
        cutoff_hz=st.sampled_from([None, 1000.0]),
        leak_hz=st.sampled_from([0.0, 0.3, 5.0, 10.0]),
        shot_hz=st.sampled_from([0.0, 20.0]),
        seed=st.integers(0, 100),
    ),
    num_thresholds=st.integers(1, 6),
    rising=st.booleans(),
)
def test_no_history_makes_a_pixel_stuck(backend: str, config: SensorConfig, num_thresholds: int, rising: bool) -> None:
    """Whatever went before, a change is answered by its events, give or take what fits between both thresholds."""
    walk = np.random.default_rng(config.seed).uniform(0, 1, (12, 4, 5))
    change = num_thresholds * (config.c_pos if rising else -config.c_neg)
    before = np.full((1, 4, 5), 0.0 if rising else 1.0)
    frames = np.concatenate([walk, before, before, before + change, before + change])
    t = np.concatenate([np.arange(12) * 3000, [100_000, 300_000, 310_000, 320_000]])
    sim = simulator(4, 5, config, backend=backend)
    sim.push(frames[:14], t[:14])
    events = sim.push(frames[14:], t[14:])

    c_pos, c_neg = threshold_maps(config, 4, 5, 0)
    noise = np.zeros((4, 5))
    if events.noise is not None:
        is_noise = events.noise == 1
        np.add.at(noise, (events.y[is_noise], events.x[is_noise]), 1)
        events = Events(*(column[~is_noise] for column in (events.x, events.y, events.t, events.p)), events.sensor)
    answered = sums_of_thresholds(events, c_pos, c_neg)
    leaked = leak_map(config, c_pos, 0) * 20_000.0 / 2**18
    # noise resets a pixel; a hold of 1 us costs what happens until the next whole microsecond; frames have 16 bits
    slack = (c_pos + c_neg) * (1 + noise) + len(events) * 2 * abs(change) * ONE / 10_000 + 600
    assert (np.abs(answered - change * ONE - leaked) <= slack).all()
