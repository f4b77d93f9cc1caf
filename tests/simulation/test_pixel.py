"""The change detector against closed forms: counts, times, order, brightness that events give back."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from pixel_clips import IDEAL, ONE, columns, joined, run, simulator, still, sums_of_thresholds, times, video

from eventfm.events import Events
from eventfm.simulation.maps import initial_distance, leak_map, threshold_maps
from eventfm.simulation.pixel import simulate
from eventfm.simulation.response import brightness_table
from eventfm.simulation.sensor import SensorConfig


@pytest.mark.parametrize("duration", [7, 1000, 33_333, 5_000_000])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("level", [0.0, 0.2])
def test_ramp_gives_the_closed_form_count_and_times(duration: int, dtype: str, level: float, backend: str) -> None:
    config = replace(IDEAL, c_pos=0.07, c_neg=0.05, log="identity")
    scale = {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
    low = np.full(40, level)
    high = np.linspace(level, 1.0, 40)
    both = np.stack([np.concatenate([low, high]), np.concatenate([high, low])])[:, None]
    frames = (both if dtype == "float32" else np.rint(both * scale)).astype(dtype)
    events = run(frames, [500, 500 + duration], config, backend=backend)
    codes = np.rint(both * 65535).astype(int) if dtype != "uint8" else frames.astype(int) * 257
    levels = np.rint(codes / 65535 * ONE).astype(int)
    thresholds = {1: round(0.07 * ONE), 0: round(0.05 * ONE)}
    for x in range(80):
        rise = int(levels[1, 0, x] - levels[0, 0, x])
        polarity = int(rise > 0)
        count = abs(rise) // thresholds[polarity]
        due = [500 - (-k * thresholds[polarity] * duration // abs(rise)) for k in range(1, count + 1)]
        mine = events.x == x
        assert events.t[mine].tolist() == due
        assert set(events.p[mine].tolist()) <= {polarity}
    assert len(events) > 300


@pytest.mark.parametrize("parts", [2, 7, 100])
def test_cutting_a_ramp_into_frames_changes_nothing(parts: int, backend: str) -> None:
    config = replace(IDEAL, log="identity", c_pos=0.013, c_neg=0.017)
    ramp = np.array([[63000, 0, 12600, 63000]], np.uint16)
    other = np.array([[0, 63000, 37800, 12600]], np.uint16)
    whole = run(np.stack([ramp, other]), [0, 70_000], config, backend=backend)
    steps = np.arange(parts + 1)[:, None, None]
    frames = (ramp + steps * (other.astype(np.int64) - ramp) // parts).astype(np.uint16)
    cut = run(frames, np.arange(parts + 1) * 70_000 // parts, config, backend=backend)
    for x in range(4):
        expected, got = whole.t[whole.x == x], cut.t[cut.x == x]
        assert len(got) == len(expected) > 20
        # the table rounds the levels in between, which may carry a crossing over the edge of a microsecond
        assert np.abs(got - expected).max() <= 1


@pytest.mark.parametrize("log", ["log", "linlog", "linlog_v2e", "identity"])
@pytest.mark.parametrize("init", ["zero", "uniform"])
def test_events_reconstruct_the_brightness_of_every_pixel_at_every_frame(log: str, init: str, backend: str) -> None:
    config = SensorConfig(c_pos=0.15, c_neg=0.11, sigma=0.03, log=log, init=init, gamma="srgb", seed=9)
    frames, t = video(20), times(20)
    events = run(frames, t, config, backend=backend)
    c_pos, c_neg = threshold_maps(config, 13, 21, 0)
    start = initial_distance(config, c_pos, c_neg, 0)
    table = brightness_table(config, 65536).astype(np.int64)
    assert len(events) > 2000
    for k in range(20):
        so_far = events.between(int(t[0]), int(t[k]) + 1)
        residual = table[frames[k]] - table[frames[0]] + start - sums_of_thresholds(so_far, c_pos, c_neg)
        assert (residual > -c_neg).all()
        assert (residual < c_pos).all()
    for now in range(int(t[0]), int(t[-1]), 999):  # and at any time between them
        k = int(np.searchsorted(t, now, side="right"))
        share = (now - t[k - 1]) / (t[k] - t[k - 1])
        level = table[frames[k - 1]] * (1 - share) + table[frames[k]] * share
        so_far = events.between(int(t[0]), now + 1)
        residual = level - table[frames[0]] + start - sums_of_thresholds(so_far, c_pos, c_neg)
        assert (residual > -c_neg - 1e-3).all()
        assert (residual < c_pos + 1e-3).all()


@pytest.mark.parametrize("fields", [{}, *({"refractory_us": 300, "refractory": mode} for mode in ("drop", "suppress"))])
def test_negative_pictures_give_the_same_events_with_the_other_polarity(
    fields: dict[str, object], backend: str
) -> None:
    """Not with `hold`: there the reference is rounded, and rounding has a direction."""
    config = replace(IDEAL, log="identity", c_pos=0.09, c_neg=0.13, **fields)
    frames, t = video(dtype="uint8"), times(12)
    plain = run(frames, t, config, backend=backend)
    negative = run(255 - frames, t, replace(config, c_pos=0.13, c_neg=0.09), backend=backend)
    table = brightness_table(config, 256).astype(np.int64)
    assert (table + table[::-1] == ONE).all()
    flipped = columns(plain)
    flipped[3] = 1 - flipped[3]
    np.testing.assert_array_equal(columns(negative), flipped)
    assert len(plain) > 500


@pytest.mark.parametrize("fields", [{}, {"cutoff_hz": 100.0, "poles": 2, "leak_hz": 5.0, "shot_hz": 20.0}])
def test_eight_and_sixteen_bit_and_float_frames_are_one_scale(fields: dict[str, object], backend: str) -> None:
    config = SensorConfig(**fields)
    frames, t = video(dtype="uint8"), times(12)
    expected = columns(run(frames, t, config, backend=backend))
    wide = frames.astype(np.uint16) * 257
    for same in (wide, wide / 65535, (wide / 65535).astype(np.float32)):
        np.testing.assert_array_equal(columns(run(same, t, config, backend=backend)), expected)


def test_order_bounds_and_types(backend: str) -> None:
    frames, t = video(), times(12)
    sim = simulator(13, 21, SensorConfig(c_pos=0.02, c_neg=0.02), backend=backend)
    sim.push(frames[:1], t[:1])
    for k in range(1, 12):
        events = sim.push(frames[k : k + 1], t[k : k + 1])
        assert len(events) > 100
        assert t[k - 1] < events.t.min() <= events.t.max() <= t[k]
        raster = events.y.astype(np.int64) * 21 + events.x
        order = np.lexsort((raster, events.t))
        np.testing.assert_array_equal(order, np.arange(len(events)))
        Events.checked(events.x, events.y, events.t, events.p, events.sensor)
        assert (events.x.dtype, events.y.dtype, events.t.dtype, events.p.dtype) == ("u2", "u2", "i8", "u1")
        assert events.noise is None
    assert len(np.unique(events.t)) < len(events), "no ties: the test proves nothing about them"


def test_nothing_moves_nothing_fires(backend: str) -> None:
    rest = np.repeat(video(1), 5, axis=0)
    events = run(rest, np.arange(5), SensorConfig(cutoff_hz=10.0, refractory_us=3), backend=backend)
    assert len(events) == 0
    assert (events.t.dtype, events.x.dtype) == (np.int64, np.uint16)
    assert len(run(rest[:1], np.array([7]), SensorConfig(), backend=backend)) == 0
    assert len(run(rest[:0], np.array([], np.int64), SensorConfig(), backend=backend)) == 0


@pytest.mark.parametrize(
    "fields",
    [{}, {"refractory_us": 700, "cutoff_hz": 300.0, "leak_hz": 20.0, "shot_hz": 30.0}, {"tick_us": 7, "jitter_us": 30}],
)
def test_late_clocks_give_the_same_relative_times(fields: dict[str, object], backend: str) -> None:
    frames, config = video(), SensorConfig(**fields)
    expected = columns(run(frames, times(12), config, backend=backend))
    for start in (100_000 * 10**6, 1_790_000_000 * 10**6, -5 * 10**6):
        got = columns(run(frames, times(12, start), config, backend=backend))
        got[2] -= start
        np.testing.assert_array_equal(got, expected)


def test_thousands_of_events_of_a_pixel_in_one_interval(backend: str) -> None:
    """From a small buffer to a big one, and again with the buffers that have grown meanwhile."""
    config = replace(IDEAL, c_pos=0.01, c_neg=0.01, eps=1e-9)
    frames = np.zeros((4, 5, 7), np.uint16)
    frames[1::2] = 65535
    frames[1, 2, 3] = 0
    t = np.array([0, 4000, 4500, 10_000])
    sim = simulator(5, 7, config, backend=backend)
    events = sim.push(frames, t)
    per_pixel = np.zeros((5, 7), int)
    np.add.at(per_pixel, (events.y, events.x), 1)
    rise = brightness_table(config, 65536).astype(int)[[0, 65535]]
    per_step = int(rise[1] - rise[0]) // round(0.01 * ONE)
    assert per_step == 2072
    assert sorted(set(per_pixel.ravel().tolist())) == [per_step, 3 * per_step]
    one = (events.y == 0) & (events.x == 0)
    due = [-(-k * round(0.01 * ONE) * 4000 // int(rise[1] - rise[0])) for k in range(1, per_step + 1)]
    assert events.t[one][:per_step].tolist() == due
    sim.reset()
    np.testing.assert_array_equal(columns(sim.push(frames, t)), columns(events))


@pytest.mark.parametrize("refractory", ["hold", "drop", "suppress"])
def test_buffers_grow_without_losing_an_event_of_noise_or_refractory_time(refractory: str) -> None:
    config = SensorConfig(
        c_pos=0.01, c_neg=0.01, sigma=0, eps=1e-6, refractory_us=1, refractory=refractory, shot_hz=20_000, leak_hz=50
    )
    frames, t = video(4, 5, 7), times(4)
    steep = np.where(np.arange(4)[:, None, None] % 2, 65535, 0) * np.ones((1, 5, 7), np.uint16)
    fresh, grown = (simulator(5, 7, config) for _ in range(2))
    assert len(grown.push(steep.astype(np.uint16), np.arange(4) * 5_000)) > 35 * 1000
    grown.reset()
    events = fresh.push(frames, t)
    assert len(events) > 40 * 35
    assert 0 < events.noise.mean() < 1
    np.testing.assert_array_equal(columns(events), columns(grown.push(frames, t)))


def test_long_intervals_are_ordered_as_short_ones(backend: str) -> None:
    frames = video()
    long = run(frames, np.arange(12) * 2_000_000, SensorConfig(), backend=backend)
    order = np.lexsort((long.x, long.y, long.t))
    np.testing.assert_array_equal(order, np.arange(len(long)))
    short = run(frames, np.arange(12) * 2_000, SensorConfig(), backend=backend)
    for pixel in [(0, 0), (7, 20), (12, 11)]:
        mine, other = ((e.y == pixel[0]) & (e.x == pixel[1]) for e in (long, short))
        np.testing.assert_array_equal(-(-long.t[mine] // 1000), short.t[other])


def test_times_are_exact_where_floating_point_is_not(backend: str) -> None:
    """Crossings the smallest fraction of a microsecond after a whole one, minutes into an interval."""
    config = replace(IDEAL, eps=1e-9)
    frames = np.array([0, 65535], np.uint16)[:, None, None]
    rise = int(np.diff(brightness_table(config, 65536)[[0, 65535]].astype(np.int64))[0])
    for c in np.linspace(4.0, 10.0, 60).tolist():
        threshold = round(c * ONE)
        while math.gcd(threshold, rise) > 1:
            threshold += 1
        one_above = pow(threshold, -1, rise)  # threshold * duration is one more than a multiple of the rise
        duration = one_above + rise * ((2**30 - 1 - one_above) // rise)
        events = run(frames, [0, duration], replace(config, c_pos=threshold / ONE), backend=backend)
        due = [-(-k * threshold * duration // rise) for k in range(1, rise // threshold + 1)]
        assert events.t.tolist() == due


def test_waking_is_exact_where_floating_point_is_not(backend: str) -> None:
    """7/49 of a change of 7168 units is 1024, but 7 * 7168 * (1 / 49) is less in floating point."""
    config = replace(IDEAL, log="identity", refractory_us=40)
    frames = np.array([0, 40_000, 40_028], np.uint16)[:, None, None]
    sim = simulator(1, 1, config, backend=backend)
    assert sim.push(frames, np.array([0, 50, 99])).t.tolist() == [17]  # held until 57
    levels = brightness_table(config, 65536)[[40_000, 40_028]].tolist()
    assert levels[1] - levels[0] == 7168
    assert int(7168 * 7 * (1 / 49)) == 1023
    assert sim.state_dict()["reference"].tolist() == [[levels[0] + 1024]]


@pytest.mark.parametrize("duration", [500, 2_000_000])
def test_ties_are_in_raster_order_in_short_and_in_long_intervals(duration: int, backend: str) -> None:
    frames = np.array([0, 65535, 0], np.uint16)[:, None, None] * np.ones((1, 4, 5), np.uint16)
    events = run(frames, np.arange(3) * duration, replace(IDEAL, c_pos=0.3, c_neg=0.3), backend=backend)
    raster = events.y.astype(int) * 5 + events.x
    np.testing.assert_array_equal(raster, np.tile(np.arange(20), len(events) // 20))
    assert len(np.unique(events.t)) == len(events) // 20 == 2 * 23


def test_an_hour_does_not_drift() -> None:
    """18 000 frames, low-pass and leak: brightness, leak and events still add up to the last bit."""
    config = SensorConfig(c_pos=0.17, c_neg=0.13, leak_hz=1.0, cutoff_hz=2.0, poles=2, seed=6)
    period = video(100, 8, 8)
    sim = simulator(8, 8, config)
    c_pos, c_neg = threshold_maps(config, 8, 8, 0)
    total = np.zeros((8, 8), np.int64)
    num_events = 0
    for i in range(180):
        events = sim.push(period, (100 * i + np.arange(100)) * 200_000)
        total += sums_of_thresholds(events, c_pos, c_neg)
        num_events += len(events)
    assert num_events > 400_000
    elapsed = (18_000 - 1) * 200_000
    leaked = np.array([int(rate) * elapsed >> 18 for rate in leak_map(config, c_pos, 0).flat]).reshape(8, 8)
    assert leaked.min() > 2**31, "32 bits must have been passed"
    first, last = brightness_table(config, 65536)[period[0]].astype(np.int64), sim.state_dict()["level"][-1]
    residual = last - first + initial_distance(config, c_pos, c_neg, 0) + leaked - total
    assert (residual > -c_neg).all()
    assert (residual < c_pos).all()


def test_brightness_lost_to_leak_may_pass_32_bits() -> None:
    """At 5 Hz a pixel's reference has gone 128 nat, all that 32 bits hold, after two minutes."""
    config = replace(IDEAL, leak_hz=5.0, leak_spread=0.0)
    frames = still(0.5, 61, 2, 2)
    events = simulate(frames, np.arange(61) * 10_000_000, config)
    assert abs(len(events) / 4 - 3000) <= 1
    assert events.p.all()
    gaps = np.diff(events.t[(events.x == 0) & (events.y == 0)])
    assert abs(gaps - 200_000).max() <= 2


