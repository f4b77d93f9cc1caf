"""Defects of other simulators that this one must not have: what was measured there, and what is right.

One test for each row of the table of defects that the project reproduced in other tools, by its number.
"""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from pixel_clips import IDEAL, ONE, columns, joined, run, simulator, still, times, video

from eventfm.simulation.maps import threshold_maps
from eventfm.simulation.sensor import SensorConfig

LINEAR = replace(IDEAL, log="identity")


def log_steps(*changes: float, start: float = 0.05) -> np.ndarray:
    """Return (F, 1, 1) 16-bit frames whose ln(I + eps) goes up by each of `changes`."""
    level = np.log(start + IDEAL.eps) + np.concatenate([[0.0], np.cumsum(changes)])
    return np.rint((np.exp(level) - IDEAL.eps) * 65535).astype(np.uint16)[:, None, None]


def test_1_times_are_those_of_the_pixel_itself(backend: str) -> None:
    """v2e: slots of the busiest pixel, so that a lone event due at 8.0 ms is stamped 2.0; mean error -1.4 ms."""
    rises = np.linspace(0.05, 1.0, 200)
    rises[0] = 0.25
    frames = np.zeros((2, 1, 200), np.uint16)
    frames[1, 0] = np.rint(rises * 65535)
    events = run(frames, [0, 10_000], LINEAR, backend=backend)
    alone = events.t[events.x == 0]
    assert np.abs(alone - [8000]).max() <= 1
    number = [int((events.t[: i + 1][events.x[: i + 1] == x]).size) for i, x in enumerate(events.x)]
    due = np.array(number) * 0.2 / rises[events.x] * 10_000
    error = events.t - due
    assert abs(error.mean()) < 1
    assert np.abs(error).max() < 3  # a frame value is rounded to 1 / 65535, up to 1.5 us of 10 ms


