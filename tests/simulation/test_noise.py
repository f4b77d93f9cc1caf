"""Shot noise, hot and dead pixels: rates, shares, times, and what noise does to the signal.

Bounds are five standard deviations; seeds are fixed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pixel_clips import IDEAL, columns, run, simulator, still, times, video

from eventfm.events import Events
from eventfm.simulation.maps import dead_map, hot_pixels, threshold_maps
from eventfm.simulation.noise import NoiseClocks
from eventfm.simulation.sensor import SensorConfig

NOISY = SensorConfig(shot_hz=1000.0, seed=8)
SECOND = 1_000_000


def noise_of_a_still_scene(config: SensorConfig, light: float, seconds: float, size: tuple[int, int]) -> Events:
    t = np.linspace(0, seconds * SECOND, 5).astype(np.int64)
    events = run(still(light, 5, *size), t, config)
    assert events.noise.all()
    return events


def per_pixel(events: Events, height: int, width: int) -> np.ndarray:
    """Return (2, H, W): OFF and ON events."""
    counts = np.zeros((2, height, width))
    np.add.at(counts, (events.p, events.y, events.x), 1)
    return counts


@pytest.mark.parametrize("gamma", [None, 2.2])
@pytest.mark.parametrize("light", [0.0, 0.3, 0.7, 1.0])
def test_shot_rate_and_its_dependence_on_light(light: float, gamma: float | None) -> None:
    """`shot_hz` (1 - 0.75 I) events per second of a mean pixel; 250 000 events make 5 deviations one per cent."""
    size, config = (50, 60), replace(NOISY, gamma=gamma, dead_fraction=0.1)
    i = (round(light * 65535) * 2 >> 9) + 0.5  # light has 256 steps
    share = 1 - 0.75 * (i / 256) ** (gamma or 1)
    expected = 260_000
    events = noise_of_a_still_scene(config, light, expected / (1000 * share * 2700), size)
    assert abs(len(events) / expected - 1) < 0.01
    exact = {0.0: 1.0, 0.3: 1 - 0.75 * 0.3, 1.0: 0.25}.get(light)
    if exact is not None and gamma is None:
        assert abs(share / exact - 1) < 0.006


def test_low_thresholds_see_more_of_it_and_both_polarities_have_their_share() -> None:
    size, config = (50, 60), replace(NOISY, sigma=0.04, c_neg=0.3)
    events = noise_of_a_still_scene(config, 0.0, 0.5, size)
    num, counts = len(events), per_pixel(events, *size)
    assert abs(num / (1000 * 0.5 * 3000) - 1) < 5 / np.sqrt(num)
    for p, thresholds in ((1, threshold_maps(config, *size, 0)[0]), (0, threshold_maps(config, *size, 0)[1])):
        assert abs(counts[p].sum() / num - 0.5) < 5 * 0.5 / np.sqrt(num)
        weight = 1 / thresholds
        expected = counts[p].sum() * weight / weight.sum()
        chi_square = ((counts[p] - expected) ** 2 / expected).sum()
        assert abs(chi_square - 3000) < 5 * np.sqrt(2 * 3000)


@pytest.mark.parametrize("config", [replace(NOISY, sigma=0.0), SensorConfig(hot_fraction=0.5, hot_hz=1000.0)])
def test_counts_are_those_of_a_poisson_process(config: SensorConfig) -> None:
    """Index of dispersion over the pixels, over time, and no correlation between neighbours."""
    events = noise_of_a_still_scene(config, 0.0, 0.1, (80, 80))
    counts = per_pixel(events, 80, 80).sum(axis=0)
    firing = counts[counts > 0] if config.hot_fraction else counts.ravel()
    assert abs(firing.var() / firing.mean() - 1) < 5 * np.sqrt(2 / len(firing))
    in_time = np.bincount(events.t // 100, minlength=1001)[1:-1]
    assert abs(in_time.var() / in_time.mean() - 1) < 5 * np.sqrt(2 / len(in_time))
    if not config.hot_fraction:
        assert abs(np.corrcoef(counts[:, 1:].ravel(), counts[:, :-1].ravel())[0, 1]) < 5 / 80
        assert abs(np.corrcoef(*per_pixel(events, 80, 80).reshape(2, -1))[0, 1]) < 5 / 80


def kolmogorov_smirnov(uniform: np.ndarray) -> float:
    """Return sqrt(n) times the largest distance of the distribution from the uniform one on [0, 1]."""
    sample = np.sort(uniform)
    steps = np.arange(len(sample) + 1) / len(sample)
    return float(np.sqrt(len(sample)) * max((steps[1:] - sample).max(), (sample - steps[:-1]).max()))


@pytest.mark.parametrize("fields", [{"shot_hz": 50.0}, {"hot_fraction": 0.2, "hot_hz": 200.0}])
def test_times_are_uniform_in_the_interval_and_waiting_times_exponential(fields: dict[str, float]) -> None:
    config = replace(IDEAL, **fields)
    t = np.arange(41) * 50_000
    events = run(still(0.0, 41, 30, 40), t, config)
    assert len(events) > 50_000
    limit = 2.75  # exceeded with probability 2 exp(-2 limit^2) = 5e-7
    assert kolmogorov_smirnov((events.t - 1) % 50_000 / 50_000) < limit
    pixel = events.y.astype(int) * 40 + events.x
    order = np.lexsort((events.t, pixel))
    gaps = np.diff(events.t[order])[np.diff(pixel[order]) == 0]
    rate = (fields.get("shot_hz") or 200.0) * 1e-6
    # a gap is only seen when it ends within the two seconds: short ones more often, by about 1 / (2 s rate)
    seen = gaps[gaps < 0.2 / rate]
    distribution = (1 - np.exp(-rate * seen)) / (1 - np.exp(-0.2))
    assert kolmogorov_smirnov(distribution) < limit


def test_hot_pixels_fire_at_their_rate_in_any_light() -> None:
    config = SensorConfig(hot_fraction=0.02, hot_hz=500.0, dead_fraction=0.3, seed=4)
    hot = hot_pixels(config, 50, 60, 0)
    for light in (0.0, 1.0):
        events = noise_of_a_still_scene(config, light, 8.5, (50, 60))
        counts = per_pixel(events, 50, 60).reshape(2, -1)
        assert np.flatnonzero(counts.sum(axis=0)).tolist() == hot.tolist()
        assert len(hot) == 60
        assert abs(len(events) / (500 * 8.5 * 60) - 1) < 0.01
        assert abs(counts[1].sum() / len(events) - 0.5) < 5 * 0.5 / np.sqrt(len(events))
        each = counts.sum(axis=0)[hot]
        assert abs(((each - 4250) ** 2 / 4250).sum() - 60) < 5 * np.sqrt(2 * 60)


def test_dead_pixels_are_silent_whatever_happens(backend: str) -> None:
    busy = SensorConfig(
        dead_fraction=0.25, c_pos=0.02, c_neg=0.02, shot_hz=1000.0, hot_fraction=0.2, leak_hz=50.0, refractory_us=30
    )
    frames, t = video(), times(12)
    driven = replace(busy, refractory="drop", cutoff_hz=1000.0)
    for config in (busy, driven, SensorConfig(c_pos=0.05, c_neg=0.05, dead_fraction=0.25)):
        events = run(frames, t, config, backend=backend)
        fired = np.zeros((13, 21), bool)
        fired[events.y, events.x] = True
        assert not fired[dead_map(config, 13, 21, 0)].any()
        assert fired.sum() == 13 * 21 - round(0.25 * 13 * 21)


NO_RESET = SensorConfig(shot_hz=100.0, hot_fraction=0.05, hot_hz=300.0, noise_resets=False, seed=5)


@pytest.mark.parametrize("fields", [{}, {"leak_hz": 20.0, "cutoff_hz": 100.0, "poles": 2, "dead_fraction": 0.1}])
@pytest.mark.parametrize("refractory_us", [0, 500])
@pytest.mark.parametrize("refractory", ["hold", "drop", "suppress"])
def test_noise_without_resets_is_laid_over_the_clean_events(
    fields: dict[str, object], refractory_us: int, refractory: str, backend: str
) -> None:
    config = replace(NO_RESET, refractory_us=refractory_us, refractory=refractory, **fields)
    frames, t = video(), times(12)
    noisy = columns(run(frames, t, config, backend=backend))
    clean = run(frames, t, replace(config, shot_hz=0.0, hot_fraction=0.0), backend=backend)
    assert clean.noise is None
    np.testing.assert_array_equal(noisy[:, noisy[4] == 0], columns(clean))
    assert 200 < (noisy[4] == 1).sum() < noisy.shape[1] - 200


def test_without_refractory_time_every_candidate_of_a_hot_pixel_is_sent(backend: str) -> None:
    config = replace(NO_RESET, shot_hz=0.0)
    frames, t = video(), times(12)
    events = run(frames, t, config, 2, backend)
    found = NoiseClocks(config, *threshold_maps(config, 13, 21, 2), 2).take(int(t[-1] - t[0]))
    is_noise = events.noise == 1
    order = np.lexsort((events.t[is_noise], (events.y.astype(int) * 21 + events.x)[is_noise]))
    sent = (events.y.astype(int) * 21 + events.x)[is_noise][order]
    np.testing.assert_array_equal(sent, found.pixel)
    np.testing.assert_array_equal(events.t[is_noise][order] - t[0], found.elapsed)
    np.testing.assert_array_equal(events.p[is_noise][order], found.polarity)


def test_a_noise_event_resets_its_pixel(backend: str) -> None:
    """With noise far more often than signal can reach a threshold, a slow ramp gives no signal at all."""
    frames = np.linspace(0, 65535, 21).astype(np.uint16)[:, None, None] * np.ones((1, 4, 4), np.uint16)
    t = np.arange(21) * 100_000
    config = replace(IDEAL, log="identity", c_pos=0.1, c_neg=0.1, shot_hz=600.0)
    events = run(frames, t, config, backend=backend)
    assert events.noise.all()
    laid_over = run(frames, t, replace(config, noise_resets=False), backend=backend)
    assert (laid_over.noise == 0).sum() == 16 * 9


def test_clocks_do_not_know_frames() -> None:
    """The same candidates whether asked for once or in between, and after their state was moved."""
    config = SensorConfig(shot_hz=200.0, hot_fraction=0.1, hot_hz=300.0)
    maps = threshold_maps(config, 9, 11, 3)
    whole = NoiseClocks(config, *maps, 3).take(SECOND)
    assert len(whole.pixel) > 15_000
    assert np.lexsort((whole.elapsed, whole.pixel)).tolist() == list(range(len(whole.pixel)))
    clocks, parts = NoiseClocks(config, *maps, 3), []
    stops = [1, 2, 777, 778, 50_000, 999_999, SECOND]
    for start, stop in zip([0, *stops], stops, strict=False):
        part = clocks.take(stop)
        assert ((part.elapsed > start) & (part.elapsed <= stop)).all()
        parts.append(part)
        moved = NoiseClocks(config, *maps, 3)
        moved.load(clocks.state())
        clocks = moved
    joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.lexsort((joined[1], joined[0]))
    for mine, its in zip(joined, whole, strict=True):
        np.testing.assert_array_equal(mine[order], its)
    assert (whole.draw[np.isin(whole.pixel, hot_pixels(config, 9, 11, 3))] == 0).any()
    assert 0 <= whole.draw.min() < whole.draw.max() < 2**32
    assert whole.polarity.dtype == np.uint8


def test_noise_of_clips_differs_and_is_that_of_the_seed() -> None:
    dark, t = still(0.0, 2, 20, 20), [0, 100_000]
    first, again, clip, seed = (
        columns(run(dark, t, replace(NOISY, seed=seed), clip)) for seed, clip in ((8, 0), (8, 0), (8, 1), (9, 0))
    )
    np.testing.assert_array_equal(first, again)
    for other in (clip, seed):
        assert len(set(first[2].tolist()) & set(other[2].tolist())) < 0.9 * len(set(first[2].tolist()))


def test_noise_is_labelled_where_there_is_noise(backend: str) -> None:
    frames, t = video(), times(12)
    noisy = run(frames, t, SensorConfig(shot_hz=0.01), backend=backend)
    assert noisy.noise is not None
    assert noisy.noise.dtype == np.uint8
    for quiet in ({}, {"leak_hz": 1.0, "refractory_us": 5, "dead_fraction": 0.1}, {"hot_fraction": 0.1, "hot_hz": 0.0}):
        assert run(frames, t, SensorConfig(**quiet), backend=backend).noise is None
    first = simulator(13, 21, SensorConfig(shot_hz=1.0), backend=backend).push(frames[:1], t[:1])
    assert len(first) == 0


def test_rates_without_a_pixel_to_have_them_give_no_noise(backend: str) -> None:
    frames, t = video(), times(12)
    for config in (SensorConfig(hot_fraction=1e-4), SensorConfig(dead_fraction=0.5, hot_fraction=1e-4)):
        events = run(frames, t, config, backend=backend)
        assert events.noise is not None
        assert not events.noise.any()
        clean = run(frames, t, replace(config, hot_fraction=0.0), backend=backend)
        np.testing.assert_array_equal(columns(events)[:4], columns(clean)[:4])
