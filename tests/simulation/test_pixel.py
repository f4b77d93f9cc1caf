"""The change detector against closed forms, and against itself in other chunks, times and numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from eventfm.events import Events
from eventfm.simulation.pixel import EventSimulator, simulate, simulate_voxel
from eventfm.simulation.sensor import FRACTION_BITS, SensorConfig, brightness_table, initial_distance, threshold_maps

IDEAL = SensorConfig.preset("esim")
ONE = 1 << FRACTION_BITS


def video(num_frames: int = 12, height: int = 13, width: int = 21, dtype: str = "uint16", seed: int = 3) -> np.ndarray:
    """Return a random walk over grey levels, so that most pixels fire several times, also twice in an interval."""
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.normal(0, 0.12, (num_frames, height, width)), axis=0) + rng.uniform(0, 1, (height, width))
    folded = np.abs((walk % 2) - 1)
    return folded.astype(np.float32) if dtype == "float32" else np.rint(folded * np.iinfo(dtype).max).astype(dtype)


def times(num_frames: int, start: int = 0, seed: int = 4) -> np.ndarray:
    return start + np.cumsum(np.random.default_rng(seed).integers(300, 3000, num_frames))


def columns(events: Events) -> np.ndarray:
    return np.stack([events.x, events.y, events.t, events.p]).astype(np.int64)


def sums_of_thresholds(events: Events, config: SensorConfig, height: int, width: int) -> np.ndarray:
    c_pos, c_neg = threshold_maps(config, height, width, 0)
    total = np.zeros((height, width), np.int64)
    step = np.where(events.p == 1, c_pos[events.y, events.x].astype(np.int64), -c_neg[events.y, events.x])
    np.add.at(total, (events.y, events.x), step)
    return total


@pytest.mark.parametrize("duration", [7, 1000, 33_333, 5_000_000])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("level", [0.0, 0.2])
def test_ramp_gives_the_closed_form_count_and_times(duration: int, dtype: str, level: float) -> None:
    config = replace(IDEAL, c_pos=0.07, c_neg=0.05, log="identity")
    scale = {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
    low = np.full(40, level)
    high = np.linspace(level, 1.0, 40)
    both = np.stack([np.concatenate([low, high]), np.concatenate([high, low])])[:, None]
    frames = (both if dtype == "float32" else np.rint(both * scale)).astype(dtype)
    events = simulate(frames, np.array([500, 500 + duration]), config)
    table = brightness_table(config, 256 if dtype == "uint8" else 65536).astype(int)
    codes = np.rint(both * (255 if dtype == "uint8" else 65535)).astype(int)
    thresholds = {1: round(0.07 * ONE), 0: round(0.05 * ONE)}
    for x in range(80):
        rise = int(table[codes[1, 0, x]]) - int(table[codes[0, 0, x]])
        polarity = int(rise > 0)
        count = abs(rise) // thresholds[polarity]
        due = [500 - (-k * thresholds[polarity] * duration // abs(rise)) for k in range(1, count + 1)]
        mine = events.x == x
        assert events.t[mine].tolist() == due
        assert set(events.p[mine].tolist()) <= {polarity}
    assert len(events) > 300


@pytest.mark.parametrize("parts", [2, 7, 100])
def test_cutting_a_ramp_into_frames_changes_nothing(parts: int) -> None:
    config = replace(IDEAL, log="identity", c_pos=0.013, c_neg=0.017)
    ramp = np.array([[63000, 0, 12600, 63000]], np.uint16)
    other = np.array([[0, 63000, 37800, 12600]], np.uint16)
    whole = simulate(np.stack([ramp, other]), np.array([0, 70_000]), config)
    steps = np.arange(parts + 1)[:, None, None]
    frames = (ramp + steps * (other.astype(np.int64) - ramp) // parts).astype(np.uint16)
    cut = simulate(frames, np.arange(parts + 1) * 70_000 // parts, config)
    for x in range(4):
        expected, got = whole.t[whole.x == x], cut.t[cut.x == x]
        assert len(got) == len(expected) > 20
        # the table rounds the levels in between, which may carry a crossing over the edge of a microsecond
        assert np.abs(got - expected).max() <= 1


@pytest.mark.parametrize("log", ["log", "linlog", "identity"])
@pytest.mark.parametrize("init", ["zero", "uniform"])
def test_events_reconstruct_the_brightness_of_every_pixel_at_every_frame(log: str, init: str) -> None:
    config = SensorConfig(c_pos=0.15, c_neg=0.11, sigma=0.03, log=log, init=init, gamma="srgb", seed=9)
    frames, t = video(20), times(20)
    events = simulate(frames, t, config)
    c_pos, c_neg = threshold_maps(config, 13, 21, 0)
    start = initial_distance(config, c_pos, c_neg, 0)
    table = brightness_table(config, 65536).astype(np.int64)
    assert len(events) > 2000
    for k in range(20):
        so_far = events.between(int(t[0]), int(t[k]) + 1)
        residual = table[frames[k]] - table[frames[0]] + start - sums_of_thresholds(so_far, config, 13, 21)
        assert (residual > -c_neg).all()
        assert (residual < c_pos).all()


def test_negative_pictures_give_the_same_events_with_the_other_polarity() -> None:
    config = replace(IDEAL, log="identity", c_pos=0.09, c_neg=0.13)
    frames, t = video(dtype="uint8"), times(12)
    plain = simulate(frames, t, config)
    negative = simulate(255 - frames, t, replace(config, c_pos=0.13, c_neg=0.09))
    table = brightness_table(config, 256).astype(np.int64)
    assert (table + table[::-1] == ONE).all()
    flipped = columns(plain)
    flipped[3] = 1 - flipped[3]
    np.testing.assert_array_equal(columns(negative), flipped)


@pytest.mark.parametrize("cuts", [[1], [5], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [0, 3, 3, 11]])
def test_any_chunks_give_the_same_bits(cuts: list[int]) -> None:
    frames, t = video(), times(12)
    config = SensorConfig(seed=2)
    whole = simulate(frames, t, config)
    simulator = EventSimulator(13, 21, config)
    parts = [simulator.push(f, s) for f, s in zip(np.split(frames, cuts), np.split(t, cuts), strict=True)]
    np.testing.assert_array_equal(np.concatenate([columns(part) for part in parts], axis=1), columns(whole))
    assert parts[-1].window is not None
    assert parts[-1].window[1] == t[-1] + 1


def test_a_saved_state_goes_on_as_if_nothing_had_happened() -> None:
    frames, t = video(), times(12)
    simulator = EventSimulator(13, 21, SensorConfig(), clip_id=5)
    first = simulator.push(frames[:6], t[:6])
    state = simulator.state_dict()
    rest = simulator.push(frames[6:], t[6:])
    other = EventSimulator(13, 21, SensorConfig(), clip_id=5)
    other.load_state_dict(state)
    np.testing.assert_array_equal(columns(other.push(frames[6:], t[6:])), columns(rest))
    simulator.reset()
    again = simulator.push(frames[:6], t[:6])
    np.testing.assert_array_equal(columns(again), columns(first))
    with pytest.raises(ValueError, match="clip_id 4, got 5"):
        EventSimulator(13, 21, SensorConfig(), clip_id=4).load_state_dict(state)


def test_a_state_that_does_not_fit_its_frames_keeps_times_inside_the_interval() -> None:
    frames, t = video(), times(12)
    simulator = EventSimulator(13, 21, SensorConfig())
    simulator.push(frames[:6], t[:6])
    state = simulator.state_dict()
    with pytest.raises(ValueError, match=r"reference of shape \(13, 21\), got \(3,\)"):
        simulator.load_state_dict({**state, "reference": state["reference"][0, :3]})
    simulator.load_state_dict({**state, "frame": frames[0]})
    events = simulator.push(frames[6:7], t[6:7])
    assert t[5] < events.t.min() <= events.t.max() <= t[6]


def test_the_frames_may_be_overwritten_after_a_push() -> None:
    frames, t = video(), times(12)
    expected = simulate(frames, t, SensorConfig())
    simulator = EventSimulator(13, 21, SensorConfig())
    buffer = frames[:6].copy()
    first = simulator.push(buffer, t[:6])
    buffer[:] = frames[6:]
    second = simulator.push(buffer, t[6:])
    np.testing.assert_array_equal(np.concatenate([columns(first), columns(second)], axis=1), columns(expected))


def test_eight_and_sixteen_bit_frames_are_one_scale() -> None:
    frames, t = video(dtype="uint8"), times(12)
    expected = columns(simulate(frames, t, SensorConfig()))
    wide = frames.astype(np.uint16) * 257
    np.testing.assert_array_equal(columns(simulate(wide, t, SensorConfig())), expected)
    np.testing.assert_array_equal(columns(simulate(wide / 65535, t, SensorConfig())), expected)
    simulator = EventSimulator(13, 21, SensorConfig())
    mixed = [simulator.push(frames[:5], t[:5]), simulator.push(wide[5:], t[5:])]
    np.testing.assert_array_equal(np.concatenate([columns(part) for part in mixed], axis=1), expected)


def test_order_bounds_and_types() -> None:
    frames, t = video(), times(12)
    simulator = EventSimulator(13, 21, SensorConfig(c_pos=0.02, c_neg=0.02))
    simulator.push(frames[:1], t[:1])
    for k in range(1, 12):
        events = simulator.push(frames[k : k + 1], t[k : k + 1])
        assert len(events) > 100
        assert t[k - 1] < events.t.min() <= events.t.max() <= t[k]
        raster = events.y.astype(np.int64) * 21 + events.x
        order = np.lexsort((raster, events.t))
        np.testing.assert_array_equal(order, np.arange(len(events)))
        Events.checked(events.x, events.y, events.t, events.p, events.sensor)
        assert (events.x.dtype, events.y.dtype, events.t.dtype, events.p.dtype) == ("u2", "u2", "i8", "u1")
    assert len(np.unique(events.t)) < len(events), "no ties: the test proves nothing about them"


def test_nothing_moves_nothing_fires() -> None:
    still = np.repeat(video(1), 5, axis=0)
    events = simulate(still, np.arange(5), SensorConfig())
    assert len(events) == 0
    assert (events.t.dtype, events.x.dtype) == (np.int64, np.uint16)
    assert len(simulate(still[:1], np.array([7]), SensorConfig())) == 0
    assert len(simulate(still[:0], np.array([], np.int64), SensorConfig())) == 0


def test_late_clocks_give_the_same_relative_times() -> None:
    frames = video()
    expected = columns(simulate(frames, times(12), SensorConfig()))
    for start in (100_000 * 10**6, 1_790_000_000 * 10**6, -5 * 10**6):
        got = columns(simulate(frames, times(12, start), SensorConfig()))
        got[2] -= start
        np.testing.assert_array_equal(got, expected)


def test_buffers_grow_without_losing_an_event() -> None:
    frames, t = video(), times(12)
    config = SensorConfig(c_pos=0.01, c_neg=0.01, sigma=0)
    simulator = EventSimulator(13, 21, config)
    assert len(simulator._keys) < 100
    events = simulator.push(frames, t)
    assert len(events) / 11 > 13 * 21
    roomy = EventSimulator(13, 21, config)
    roomy._keys = np.empty(10**6, np.uint64)
    np.testing.assert_array_equal(columns(events), columns(roomy.push(frames, t)))


def test_long_intervals_are_ordered_as_short_ones() -> None:
    frames = video()
    long = simulate(frames, np.arange(12) * 2_000_000, SensorConfig())
    order = np.lexsort((long.x, long.y, long.t))
    np.testing.assert_array_equal(order, np.arange(len(long)))
    short = simulate(frames, np.arange(12) * 2_000, SensorConfig())
    for pixel in [(0, 0), (7, 20), (12, 11)]:
        mine, other = ((e.y == pixel[0]) & (e.x == pixel[1]) for e in (long, short))
        np.testing.assert_array_equal(-(-long.t[mine] // 1000), short.t[other])


@pytest.mark.parametrize("num_bins", [1, 2, 5])
def test_direct_voxel_equals_the_grid_of_the_events(num_bins: int) -> None:
    frames, t = video(), times(12)
    config = SensorConfig(c_pos=0.05, c_neg=0.05)
    events = simulate(frames, t, config, clip_id=3)
    for start, stop in [(int(t[0]) + 1, int(t[-1]) + 1), (int(t[2]) + 77, int(t[7]) - 5), (int(t[3]), int(t[3]) + 1)]:
        expected = np.zeros((num_bins, 13, 21), np.float32)
        window = events.between(start, stop)
        for x, y, when, p in zip(window.x, window.y, window.t.tolist(), window.p, strict=True):
            length = max(stop - 1 - start, 1)
            low, rest = divmod((num_bins - 1) * (when - start), length)
            sign = np.float32(1 if p else -1)
            fraction = np.float32(rest) / np.float32(length)
            expected[low, y, x] += sign - sign * fraction
            if low + 1 < num_bins:
                expected[low + 1, y, x] += sign * fraction
        got = simulate_voxel(frames, t, config, num_bins, (start, stop), clip_id=3)
        np.testing.assert_array_equal(got, expected)
        assert stop == start + 1 or np.count_nonzero(got) > 100


def test_clips_and_seeds_have_their_own_maps() -> None:
    maps = [threshold_maps(SensorConfig(seed=seed), 60, 80, clip) for seed, clip in [(0, 0), (0, 1), (1, 0)]]
    again = threshold_maps(SensorConfig(), 60, 80, 0)
    np.testing.assert_array_equal(maps[0], again)
    for on, off in maps:
        assert abs(on.mean() / ONE - 0.2) < 5 * 0.03 / np.sqrt(4800)
        assert abs(on.std() / ONE / 0.03 - 1) < 5 / np.sqrt(2 * 4800)
        assert abs(np.corrcoef(on.ravel(), off.ravel())[0, 1]) < 5 / np.sqrt(4800)
    assert not np.array_equal(maps[0][0], maps[1][0])
    assert not np.array_equal(maps[0][0], maps[2][0])
    wide, _ = threshold_maps(SensorConfig(sigma=0.5), 60, 80, 0)
    assert wide.min() == round(0.01 * ONE)


def test_uniform_start_fills_the_room_between_the_thresholds() -> None:
    config = SensorConfig(c_pos=0.1, c_neg=0.3, sigma=0)
    c_pos, c_neg = threshold_maps(config, 100, 100, 0)
    distance = initial_distance(config, c_pos, c_neg, 0)
    assert distance.min() > -c_neg.min()
    assert distance.max() < c_pos.max()
    assert abs(distance.mean() / ONE + 0.1) < 5 * 0.4 / np.sqrt(12 * 10_000)
    assert abs(distance.std() / ONE / (0.4 / np.sqrt(12)) - 1) < 0.03


@pytest.mark.parametrize("u", [0.0, 1 - 2.0**-53])
def test_no_pixel_starts_on_a_threshold(u: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventfm.simulation.sensor.uniforms", lambda *key: np.full(key[-1], u))
    c_pos, c_neg = np.full((2, 2), 100, np.int32), np.full((2, 2), 70, np.int32)
    assert (initial_distance(SensorConfig(), c_pos, c_neg, 0) == (99 if u else -69)).all()


def test_response_curves() -> None:
    light = np.arange(65536) / 65535
    np.testing.assert_allclose(brightness_table(IDEAL, 65536) / ONE, np.log(light + 1e-3), atol=1e-7)
    linlog = brightness_table(replace(IDEAL, log="linlog"), 65536) / ONE
    knee = int(np.ceil(65535 * 20 / 255))
    np.testing.assert_allclose(linlog[knee:], np.log(light[knee:]), atol=1e-7)
    slopes = np.diff(linlog[: knee + 2])
    assert np.ptp(slopes) < 2e-7, "straight in the dark and no kink at the knee"
    squared = brightness_table(replace(IDEAL, gamma=2.0, log="identity"), 256) / ONE
    np.testing.assert_allclose(squared, (np.arange(256) / 255) ** 2, atol=1e-7)
    srgb = brightness_table(replace(IDEAL, gamma="srgb", log="identity"), 256) / ONE
    assert abs(srgb[188] - 0.5029) < 1e-4


@pytest.mark.parametrize(
    ("frames", "t", "message"),
    [
        (np.zeros((2, 4, 5), np.uint8), [3, 3], "increase, got 3 us after 3 us"),
        (np.zeros((2, 4, 5), np.uint8), [0, 2**31], "at most 2147483647 us"),
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
        EventSimulator(4, 5, SensorConfig()).push(frames, np.array(t))


def test_time_must_also_increase_from_call_to_call() -> None:
    simulator = EventSimulator(4, 5, SensorConfig())
    simulator.push(np.zeros((1, 4, 5), np.uint8), np.array([10]))
    with pytest.raises(ValueError, match="got 9 us after 10 us"):
        simulator.push(np.zeros((1, 4, 5), np.uint8), np.array([9]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"c_pos": 0.0}, "c_pos in"),
        ({"c_neg": float("nan")}, "c_neg in"),
        ({"sigma": -0.1}, "sigma in"),
        ({"eps": 0.0}, "eps in"),
        ({"gamma": "rec709"}, "gamma to be"),
        ({"gamma": 0.0}, "gamma in"),
        ({"init": "random"}, "init to be"),
        ({"log": "log10"}, "log to be"),
    ],
)
def test_bad_sensors_are_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SensorConfig(**fields)


def test_presets() -> None:
    assert SensorConfig.preset("esim").sigma == 0
    assert SensorConfig.preset("clean") == SensorConfig(sigma=0.02)
    with pytest.raises(ValueError, match="did you mean 'clean'"):
        SensorConfig.preset("claen")
