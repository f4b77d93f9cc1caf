"""What the three grids promise beyond the contract of every representation: values and edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.events import EventBatch, EventError, Events, Sensor
from eventfm.representations import PolarityCounts, StackedHistogram, VoxelGrid

SENSOR = Sensor(7, 5)
GRIDS = [
    VoxelGrid(1),
    VoxelGrid(5),
    VoxelGrid(4, span="window"),
    PolarityCounts(),
    StackedHistogram(1),
    StackedHistogram(3, max_count=2),
    StackedHistogram(3, span="window"),
]


def make(t, x=0, y=0, p=1, window=None):
    t = np.asarray(t, np.int64)
    x, y, p = (np.broadcast_to(np.asarray(value), t.shape) for value in (x, y, p))
    return Events.checked(x, y, t, p, SENSOR, window=window)


@st.composite
def streams(draw):
    size = draw(st.integers(0, 50))
    start, length = draw(st.sampled_from([0, -90, 10**15])), draw(st.sampled_from([1, 30, 10**6]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    t = np.sort(rng.integers(start, start + length, size))
    x, y, p = rng.integers(0, 7, size), rng.integers(0, 5, size), rng.integers(0, 2, size)
    return make(t, x, y, p, window=(start, start + length))


@pytest.mark.parametrize("grid", GRIDS, ids=repr)
class TestEveryGrid:
    def test_no_event_gives_zeros(self, grid):
        nothing = Events.empty(SENSOR, window=(0, 10))
        assert not grid(nothing).any()
        assert not grid.batched(EventBatch.collate([nothing])).any()

    def test_one_event_and_one_timestamp_land_in_the_first_instant(self, grid):
        for times in ([4], [4, 4, 4]):
            out = grid(make(times, window=(4, 20)))
            expected = torch.zeros_like(out)
            expected[0, 0, 0] = min(len(times), getattr(grid, "max_count", 255))
            torch.testing.assert_close(out, expected, rtol=0, atol=0)


@settings(deadline=None)  # the first example may compile the kernel
@given(streams(), st.integers(1, 8), st.sampled_from(["events", "window"]))
def test_voxel_grid_sums_to_the_sum_of_polarities(events, num_bins, span):
    total = float(VoxelGrid(num_bins, span)(events).sum(dtype=torch.float64))
    assert total == pytest.approx(2 * int(events.p.sum()) - len(events), abs=1e-4)


@settings(deadline=None)  # the first example may compile the kernel
@given(streams(), st.integers(1, 8))
def test_histograms_sum_to_the_counts(events, num_bins):
    stacked = StackedHistogram(num_bins)(events)
    per_polarity = stacked.unflatten(0, (2, num_bins)).sum(dim=1)
    torch.testing.assert_close(per_polarity, PolarityCounts()(events), rtol=0, atol=0)


def test_voxel_grid_weights_by_span():
    events = make([10, 20, 30], x=[0, 1, 2], p=[1, 0, 1], window=(0, 41))
    by_events = VoxelGrid(3)(events)[:, 0, :3]
    assert by_events.tolist() == [[1, 0, 0], [0, -1, 0], [0, 0, 1]]  # the last event is wholly in the last channel
    by_window = VoxelGrid(3, span="window")(events)[:, 0, :3]  # instants at 0, 20 and 40
    assert by_window.tolist() == [[0.5, 0, 0], [0.5, -1, 0.5], [0, 0, 0.5]]


def test_one_bin_is_the_sum_of_polarities():
    events = make([1, 2, 9], x=[3, 3, 4], p=[1, 1, 0])
    assert VoxelGrid(1)(events)[0, 0].tolist() == [0, 0, 0, 2, -1, 0, 0]


def test_channel_order_of_counts_is_on_then_off():
    events = make([0, 5, 9], x=[0, 1, 2], p=[1, 0, 0])
    assert PolarityCounts()(events)[:, 0, :3].tolist() == [[1, 0, 0], [0, 1, 1]]
    stacked = StackedHistogram(2)(events)[:, 0, :3]
    assert stacked.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 1, 1]]


def test_a_hot_pixel_saturates():
    events = make(np.arange(1000))
    assert StackedHistogram(2)(events)[:, 0, 0].tolist() == [255, 255, 0, 0]
    assert StackedHistogram(2, max_count=10)(events)[:, 0, 0].tolist() == [10, 10, 0, 0]


def test_the_window_makes_an_event_independent_of_its_neighbours():
    window = (0, 101)
    alone = VoxelGrid(5, span="window")(make([30], window=window))
    among = VoxelGrid(5, span="window")(make([2, 30, 77], x=[5, 0, 6], window=window))
    torch.testing.assert_close(alone[:, 0, 0], among[:, 0, 0], rtol=0, atol=0)


@pytest.mark.parametrize("grid", [VoxelGrid(5, span="window"), StackedHistogram(5, span="window")], ids=repr)
def test_span_window_needs_a_window_that_holds_the_events(grid):
    with pytest.raises(EventError, match=r"needs events\.window"):
        grid(make([1, 2]))
    with pytest.raises(EventError, match="needs a batch whose samples all have a window"):
        grid.batched(EventBatch.collate([make([1, 2])]))
    for window in [(2, 10), (0, 2)]:
        with pytest.raises(EventError, match="breaks the contract"):
            grid(make([1, 2], window=window))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: VoxelGrid(0),
        lambda: VoxelGrid(2.0),
        lambda: VoxelGrid(True),
        lambda: VoxelGrid(5, span="file"),
        lambda: StackedHistogram(-1),
        lambda: StackedHistogram(2, max_count=0),
        lambda: StackedHistogram(2, max_count=2**25),
    ],
)
def test_fields_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        wrong()
