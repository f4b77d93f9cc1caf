"""Batches of clips: each clip is what it is alone, whatever else is in the batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pixel_clips import columns, times, video

from eventfm.simulation.batch import simulate_batch, simulate_voxel_batch
from eventfm.simulation.pixel import simulate, simulate_voxel
from eventfm.simulation.sensor import SensorConfig

NOISY = SensorConfig(
    refractory_us=300, cutoff_hz=300.0, poles=2, leak_hz=10.0, shot_hz=30.0, hot_fraction=0.05, dead_fraction=0.05
)
CONFIGS = [
    SensorConfig(c_pos=0.1, log="linlog", gamma="srgb"),
    NOISY,
    replace(NOISY, refractory="drop", shot_hz=0.0, hot_fraction=0.0, seed=4),
    replace(NOISY, refractory="suppress", cutoff_hz=None, noise_resets=False),
]
CLIP_IDS = [3, 3, 0, 7]


def clips(dtype: str = "uint16") -> tuple[np.ndarray, np.ndarray]:
    frames = np.stack([video(8, dtype=dtype, seed=seed) for seed in range(4)])
    return frames, np.stack([times(8, start, seed) for seed, start in enumerate((0, -7, 1_790_000_000_000_000, 50))])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_each_clip_is_what_it_is_alone(dtype: str) -> None:
    frames, t = clips(dtype)
    for got, *clip in zip(simulate_batch(frames, t, CONFIGS, CLIP_IDS), frames, t, CONFIGS, CLIP_IDS, strict=True):
        alone = simulate(*clip)
        assert len(alone) > 400
        np.testing.assert_array_equal(columns(got), columns(alone))
        assert (got.noise is None) == (alone.noise is None)
        assert (got.window, got.sensor) == (alone.window, alone.sensor)


def test_company_and_order_in_the_batch_do_not_matter() -> None:
    frames, t = clips()
    together = simulate_batch(frames, t, CONFIGS, CLIP_IDS)
    order = [2, 0, 3]
    others = simulate_batch(frames[order], t[order], [CONFIGS[i] for i in order], [CLIP_IDS[i] for i in order])
    for i, got in zip(order, others, strict=True):
        np.testing.assert_array_equal(columns(got), columns(together[i]))


def test_one_sensor_and_one_clock_for_all_and_numbered_clips() -> None:
    frames, t = clips()[0], times(8)
    for clip, got in enumerate(simulate_batch(frames, t, NOISY)):
        np.testing.assert_array_equal(columns(got), columns(simulate(frames[clip], t, NOISY, clip)))


def test_each_clip_has_its_own_readout() -> None:
    frames, t = clips()
    read_out = [replace(config, latency_us=200, jitter_us=30, tick_us=5, max_rate_hz=50_000.0) for config in CONFIGS]
    for got, *clip in zip(simulate_batch(frames, t, read_out, CLIP_IDS), frames, t, read_out, CLIP_IDS, strict=True):
        np.testing.assert_array_equal(columns(got), columns(simulate(*clip)))


@pytest.mark.parametrize("num_bins", [1, 5])
def test_grids_of_a_batch_are_those_of_its_clips(num_bins: int) -> None:
    frames, t = clips()
    windows = [(int(mine[1]) + 5, int(mine[6])) for mine in t]
    got = simulate_voxel_batch(frames, t, CONFIGS, num_bins, windows, CLIP_IDS).numpy()
    for clip in range(4):
        alone = simulate_voxel(frames[clip], t[clip], CONFIGS[clip], num_bins, windows[clip], CLIP_IDS[clip])
        np.testing.assert_array_equal(got[clip], alone)
        assert np.count_nonzero(alone) > 100


def test_no_frames_to_compare_give_no_events() -> None:
    frames, t = clips()
    assert [len(events) for events in simulate_batch(frames[:, :1], t[:, :1], CONFIGS)] == [0] * 4
    rest = np.repeat(frames[:, :1], 5, axis=1)
    assert [len(events) for events in simulate_batch(rest, np.arange(5), CONFIGS[0])] == [0] * 4


@pytest.mark.parametrize(
    ("shape", "t", "message"),
    [
        ((2, 3, 4), [0, 1], r"\(B, F, H, W\)"),
        ((2, 3, 4, 5), [0, 1], r"times \(3,\) or \(2, 3\), got \(2,\)"),
        ((2, 3, 4, 5), [[0, 1, 2], [0, 9, 9]], "got 9 us after 9 us at frame 2 of clip 1"),
    ],
)
def test_bad_batches_are_named(shape: tuple[int, ...], t: list[object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate_batch(np.zeros(shape, np.uint8), np.array(t), SensorConfig())


@pytest.mark.parametrize("configs", ["noisy", ["noisy", "noisy"]])
def test_names_of_presets_are_no_sensors(configs: object) -> None:
    with pytest.raises(ValueError, match=r"expected a SensorConfig.* got 'noisy'"):
        simulate_batch(np.zeros((2, 3, 4, 5), np.uint8), np.arange(3), configs)  # type: ignore[arg-type]
