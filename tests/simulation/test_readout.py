"""The way out of the sensor: delay, jitter, coarse clocks, a limited rate; the same in any chunks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from oracle import read_out
from pixel_clips import IDEAL, as_sent, columns, joined, run, simulator, times, video

from eventfm.simulation.sensor import SensorConfig

PLAIN = SensorConfig(c_pos=0.1, c_neg=0.1, shot_hz=50.0, refractory_us=200, seed=7)
START = 12_345


def far_apart(config: SensorConfig) -> np.ndarray:
    """Return the delays of the first 6000 events: of a pixel that sends one each 1900 us, so that they keep order."""
    sparse = replace(IDEAL, c_pos=0.01, c_neg=0.01, eps=1e-9, seed=config.seed, jitter_us=config.jitter_us)
    frames = np.array([0, 65535, 0, 65535, 65535], np.uint16)[:, None, None]
    t = np.arange(5) * 4_000_000
    plain = run(frames, t, replace(sparse, jitter_us=0)).t
    assert len(plain) > 6000
    assert np.diff(plain).min() > config.jitter_us
    return run(frames, t, sparse).t - plain


@pytest.mark.parametrize("name", ["latency_us", "jitter_us", "tick_us", "refractory_us"])
def test_times_are_whole_when_settings_are_whole_floats(name: str) -> None:
    frames, t = video(), times(12, START)
    found = run(frames, t, replace(PLAIN, **{name: 300.0}))
    assert found.t.dtype == np.int64
    np.testing.assert_array_equal(columns(found), columns(run(frames, t, replace(PLAIN, **{name: 300}))))


def test_latency_moves_every_event_and_what_is_late_comes_with_the_next_call(backend: str) -> None:
    frames, t = video(), times(12, START)
    plain = columns(run(frames, t, PLAIN, backend=backend))
    sim = simulator(13, 21, replace(PLAIN, latency_us=5000), backend=backend)
    first, second = sim.push(frames[:8], t[:8]), sim.push(frames[8:], t[8:])
    assert first.window == (t[0] + 1, t[7] + 1)
    assert second.window == (t[7] + 1, t[11] + 1)
    assert len(first) > 0
    assert t[7] - 2000 < first.t.max() <= t[7] < second.t.min()
    plain[2] += 5000
    np.testing.assert_array_equal(joined([first, second]), plain[:, plain[2] <= t[-1]])
    rest = sim.push(frames[-1:], t[-1:] + 10_000)
    np.testing.assert_array_equal(columns(rest)[:, : (plain[2] > t[-1]).sum()], plain[:, plain[2] > t[-1]])


def test_jitter_is_uniform_and_belongs_to_the_running_number() -> None:
    delays = far_apart(replace(PLAIN, jitter_us=49))
    counts = np.bincount(delays, minlength=50)
    assert len(counts) == 50
    expected = len(delays) / 50
    assert abs(((counts - expected) ** 2 / expected).sum() - 49) < 5 * np.sqrt(2 * 49)
    assert abs(np.corrcoef(delays[1:], delays[:-1])[0, 1]) < 5 / np.sqrt(len(delays))
    assert (delays != far_apart(replace(PLAIN, jitter_us=49, seed=8))).mean() > 0.9


@pytest.mark.parametrize("tick_us", [2, 10, 1000])
def test_ticks_are_counted_from_the_first_frame_and_never_early(tick_us: int, backend: str) -> None:
    frames, t = video(), times(12, START)
    plain = run(frames, t, PLAIN, backend=backend)
    coarse = run(frames, t, replace(PLAIN, tick_us=tick_us), backend=backend)
    assert ((coarse.t - t[0]) % tick_us == 0).all()
    late = coarse.t - plain.t[: len(coarse)]
    assert late.min() == 0
    assert late.max() == tick_us - 1
    assert (plain.t[len(coarse) :] > t[-1] - tick_us).all()


def test_a_limited_rate_drops_the_last_of_each_millisecond(backend: str) -> None:
    frames, t = video(), times(12, START)
    plain = columns(run(frames, t, PLAIN, backend=backend))
    limited = columns(run(frames, t, replace(PLAIN, max_rate_hz=50_999.0), backend=backend))
    millisecond = (plain[2] - t[0]) // 1000
    rank = np.arange(plain.shape[1]) - np.searchsorted(millisecond, millisecond)
    np.testing.assert_array_equal(limited, plain[:, rank < 50])
    assert 0.1 < limited.shape[1] / plain.shape[1] < 0.9
    busiest = np.bincount((limited[2] - t[0]) // 1000).max()
    assert busiest == 50
    free = columns(run(frames, t, replace(PLAIN, max_rate_hz=1e9), backend=backend))
    np.testing.assert_array_equal(free, plain)


@pytest.mark.parametrize(
    "fields",
    [
        {"jitter_us": 900},
        {"latency_us": 100, "jitter_us": 33, "tick_us": 7},
        {"jitter_us": 900, "tick_us": 100, "max_rate_hz": 80_000.0},
        {"latency_us": 3000, "jitter_us": 1, "tick_us": 1500, "max_rate_hz": 20_000.0},
    ],
)
@pytest.mark.parametrize("cuts", [[], [1, 5, 6], list(range(1, 12))])
def test_everything_together_is_what_the_oracle_reads_out(
    fields: dict[str, object], cuts: list[int], backend: str
) -> None:
    config = replace(PLAIN, **fields)
    frames, t = video(), times(12, START)
    plain = as_sent(run(frames, t, PLAIN, backend=backend))
    delays = config.latency_us + (far_apart(config) if config.jitter_us else np.zeros(6000, int))
    expected = read_out(plain, delays[: len(plain)].tolist(), config, int(t[0]), int(t[-1]))
    sim = simulator(13, 21, config, backend=backend)
    parts = [sim.push(f, s) for f, s in zip(np.split(frames, cuts), np.split(t, cuts), strict=True)]
    assert [event for part in parts for event in as_sent(part)] == expected
    assert len(expected) > 200


def test_nothing_is_on_its_way_after_a_reset(backend: str) -> None:
    frames, t = video(), times(12)
    config = replace(PLAIN, latency_us=3000, jitter_us=100, max_rate_hz=1e5)
    sim = simulator(13, 21, config, backend=backend)
    first = sim.push(frames, t)
    sim.reset()
    np.testing.assert_array_equal(columns(sim.push(frames, t)), columns(first))