@pytest.mark.parametrize(
    ("frames", "t", "message"),
    [
        (np.zeros((2, 4, 5), np.uint8), [3, 3], "increase, got 3 us after 3 us"),
        (np.zeros((2, 4, 5), np.uint8), [0, 2**31], "expected at most 1073741823 us"),
        (np.zeros((2, 4, 5), np.uint8), [0.0, 0.1], "integer microseconds, got float64"),
        (np.zeros((2, 4, 5), np.uint8), [0], "one time for each of 2 frames"),
        (np.zeros((2, 5, 4), np.uint8), [0, 1], r"frames \(F, 4, 5\), got shape \(2, 5, 4\)"),
        (np.zeros((4, 5), np.uint8), [0, 1], r"got shape \(4, 5\)"),
        (np.zeros((2, 4, 5), np.int32), [0, 1], "uint8, uint16 or float frames, got int32"),
        (np.full((2, 4, 5), np.nan), [0, 1], "without NaN, got values from nan"),
        (np.full((2, 4, 5), 1.5, np.float32), [0, 1], r"in \[0, 1\]"),
    ],
)
def test_bad_frames_and_times_are_named(frames: np.ndarray, t: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulator(4, 5, SensorConfig()).push(frames, np.array(t))


def test_time_must_also_increase_from_call_to_call() -> None:
    sim = simulator(4, 5, SensorConfig())
    sim.push(np.zeros((1, 4, 5), np.uint8), np.array([10]))
    with pytest.raises(ValueError, match="got 9 us after 10 us"):
        sim.push(np.zeros((1, 4, 5), np.uint8), np.array([9]))


def test_frames_are_of_one_kind_from_call_to_call() -> None:
    sim = simulator(4, 5, SensorConfig())
    sim.push(np.zeros((1, 4, 5), np.uint8), np.array([10]))
    with pytest.raises(ValueError, match="expected uint8 frames as before, got uint16"):
        sim.push(np.zeros((1, 4, 5), np.uint16), np.array([20]))


def test_a_refused_call_changes_nothing() -> None:
    frames, t = video(), times(12)
    sim = simulator(13, 21, SensorConfig(shot_hz=20.0, cutoff_hz=100.0))
    with pytest.raises(ValueError, match="increase"):
        sim.push(np.zeros((2, 13, 21), np.uint8), np.array([5, 5]))
    parts = [sim.push(frames[:6], t[:6])]
    for bad_frames, bad_t in ((frames[6:8], t[6:8][::-1]), (frames[6:8, :5], t[6:8]), (frames[6:8], t[6:7])):
        with pytest.raises(ValueError, match="expected"):
            sim.push(bad_frames, bad_t)
    parts.append(sim.push(frames[6:], t[6:]))
    np.testing.assert_array_equal(joined(parts), columns(run(frames, t, sim.config)))


@pytest.mark.parametrize(
    ("grid", "t_range", "message"),
    [
        (np.zeros((5, 4, 4), np.float32), (0, 10), r"float32 grid \(B, 4, 5\), got float32 \(5, 4, 4\)"),
        (np.zeros((5, 4, 5)), (0, 10), "got float64"),
        (np.zeros((0, 4, 5), np.float32), (0, 10), r"got float32 \(0, 4, 5\)"),
        (np.zeros((5, 4, 5), np.float32), (10, 10), "t0 < t1"),
        (np.zeros((5, 4, 5), np.float32), (0.5, 10.5), "whole microseconds"),
    ],
)
def test_bad_grids_and_windows_are_named(grid: np.ndarray, t_range: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulator(4, 5, SensorConfig()).add_to_voxel(np.zeros((2, 4, 5)), np.array([0, 1]), grid, t_range)


def test_unknown_backends_are_named() -> None:
    with pytest.raises(ValueError, match="'numba' or 'torch', got 'jax'"):
        simulator(4, 5, SensorConfig(), backend="jax")


def test_the_name_of_a_preset_is_no_sensor() -> None:
    with pytest.raises(ValueError, match=r"expected a SensorConfig.*got 'noisy'"):
        simulator(4, 5, "noisy")  # type: ignore[arg-type]


def test_leak_bounds_the_time_between_frames() -> None:
    """A leak so strong that brightness would pass 32 bits within one interval is refused, not wrapped around."""
    config = replace(IDEAL, leak_hz=1000.0, c_pos=1.0)
    with pytest.raises(ValueError, match=r"at most \d+ us between two frames"):
        run(still(0.5, 2, 2, 2), [0, 1_000_000], config)
    assert len(run(still(0.5, 2, 2, 2), [0, 20_000], config)) > 0


def test_half_precision_frames_keep_their_values(backend: str) -> None:
    half = (video(6, 5, 7) / 65535).astype(np.float16)
    t = np.arange(6) * 1000
    expected = columns(run(half.astype(np.float32), t, SensorConfig(), backend=backend))
    np.testing.assert_array_equal(columns(run(half, t, SensorConfig(), backend=backend)), expected)
