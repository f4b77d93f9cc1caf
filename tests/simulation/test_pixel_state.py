"""Chunks, saved states, threads and direct grids: every way through the simulator gives the same bits."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from pixel_clips import columns, joined, run, simulator, times, video

from eventfm.events import Events
from eventfm.representations import VoxelGrid
from eventfm.simulation.pixel import simulate, simulate_voxel
from eventfm.simulation.sensor import SensorConfig

EVERYTHING = SensorConfig(
    c_pos=0.15,
    c_neg=0.12,
    gamma="srgb",
    refractory_us=400,
    cutoff_hz=300.0,
    poles=2,
    leak_hz=20.0,
    leak_spread=0.2,
    shot_hz=30.0,
    hot_fraction=0.02,
    hot_hz=500.0,
    dead_fraction=0.02,
    seed=2,
)
READ_OUT = {"latency_us": 700, "jitter_us": 900, "tick_us": 4, "max_rate_hz": 60_000.0}
SENSORS = {
    "clean": SensorConfig(seed=2),
    "lowpass": SensorConfig(cutoff_hz=100.0, seed=2),
    "noise": SensorConfig(shot_hz=50.0, hot_fraction=0.05, noise_resets=False),
    "hold": EVERYTHING,
    "drop": replace(EVERYTHING, refractory="drop", poles=1),
    "suppress": replace(EVERYTHING, refractory="suppress"),
    "read out": replace(EVERYTHING, **READ_OUT),
}
sensors = pytest.mark.parametrize("config", SENSORS.values(), ids=SENSORS.keys())


@sensors
@pytest.mark.parametrize("cuts", [[1], [5], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [0, 3, 3, 11]])
def test_any_chunks_give_the_same_bits(cuts: list[int], config: SensorConfig, backend: str) -> None:
    frames, t = video(), times(12)
    whole = run(frames, t, config, backend=backend)
    assert len(whole) > 800
    sim = simulator(13, 21, config, backend=backend)
    parts = [sim.push(f, s) for f, s in zip(np.split(frames, cuts), np.split(t, cuts), strict=True)]
    np.testing.assert_array_equal(joined(parts), columns(whole))
    assert parts[-1].window is not None
    assert parts[-1].window[1] == t[-1] + 1


@sensors
@pytest.mark.parametrize("at", [1, 6])
def test_a_saved_state_goes_on_as_if_nothing_had_happened(config: SensorConfig, at: int, backend: str) -> None:
    frames, t = video(), times(12)
    sim = simulator(13, 21, config, 5, backend)
    first = sim.push(frames[:at], t[:at])
    state = sim.state_dict()
    kept = copy.deepcopy(state)
    rest = sim.push(frames[at:], t[at:])
    assert len(rest) > 500
    assert_same(state, kept)  # a state is a copy: the simulator that goes on does not write to it
    other = simulator(13, 21, config, 5, backend)
    other.push(frames[3:6], t[3:6])
    other.load_state_dict(state)
    np.testing.assert_array_equal(columns(other.push(frames[at:], t[at:])), columns(rest))
    assert_same(state, kept)
    assert_same(other.state_dict(), sim.state_dict())
    sim.reset()
    np.testing.assert_array_equal(columns(sim.push(frames[:at], t[:at])), columns(first))
    other.load_state_dict(simulator(13, 21, config, 5, backend).state_dict())
    np.testing.assert_array_equal(columns(other.push(frames, t)), joined([first, rest]))


def assert_same(one: object, other: object) -> None:
    """Compare nested states: mappings and sequences of plain values and arrays."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for mine, its in zip(one, other, strict=True):
            assert_same(mine, its)
    else:
        np.testing.assert_array_equal(one, other)


@sensors
def test_every_backend_gives_the_same_bits_and_takes_over_from_another(config: SensorConfig, backend: str) -> None:
    frames, t = video(), times(12)
    reference, other = simulator(13, 21, config), simulator(13, 21, config, backend=backend)
    first = reference.push(frames[:6], t[:6])
    np.testing.assert_array_equal(columns(other.push(frames[:6], t[:6])), columns(first))
    assert_same(other.state_dict(), reference.state_dict())
    fresh = simulator(13, 21, config, backend=backend)
    fresh.load_state_dict(reference.state_dict())
    rest = reference.push(frames[6:], t[6:])
    np.testing.assert_array_equal(columns(fresh.push(frames[6:], t[6:])), columns(rest))
    assert_same(fresh.state_dict(), reference.state_dict())


def test_a_state_holds_no_code() -> None:
    """So that it can be written into a checkpoint."""

    def check(value: object) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                assert isinstance(key, str)
                check(inner)
        elif isinstance(value, (list, tuple)):
            for inner in value:
                check(inner)
        else:
            assert value is None or isinstance(value, (int, float, str, bool, np.ndarray)), type(value)

    sim = simulator(13, 21, SENSORS["read out"])
    check(sim.state_dict())
    sim.push(video(), times(12))
    check(sim.state_dict())


