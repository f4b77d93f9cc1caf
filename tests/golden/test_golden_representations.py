"""Voxel grids and counts against the official ones."""

from __future__ import annotations

import numpy as np
import pytest

from eventfm.events import EventBatch, Events, Sensor
from eventfm.representations import PolarityCounts, VoxelGrid


@pytest.mark.parametrize(
    ("representation", "name"), [(VoxelGrid(5), "voxel5"), (VoxelGrid(3), "voxel3"), (PolarityCounts(), "counts")]
)
def test_equals_the_official_representation(golden, representation, name):
    arrays = golden.arrays("representations")
    sensor = Sensor(int(arrays["width"]), int(arrays["height"]))
    events = Events.checked(arrays["x"], arrays["y"], arrays["t"], arrays["p"], sensor)
    np.testing.assert_allclose(representation(events).numpy(), arrays[name], rtol=0, atol=1e-6)
    batched = representation.batched(EventBatch.collate([events.take(0, 500), events]))
    np.testing.assert_allclose(batched[1].numpy(), arrays[name], rtol=0, atol=1e-6)
