"""Activity of patches against counting event by event."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.data.activity import patch_activity
from eventfm.data.transforms import AugmentConfig, draw, whole
from eventfm.events import Events, Sensor


def random_events(sensor: Sensor, count: int, seed: int) -> Events:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, sensor.width, count), rng.integers(0, sensor.height, count)
    return Events.checked(x, y, np.arange(count), rng.integers(0, 2, count), sensor, window=(0, max(count, 1)))


def test_at_the_sensors_own_size_it_is_the_count() -> None:
    sensor = Sensor(48, 32)
    events = random_events(sensor, 500, 1)
    want = np.zeros((2, 3))
    for x, y in zip(events.x.tolist(), events.y.tolist(), strict=True):
        want[y // 16, x // 16] += 1
    got = patch_activity(events, whole(sensor, (32, 48)), 16)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(("size", "patch", "pixels"), [((16, 24), 8, 16 * 16), ((64, 96), 16, 8 * 8)])
def test_it_is_per_sensor_pixel_whatever_the_size_of_the_input(size: tuple[int, int], patch: int, pixels: int) -> None:
    sensor = Sensor(48, 32)
    one_each = Events.checked(*np.divmod(np.arange(48 * 32), 48)[::-1], np.arange(48 * 32), np.zeros(48 * 32), sensor)
    geometry = whole(sensor, size)
    got = patch_activity(geometry.events(one_each), geometry, patch)
    np.testing.assert_allclose(got, 256.0)
    assert got.size == 48 * 32 // pixels


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(16, 16), (32, 64), (128, 64)]), st.sampled_from([4, 8, 16]))
def test_every_event_of_the_crop_is_counted_once_in_the_patch_that_shows_it(seed, size, patch) -> None:
    sensor = Sensor(60, 44)
    rng = np.random.default_rng(seed)
    geometry = draw(sensor, size, AugmentConfig(crop_min=0.3, flip=0.5, time_flip=0.5), rng)
    cropped = geometry.events(random_events(sensor, 300, seed % 1000))
    got = patch_activity(cropped, geometry, patch)
    native = geometry.width * geometry.height / got.size
    np.testing.assert_allclose(got.sum() * native / 256, len(cropped), rtol=1e-5)
    # What is drawn there: a picture of the counts, enlarged as the input is, has its events in the same patches.
    counts = np.zeros((1, *geometry.grid), np.float32)
    np.add.at(counts[0], (cropped.y, cropped.x), 1)
    if geometry.grid == geometry.out:
        shown = counts[0]
    elif all(o % g == 0 for o, g in zip(geometry.out, geometry.grid, strict=True)):
        shown = np.empty((1, *geometry.out), np.float32)
        geometry.enlarge(counts, shown)
        shown = shown[0] * (counts.size / shown.size)
    else:
        return
    tiles = shown.reshape(size[0] // patch, patch, size[1] // patch, patch).sum(axis=(1, 3))
    np.testing.assert_allclose(got * native / 256, tiles, rtol=1e-4)