def test_states_of_other_simulators_are_refused() -> None:
    sim = simulator(13, 21, SensorConfig(), 5)
    sim.push(video(), times(12))
    state = sim.state_dict()
    with pytest.raises(ValueError, match="clip_id 4, got 5"):
        simulator(13, 21, SensorConfig(), 4).load_state_dict(state)
    with pytest.raises(ValueError, match=r"size \(21, 13\), got \(13, 21\)"):
        simulator(21, 13, SensorConfig(), 5).load_state_dict(state)
    with pytest.raises(ValueError, match="config"):
        simulator(13, 21, SensorConfig(leak_hz=1.0), 5).load_state_dict(state)
    with pytest.raises(ValueError, match=r"reference of shape \(13, 21\), got \(3,\)"):
        sim.load_state_dict({**state, "reference": state["reference"][0, :3]})
    assert_same(sim.state_dict(), state)  # and what was there is still there


@pytest.mark.parametrize("name", ["clean", "hold", "drop", "suppress"])
def test_a_state_that_does_not_fit_its_frames_keeps_times_inside_the_interval(name: str, backend: str) -> None:
    frames, t = video(), times(12)
    sim = simulator(13, 21, SENSORS[name], backend=backend)
    sim.push(frames[:6], t[:6])
    sim.load_state_dict({**sim.state_dict(), "frame": frames[0]})
    events = sim.push(frames[6:7], t[6:7])
    assert t[5] < events.t.min() <= events.t.max() <= t[6]


def test_the_frames_may_be_overwritten_after_a_push(backend: str) -> None:
    frames, t = video(), times(12)
    expected = run(frames, t, EVERYTHING, backend=backend)
    sim = simulator(13, 21, EVERYTHING, backend=backend)
    buffer = frames[:6].copy()
    first = sim.push(buffer, t[:6])
    buffer[:] = frames[6:]
    second = sim.push(buffer, t[6:])
    np.testing.assert_array_equal(joined([first, second]), columns(expected))


def test_events_of_a_push_are_not_overwritten_by_the_next(backend: str) -> None:
    frames, t = video(), times(12)
    sim = simulator(13, 21, EVERYTHING, backend=backend)
    first = sim.push(frames[:6], t[:6])
    before = columns(first)
    sim.push(frames[6:], t[6:])
    np.testing.assert_array_equal(columns(first), before)


def test_clips_do_not_disturb_each_other_in_threads_or_in_turns() -> None:
    frames, t = video(40), times(40)
    expected = [columns(simulate(frames, t, EVERYTHING, clip)) for clip in range(4)]
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(lambda clip: columns(simulate(frames, t, EVERYTHING, clip)), range(4)))
    sims = [simulator(13, 21, EVERYTHING, clip) for clip in range(4)]
    turns = [[sim.push(frames[k : k + 8], t[k : k + 8]) for sim in sims] for k in range(0, 40, 8)]
    for clip in range(4):
        np.testing.assert_array_equal(threaded[clip], expected[clip])
        np.testing.assert_array_equal(joined([parts[clip] for parts in turns]), expected[clip])
        assert clip == 0 or expected[clip].shape != expected[0].shape


def windows(t: np.ndarray) -> list[tuple[int, int]]:
    return [(int(t[0]) + 1, int(t[-1]) + 1), (int(t[2]) + 77, int(t[7]) - 5), (int(t[3]), int(t[3]) + 1)]


@pytest.mark.parametrize("num_bins", [1, 2, 5])
@pytest.mark.parametrize("name", [name for name in SENSORS if name != "read out"])
def test_direct_voxels_equal_the_grid_of_the_events(num_bins: int, name: str, backend: str) -> None:
    frames, t, config = video(), times(12), SENSORS[name]
    events = run(frames, t, config, 3, backend)
    for start, stop in windows(t):
        expected = VoxelGrid(num_bins, span="window")(events.between(start, stop)).numpy()
        sim = simulator(13, 21, config, 3, backend)
        got = np.zeros((num_bins, 13, 21), np.float32)
        for chunk in np.split(np.arange(12), [1, 5]):
            sim.add_to_voxel(frames[chunk], t[chunk], got, (start, stop))
        np.testing.assert_array_equal(got, expected)
        np.testing.assert_array_equal(simulate_voxel(frames, t, config, num_bins, (start, stop), clip_id=3), expected)
        assert stop == start + 1 or np.count_nonzero(got) > 100
    events_too = sim.push(frames[-1:] // 2, t[-1:] + 1000)
    assert len(events_too) > 0
    after = simulator(13, 21, config, 3, backend)
    after.push(frames, t)
    np.testing.assert_array_equal(columns(after.push(frames[-1:] // 2, t[-1:] + 1000)), columns(events_too))


@pytest.mark.parametrize("num_bins", [1, 2, 5])
def test_direct_voxels_follow_the_formula(num_bins: int) -> None:
    frames, t, config = video(), times(12), SensorConfig(c_pos=0.05, c_neg=0.05)
    events = simulate(frames, t, config, clip_id=3)
    for start, stop in windows(t):
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


def test_a_readout_needs_the_list_of_events() -> None:
    frames, t = video(), times(12)
    with pytest.raises(ValueError, match="without latency, jitter, tick or rate limit"):
        simulate_voxel(frames, t, SENSORS["read out"], 5, (0, 10_000))


def test_simulate_is_one_push_of_a_fresh_simulator() -> None:
    frames, t = video(), times(12)
    events = simulate(frames, t, EVERYTHING, clip_id=7)
    assert isinstance(events, Events)
    np.testing.assert_array_equal(columns(events), columns(run(frames, t, EVERYTHING, 7)))
    assert events.window == (t[0] + 1, t[-1] + 1)
