"""The scaling of the event volume, against the voxel grid and a plain numpy percentile."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eventfm.events import EventBatch, Events, Sensor
from eventfm.representations import EventVolume, VoxelGrid

SENSOR = Sensor(6, 4)


def events(count: int, seed: int = 0, start: int = 0) -> Events:
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(start, start + 1000, count))
    # Few pixels, so that cells hold many events and their sizes differ and repeat.
    x, y = rng.integers(0, 3, count) ** 2 % 6, rng.integers(0, 2, count)
    return Events.checked(x, y, t, rng.integers(0, 2, count), SENSOR, window=(start, start + 1000))


@pytest.mark.parametrize("percentile", [50.0, 98.0, 100.0])
@pytest.mark.parametrize("count", [1, 2, 7, 300])
def test_signed_is_the_grid_over_its_percentile_cut_off(count: int, percentile: float) -> None:
    grid = VoxelGrid(3)(events(count)).numpy()
    ranked = np.sort(np.abs(grid[grid != 0]).astype(np.float64))
    place = percentile / 100 * (len(ranked) - 1)
    scale = np.interp(place, np.arange(len(ranked)), ranked)
    want = np.clip(grid / scale, -1, 1)
    got = EventVolume(3, percentile=percentile)(events(count)).numpy()
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)
    assert np.array_equal(got == 0, grid == 0)
    assert np.abs(got).max() == pytest.approx(1)


def test_twice_as_many_equal_events_give_the_same_volume() -> None:
    once = events(200)
    twice = Events.checked(*(np.repeat(column, 2) for column in (once.x, once.y, once.t, once.p)), SENSOR)
    np.testing.assert_allclose(EventVolume()(once), EventVolume()(twice), rtol=1e-6, atol=1e-7)


def test_imagenet_coding_is_that_of_a_picture_with_grey_where_nothing_happened() -> None:
    signed, coded = (EventVolume(coding=coding)(events(300)) for coding in ("signed", "imagenet"))
    for channel, (mean, std) in enumerate(zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)):
        torch.testing.assert_close(coded[channel], ((signed[channel] + 1) / 2 - mean) / std)
    empty = EventVolume(coding="imagenet")(events(0))
    torch.testing.assert_close(empty[:, 0, 0], torch.tensor([0.015 / 0.229, 0.044 / 0.224, 0.094 / 0.225]))


def test_a_batch_scales_each_sample_by_itself() -> None:
    samples = [events(300, 1), events(3, 2), events(0), events(40, 3, start=10**12)]
    for volume in (EventVolume(), EventVolume(span="window", coding="imagenet"), EventVolume(2, percentile=70)):
        together = volume.batched(EventBatch.collate(samples))
        for alone, got in zip(samples, together, strict=True):
            torch.testing.assert_close(got, volume(alone), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_bins": 0}, "at least 1"),
        ({"percentile": 0}, "above 0"),
        ({"percentile": 101}, "up to 100"),
        ({"coding": "rgb"}, "'signed' or 'imagenet', got 'rgb'"),
        ({"coding": "imagenet", "num_bins": 5}, "3 colours, got 5"),
        ({"span": "x"}, "'events' or 'window'"),
    ],
)
def test_what_it_cannot_be_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EventVolume(**fields)