@pytest.mark.parametrize("shot_hz", [1.0, 5.0, 20.0])
def test_2_noise_comes_between_frames_and_as_often_as_asked_for(shot_hz: float) -> None:
    """v2e: on frame times only; with its photoreceptor at 50 Hz and 1 kHz frames 0.16, 2.2 and 8.4 Hz came of these."""
    config = replace(IDEAL, shot_hz=shot_hz, cutoff_hz=50.0)
    events = run(still(0.0, 1001, 64, 64), np.arange(1001) * 1000, config)
    expected = shot_hz * 4096
    assert abs(len(events) - expected) < 5 * np.sqrt(expected) + 0.002 * expected
    on_frames = (events.t % 1000 == 0).mean()
    assert on_frames < 0.001 + 5 * np.sqrt(0.001 / expected)
    phase = np.bincount(events.t % 1000 // 100, minlength=10) / len(events)
    assert np.abs(phase - 0.1).max() < 5 * np.sqrt(0.09 / expected)


def test_3_each_simulator_has_the_noise_of_its_own_settings() -> None:
    """v2e: the first emulator's 5 Hz noise is cached, a second one that asks for 0.05 Hz gets it too."""
    dark, t = still(0.0, 2, 64, 64), [0, 60_000_000]
    strong = run(dark, t, replace(IDEAL, shot_hz=5.0))
    weak = run(dark, t, replace(IDEAL, shot_hz=0.05))
    again = run(dark, t, replace(IDEAL, shot_hz=5.0))
    assert abs(len(strong) / (5 * 60 * 4096) - 1) < 0.01
    assert abs(len(weak) / (0.05 * 60 * 4096) - 1) < 5 / np.sqrt(0.05 * 60 * 4096)
    np.testing.assert_array_equal(columns(strong), columns(again))


def test_4_times_are_whole_microseconds_and_nothing_is_seeded_globally() -> None:
    """v2e: float32 seconds, 7.6 us apart at 100 s; two emulators in one process depend on each other's order."""
    late = np.array([0, 100_000_000, 100_010_000])
    rest = np.zeros((3, 1, 200), np.uint16)
    rest[2] = np.linspace(20_000, 65_535, 200)
    events = run(rest, late, replace(LINEAR, c_pos=0.05))
    assert set(np.diff(np.unique(events.t)).tolist()) > {1, 2, 3}

    frames, t = video(), times(12)
    config = SensorConfig(shot_hz=20.0, seed=1)
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = columns(run(frames, t, config, 0))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.random.seed(99)  # noqa: NPY002
    second = columns(run(frames, t, config, 1))
    np.testing.assert_array_equal(columns(run(frames, t, config, 0)), first)
    np.testing.assert_array_equal(columns(run(frames, t, config, 1)), second)


def test_5_whole_numbers_are_fine_and_labels_stay_with_their_events() -> None:
    """v2e: an integer frame rate crashes the photoreceptor noise; labels are permuted apart from their events."""
    frames, t = video(), times(12)
    whole = SensorConfig(c_pos=1, c_neg=1, sigma=0, cutoff_hz=50, leak_hz=1, shot_hz=20, hot_hz=9, seed=3)
    real = SensorConfig(c_pos=1.0, c_neg=1.0, sigma=0.0, cutoff_hz=50.0, leak_hz=1.0, shot_hz=20.0, hot_hz=9.0, seed=3)
    np.testing.assert_array_equal(columns(run(frames, t, whole)), columns(run(frames, t, real)))

    config = SensorConfig(shot_hz=100.0, noise_resets=False)
    noisy = columns(run(frames, t, config))
    clean = columns(run(frames, t, replace(config, shot_hz=0.0)))
    still_noise = columns(run(frames[:1].repeat(12, axis=0), t, config))
    np.testing.assert_array_equal(noisy[:, noisy[4] == 0], clean)
    assert still_noise[4].all()
    assert (noisy[4] == 1).sum() > 300


def test_6_the_first_interval_is_like_any_other(backend: str) -> None:
    """esim_py: 1.05 nat in the first 10 ms gave 1.90 2.35 3.08 4.44 8.00 ms, its reference moved with the frame."""
    expected = np.array([1905, 3810, 5714, 7619, 9524])
    frames = log_steps(1.05, 0.0, 1.05)
    events = run(frames, np.array([0, 10_000, 20_000, 30_000]), IDEAL, backend=backend)
    # ramps in time are ramps of the logarithm; 0.05 stays below the threshold and shortens the way of the last ramp
    np.testing.assert_allclose(events.t[:5], expected, atol=5)
    np.testing.assert_allclose(events.t[5:], 20_000 + np.arange(1, 6) * 2000 / 1.05 - 500 / 1.05, atol=5)
    assert events.p.all()


@pytest.mark.parametrize("start_us", [10 * 10**6, 100 * 10**6, 1000 * 10**6, 1_790_000_000 * 10**6])
def test_7_late_times_are_as_fine_as_early_ones(start_us: int, backend: str) -> None:
    """esim_torch: float32 nanoseconds; 978 stamps per ms are left at 10 s, 123 at 100 s, 16 at 1000 s, 1 since 1970."""
    frames = np.zeros((2, 40, 50), np.uint16)
    frames[1] = np.linspace(20_000, 65_535, 2000).reshape(40, 50)
    config = replace(LINEAR, c_pos=0.01)
    events = run(frames, start_us + np.array([0, 1000]), config, backend=backend)
    assert len(np.unique(events.t)) > 970
    early = run(frames, np.array([0, 1000]), config, backend=backend)
    np.testing.assert_array_equal(events.t - start_us, early.t)


def sine_frames(num_frames: int, amplitude: float, num_periods: int, size: int) -> np.ndarray:
    wave = amplitude * np.sin(2 * np.pi * num_periods * np.arange(num_frames) / (num_frames - 1))
    light = np.exp(np.log(0.2 + IDEAL.eps) + wave) - IDEAL.eps
    return np.repeat(np.rint(light * 65535).astype(np.uint16)[:, None, None], size, axis=1).repeat(size, axis=2)


@pytest.mark.parametrize("sigma", [0.0, 0.01, 0.021, 0.05])
def test_8_spread_of_thresholds_neither_loses_nor_makes_events(sigma: float, backend: str) -> None:
    """rpg_esim: thresholds redrawn for each frame, crossings missed: 47 events of a sine become 7 at sigma 0.01."""
    config = SensorConfig(c_pos=0.15, c_neg=0.15, sigma=sigma, init="zero", seed=2)
    counts = {}
    for num_frames in (201, 2001):  # sparse and dense
        frames = sine_frames(num_frames, 0.98, 2, 30)
        events = run(frames, np.linspace(0, 1_000_000, num_frames).astype(np.int64), config, backend=backend)
        counts[num_frames] = len(events) / 900
        per_pixel = np.bincount(events.y.astype(int) * 30 + events.x, minlength=900)
        assert per_pixel.min() > 20
    assert abs(counts[201] / counts[2001] - 1) < 0.01
    if sigma == 0.0:
        assert counts[2001] == 6 + 3 * 12 + 6  # 0.98 up, 1.96 down, up and down, 0.98 up
    shorter = np.mean([0.15 * ONE / c for c in threshold_maps(config, 30, 30, 0)])
    assert abs(counts[2001] / 48 / shorter - 1) < 0.02


@pytest.mark.parametrize("leak_hz", [0.0, 1.0, 5.0, 10.0])
def test_9_leak_does_not_make_the_sensor_blind(leak_hz: float, backend: str) -> None:
    """OpenEB: of a still scene at 5 Hz come no events, and of the step of 1.386 nat after it 0 ON events, not 6."""
    config = replace(IDEAL, leak_hz=leak_hz, leak_spread=0.0)
    first = np.full((1051, 8, 8), log_steps(1.386)[0, 0, 0], np.uint16)
    last = np.full((11, 8, 8), log_steps(1.386)[1, 0, 0], np.uint16)
    sim = simulator(8, 8, config, backend=backend)
    leaked = sim.push(first, np.arange(1051) * 1000)
    assert leaked.p.all()
    assert len(leaked) == 64 * leak_hz
    stepped = sim.push(last, 1_050_000 + np.arange(1, 12) * 1000)
    assert stepped.p.all()
    each = np.bincount(stepped.y.astype(int) * 8 + stepped.x, minlength=64)
    assert each.min() >= 6
    assert each.max() <= 7


def test_10_shot_noise_reaches_every_pixel_at_its_rate() -> None:
    """OpenEB: of 10 Hz came 0.36, 0.21 and 0.06 Hz, and only 22 of 4096 pixels ever fired."""
    t = np.arange(301) * 10_000
    sim = simulator(64, 64, replace(IDEAL, shot_hz=10.0))
    parts = [sim.push(still(0.0, 100, 64, 64), t[k : k + 100]) for k in (0, 100, 200)]
    for part in parts:
        seconds = (part.window[1] - part.window[0]) * 1e-6
        assert abs(len(part) / (10 * 4096 * seconds) - 1) < 5 / np.sqrt(10 * 4096 * seconds)
    x, y, *_ = joined(parts)
    silent = 4096 - len(np.unique(64 * y + x))
    assert silent <= 5  # exp(-30) of them is expected


def test_11_changes_below_the_threshold_send_nothing(backend: str) -> None:
    """neurosim: measures from the running extreme, so that a sine of 0.6 C fires 19 times."""
    frames = sine_frames(1001, 0.6 * 0.2, 10, 3)
    assert len(run(frames, np.arange(1001) * 1000, IDEAL, backend=backend)) == 0
    assert len(run(sine_frames(1001, 1.1 * 0.2, 10, 3), np.arange(1001) * 1000, IDEAL, backend=backend)) > 0


def test_12_memory_is_that_of_a_chunk_and_order_is_fixed(backend: str) -> None:
    """esim_py keeps the video and OpenEB's events are unsorted; neurosim's order changes from run to run."""
    config = SensorConfig(shot_hz=5.0, leak_hz=1.0, cutoff_hz=500.0, refractory_us=100)
    chunk = video(10, 40, 50)

    def peak(num_chunks: int) -> int:
        sim = simulator(40, 50, config, backend=backend)
        sim.push(chunk, np.arange(10) * 1000)
        tracemalloc.start()
        for k in range(1, num_chunks):
            sim.push(chunk, 10_000 * k + np.arange(10) * 1000)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(15)  # what is allocated once and kept
    short, long = peak(3), peak(15)
    assert long < 1.3 * short
    runs = [columns(run(chunk, np.arange(10) * 1000, config, backend=backend)) for _ in range(2)]
    np.testing.assert_array_equal(*runs)
    x, y, t = runs[0][:3]
    assert (np.diff(t) >= 0).all()
    assert all(a <= b for a, b in pairwise(zip(t.tolist(), y.tolist(), x.tolist(), strict=True)))
