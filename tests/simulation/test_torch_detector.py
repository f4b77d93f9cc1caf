"""The torch path against the compiled one: the same events, states and grids to the last bit."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pixel_clips import columns, times, video

from eventfm.events import Events
from eventfm.random import generator
from eventfm.simulation import batch
from eventfm.simulation.batch import add_in_order, simulate_batch, simulate_voxel_batch
from eventfm.simulation.pixel import EventSimulator, simulate, simulate_voxel
from eventfm.simulation.sensor import SensorConfig

SIZE = (3, 5)
SENSORS = {
    "clean": SensorConfig(),
    "uneven": SensorConfig(c_pos=0.06, c_neg=0.3, sigma=0.02, gamma="srgb", seed=2),
    "leak": SensorConfig(leak_hz=40.0, leak_spread=0.5, sigma=0.1, dead_fraction=0.1),
    "shot": SensorConfig(shot_hz=300.0, log="linlog", gamma="srgb", hot_fraction=0.03, hot_hz=500.0, seed=3),
    "overlaid": SensorConfig(shot_hz=300.0, noise_resets=False, dead_fraction=0.2),
    "hold": SensorConfig(refractory_us=700, c_pos=0.1, c_neg=0.07),
    "drop": SensorConfig(refractory_us=400, refractory="drop", c_pos=0.05, shot_hz=100.0, init="zero"),
    "suppress": SensorConfig(refractory_us=2500, refractory="suppress", leak_hz=5.0, cutoff_hz=90.0),
    "slow": SensorConfig(cutoff_hz=40.0, c_pos=0.05, c_neg=0.05),
    "slower": SensorConfig(cutoff_hz=60.0, poles=2, c_pos=0.03, c_neg=0.03, log="identity"),
    "everything": replace(SensorConfig.preset("noisy"), poles=2, leak_hz=9.0, shot_hz=90.0, hot_fraction=0.02, seed=5),
}

sensors = st.builds(
    SensorConfig,
    c_pos=st.sampled_from([0.02, 0.2, 0.7]),
    c_neg=st.sampled_from([0.03, 0.2]),
    sigma=st.sampled_from([0.0, 0.05]),
    init=st.sampled_from(["zero", "uniform"]),
    log=st.sampled_from(["log", "linlog", "linlog_v2e", "identity"]),
    refractory_us=st.sampled_from([0, 0, 1, 60, 1700]),
    refractory=st.sampled_from(["hold", "drop", "suppress"]),
    cutoff_hz=st.sampled_from([None, None, 20.0, 700.0]),
    poles=st.sampled_from([1, 2]),
    leak_hz=st.sampled_from([0.0, 0.0, 3.0, 800.0]),
    shot_hz=st.sampled_from([0.0, 0.0, 100.0, 5000.0]),
    hot_fraction=st.sampled_from([0.0, 0.2]),
    hot_hz=st.just(2000.0),
    dead_fraction=st.sampled_from([0.0, 0.2]),
    noise_resets=st.booleans(),
    seed=st.integers(0, 3),
)
values = st.sampled_from([0, 1, 500, 9000, 30_000, 65_534, 65_535]) | st.integers(0, 65_535)


def assert_same(mine: Any, theirs: Any) -> None:
    """Compare nested states: types, dtypes, shapes and values."""
    assert type(mine) is type(theirs)
    if isinstance(mine, dict):
        assert mine.keys() == theirs.keys()
        for key in mine:
            assert_same(mine[key], theirs[key])
    elif isinstance(mine, np.ndarray):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)
    else:
        assert mine == theirs


def assert_same_events(mine: Events, theirs: Events) -> None:
    np.testing.assert_array_equal(columns(mine), columns(theirs))
    assert (mine.noise is None) == (theirs.noise is None)
    assert (mine.window, mine.sensor) == (theirs.window, theirs.sensor)
    assert [getattr(mine, name).dtype for name in "xytp"] == [getattr(theirs, name).dtype for name in "xytp"]


@settings(max_examples=150, deadline=None)
@given(
    config=sensors,
    frames=hnp.arrays(np.uint16, (5, *SIZE), elements=values),
    gaps=st.lists(st.sampled_from([1, 2, 37, 1000, 20_000]), min_size=5, max_size=5),
    start=st.sampled_from([0, -70, 10**12]),
    cut=st.integers(1, 4),
)
def test_events_and_states_equal_the_compiled_ones(
    config: SensorConfig, frames: np.ndarray, gaps: list[int], start: int, cut: int
) -> None:
    t = start + np.cumsum(gaps)
    compiled = EventSimulator(*SIZE, config, 7)
    tensors = EventSimulator(*SIZE, config, 7, backend="torch")
    assert_same_events(tensors.push(frames[:cut], t[:cut]), compiled.push(frames[:cut], t[:cut]))
    assert_same(tensors.state_dict(), compiled.state_dict())
    # each goes on where the other stopped
    swapped = EventSimulator(*SIZE, config, 7)
    swapped.load_state_dict(tensors.state_dict())
    tensors.load_state_dict(compiled.state_dict())
    assert_same_events(tensors.push(frames[cut:], t[cut:]), swapped.push(frames[cut:], t[cut:]))
    assert_same(tensors.state_dict(), swapped.state_dict())


@pytest.mark.parametrize("name", SENSORS)
def test_a_long_clip_goes_on_from_the_state_of_the_other_path(name: str) -> None:
    frames, t = video(12, 30, 41), times(12)
    streams = [EventSimulator(30, 41, SENSORS[name], backend=backend) for backend in ("numba", "torch")]
    num_events = 0
    for part in (slice(0, 3), slice(3, 4), slice(4, 8), slice(8, 12)):
        compiled, tensors = (stream.push(frames[part], t[part]) for stream in streams)
        assert_same_events(tensors, compiled)
        num_events += len(tensors)
        states = [stream.state_dict() for stream in streams]
        assert_same(*states)
        for stream, state in zip(streams, reversed(states), strict=True):
            stream.load_state_dict(state)
    assert num_events > 2000


@pytest.mark.parametrize("refractory", ["hold", "drop", "suppress"])
@pytest.mark.parametrize("refractory_us", [0, 100, 250, 400])
def test_crossings_that_fall_on_a_microsecond(refractory: Any, refractory_us: int) -> None:
    """On a ramp from 0 to 1 in 1000 us the thresholds are reached at 250, 500, 750 and 1000 us."""
    config = SensorConfig(
        c_pos=0.25,
        c_neg=0.25,
        sigma=0.0,
        init="zero",
        log="identity",
        refractory=refractory,
        refractory_us=refractory_us,
    )
    frames = np.array([[[0, 65535]], [[65535, 0]]], np.uint16)
    events = simulate(frames, [0, 1000], config, backend="torch")
    assert events.t[events.x == 0][0] == 250
    assert_same_events(events, simulate(frames, [0, 1000], config))


@pytest.mark.parametrize("config", [SENSORS["clean"], replace(SENSORS["hold"], cutoff_hz=1e-3)])
def test_the_longest_intervals_and_more_than_32_bits_of_elapsed_time(config: SensorConfig) -> None:
    frames, t = video(24, 3, 7), np.arange(24) * (2**30 - 1)
    config = replace(config, leak_hz=0.05)  # in the end more than 32 bits as well
    events = simulate(frames, t, config, backend="torch")
    assert len(events) > 500
    assert_same_events(events, simulate(frames, t, config))
    assert_same_events(simulate_batch(np.stack([frames] * 2), t, config)[0], events)


def mixed_batch() -> tuple[np.ndarray, np.ndarray, list[SensorConfig], list[int]]:
    num = len(SENSORS)
    frames = np.stack([video(7, 13, 21, seed=clip) for clip in range(num)])
    t = np.stack([times(7, start=clip * 10**10 - 5, seed=clip) for clip in range(num)])
    return frames, t, list(SENSORS.values()), [3 * clip for clip in range(num)]


@pytest.mark.parametrize("frames_at_once", [1, 4, 100])
def test_a_batch_of_unlike_clips_gives_what_each_gives_alone(
    frames_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, t, configs, clip_ids = mixed_batch()
    monkeypatch.setattr(batch, "PIXELS_AT_ONCE_ON_CPU", frames_at_once * len(configs) * 13 * 21)
    windows = [(int(row[1]) + 9, int(row[-1]) - 300) for row in t]
    events = simulate_batch(frames, t, configs, clip_ids)
    grids = simulate_voxel_batch(frames, t, configs, 5, windows, clip_ids).numpy()
    assert grids.shape == (len(configs), 5, 13, 21)
    for i, (config, clip_id) in enumerate(zip(configs, clip_ids, strict=True)):
        assert_same_events(events[i], simulate(frames[i], t[i], config, clip_id))
        grid = simulate_voxel(frames[i], t[i], config, 5, windows[i], clip_id)
        np.testing.assert_array_equal(grids[i].view(np.int32), grid.view(np.int32))


def test_the_company_in_a_batch_changes_nothing() -> None:
    frames, t, configs, clip_ids = mixed_batch()
    whole = simulate_batch(frames, t, configs, clip_ids)
    some = [9, 0, 5]
    for i, events in zip(
        some,
        simulate_batch(frames[some], t[some], [configs[i] for i in some], [clip_ids[i] for i in some]),
        strict=True,
    ):
        assert_same_events(events, whole[i])


def test_clips_of_one_sensor_have_maps_of_their_own() -> None:
    frames, t = np.stack([video(4)] * 2), times(4)
    events = simulate_batch(frames, t, SENSORS["clean"])
    for clip_id in (0, 1):
        assert_same_events(events[clip_id], simulate(frames[0], t, SENSORS["clean"], clip_id))
    assert len(events[0]) != len(events[1])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("tensor", [False, True])
def test_every_kind_of_frames(dtype: str, tensor: bool) -> None:
    frames = video(5, dtype=dtype) if dtype != "float64" else generator(1).random((5, 13, 21))
    t = times(5)
    given = torch.from_numpy(frames[None]) if tensor else frames[None]
    (events,) = simulate_batch(given, torch.from_numpy(t) if tensor else t, SENSORS["hold"])
    assert_same_events(events, simulate(frames, t, SENSORS["hold"]))


def test_half_precision_frames_are_widened_first() -> None:
    frames = torch.from_numpy(video(4, dtype="float32"))[None].half()
    (events,) = simulate_batch(frames, times(4), SENSORS["clean"])
    assert_same_events(events, simulate(frames[0].float().numpy(), times(4), SENSORS["clean"]))


def test_frames_that_cannot_be_written_to_and_run_backwards() -> None:
    frames = video(6)[None]
    frames.flags.writeable = False
    (events,) = simulate_batch(frames[:, ::-1], times(6), SENSORS["clean"])
    assert_same_events(events, simulate(frames[0, ::-1], times(6), SENSORS["clean"]))


def test_a_readout_is_that_of_each_clip() -> None:
    config = SensorConfig(latency_us=30, jitter_us=200, tick_us=10, max_rate_hz=1e6, shot_hz=50.0)
    frames, t = np.stack([video(6, seed=seed) for seed in (1, 2)]), times(6)
    for clip_id, events in enumerate(simulate_batch(frames, t, config)):
        assert len(events) > 500
        assert_same_events(events, simulate(frames[clip_id], t, config, clip_id))


@pytest.mark.parametrize("num_frames", [0, 1])
def test_too_few_frames_give_no_events(num_frames: int) -> None:
    frames, t = np.zeros((2, num_frames, 3, 4), np.uint8), np.arange(num_frames)
    for events in simulate_batch(frames, t, SENSORS["everything"]):
        assert_same_events(events, EventSimulator(3, 4, SENSORS["everything"]).push(frames[0], t))
    assert simulate_voxel_batch(frames, t, SENSORS["everything"], 2, (0, 9)).shape == (2, 2, 3, 4)


@given(
    places=hnp.arrays(np.int64, st.integers(0, 60), elements=st.integers(0, 6)),
    seed=st.integers(0, 9),
)
@settings(deadline=None)
def test_adding_in_order_is_adding_one_by_one(places: np.ndarray, seed: int) -> None:
    rng = generator(seed, "values")
    values = (rng.normal(size=len(places)) * 10.0 ** rng.integers(-6, 6, len(places))).astype(np.float32)
    total = rng.normal(size=7).astype(np.float32)
    result = torch.from_numpy(total.copy())
    add_in_order(result, torch.from_numpy(places), torch.from_numpy(values))
    for place, value in zip(places, values, strict=True):
        total[place] += value
    np.testing.assert_array_equal(result.numpy(), total)


@pytest.mark.parametrize("num_bins", [1, 2, 9])
def test_voxel_grid_of_the_stream_equals_the_compiled_one(num_bins: int) -> None:
    frames, t = video(6), times(6)
    window = (int(t[1]), int(t[5]) + 1)
    grid = simulate_voxel(frames, t, SENSORS["everything"], num_bins, window, 2, backend="torch")
    np.testing.assert_array_equal(grid, simulate_voxel(frames, t, SENSORS["everything"], num_bins, window, 2))
    batched = simulate_voxel_batch(frames[None], t, SENSORS["everything"], num_bins, window, [2])
    np.testing.assert_array_equal(batched[0].numpy(), grid)
    assert np.abs(grid).max() > 1


def test_threads_change_nothing() -> None:
    frames = np.stack([video(4, 120, 160, seed=seed) for seed in (1, 2)])  # enough for torch to use threads
    config, t = SENSORS["everything"], times(4)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            grids = simulate_voxel_batch(frames, t, config, 5, (int(t[0]), int(t[3])))
            results.append(([columns(events) for events in simulate_batch(frames, t, config)], grids.numpy()))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(results[0][1], results[1][1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_same_bits() -> None:
    frames, t, configs, clip_ids = mixed_batch()
    windows = [(int(row[1]), int(row[-1])) for row in t]
    for mine, theirs in zip(
        simulate_batch(frames, t, configs, clip_ids, "cuda"), simulate_batch(frames, t, configs, clip_ids), strict=True
    ):
        assert_same_events(mine, theirs)
    grids = simulate_voxel_batch(torch.from_numpy(frames).cuda(), t, configs, 5, windows, clip_ids)
    assert grids.is_cuda
    assert torch.equal(grids.cpu(), simulate_voxel_batch(frames, t, configs, 5, windows, clip_ids))
    for name, config in SENSORS.items():
        streams = [EventSimulator(13, 21, config, 1, backend="torch", device=device) for device in ("cpu", "cuda")]
        events = [stream.push(frames[0], t[0]) for stream in streams]
        assert len(events[0]) > 100, name
        assert_same_events(events[1], events[0])
        assert_same(streams[1].state_dict(), streams[0].state_dict())


FRAMES = np.zeros((2, 3, 4, 5), np.uint8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": FRAMES[0]}, r"expected frames \(B, F, H, W\)"),
        ({"frames": FRAMES.astype(np.int32)}, "expected uint8, uint16 or float frames"),
        ({"frames": np.where(np.arange(3)[None, :, None, None] == 1, 1.5, FRAMES)}, "1.5 in frame 1 of clip 0"),
        ({"frames": np.full(FRAMES.shape, np.nan)}, "without NaN"),
        ({"t_us": [0, 1]}, r"expected times \(3,\) or \(2, 3\)"),
        ({"t_us": [0.0, 1.0, 2.0]}, "integer microseconds"),
        ({"t_us": [[0, 1, 2], [0, 5, 5]]}, "got 5 us after 5 us at frame 2 of clip 1"),
        ({"t_us": [0, 1, 2**31]}, "expected at most 1073741823 us between two frames of clip 0"),
        (
            {"t_us": [0, 1, 2**29], "configs": [SENSORS["clean"], SensorConfig(leak_hz=1000)]},
            r"expected at most \d{5,6} us between two frames of clip 1",
        ),
        ({"configs": [SENSORS["clean"]] * 3}, "for each of 2 clips, got 3 and 2"),
        ({"clip_ids": [0]}, "for each of 2 clips, got 2 and 1"),
        ({"device": "nowhere"}, "expected a device that torch can use here"),
    ],
)
def test_wrong_batches_are_refused(changes: dict[str, Any], message: str) -> None:
    arguments = {"frames": FRAMES, "t_us": [0, 10, 20], "configs": SENSORS["clean"]} | changes
    with pytest.raises(ValueError, match=message):
        simulate_batch(**arguments)


@pytest.mark.parametrize(
    ("num_bins", "window", "config", "message"),
    [
        (0, (0, 9), SENSORS["clean"], "at least one bin"),
        (5, (9, 9), SENSORS["clean"], "t0 < t1"),
        (5, (0, 1, 2), SENSORS["clean"], "or 2, got"),
        (5, (0.0, 9.0), SENSORS["clean"], "whole microseconds"),
        (5, (0, 9), SensorConfig(tick_us=10), "list of events"),
    ],
)
def test_wrong_grids_are_refused(num_bins: int, window: Any, config: SensorConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate_voxel_batch(FRAMES, [0, 10, 20], config, num_bins, window)


def test_wrong_backends_and_devices_are_refused() -> None:
    with pytest.raises(ValueError, match="expected backend 'numba' or 'torch', got 'jax'"):
        EventSimulator(3, 4, SENSORS["clean"], backend="jax")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="pass backend='torch'"):
        EventSimulator(3, 4, SENSORS["clean"], device="cuda")
    with pytest.raises(ValueError, match="expected a device that torch can use here, got 'nowhere'"):
        EventSimulator(3, 4, SENSORS["clean"], backend="torch", device="nowhere")


def test_the_compiled_path_does_not_import_torch() -> None:
    code = (
        "import sys, numpy as np; from eventfm.simulation import SensorConfig, simulate; "
        "simulate(np.zeros((2, 3, 4), np.uint8), [0, 1], SensorConfig()); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
