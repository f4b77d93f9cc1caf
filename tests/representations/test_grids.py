"""What the three grids promise: values, edges, batches, outputs."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.events import EventBatch, EventError, Events, Sensor
from eventfm.protocols import Representation
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
    def test_is_a_frozen_config_that_travels(self, grid):
        assert isinstance(grid, Representation)
        assert pickle.loads(pickle.dumps(grid)) == grid
        assert hash(grid) == hash(type(grid)(**{name: getattr(grid, name) for name in grid.__slots__}))
        with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
            grid.num_bins = 3

    def test_no_event_gives_zeros(self, grid):
        out = grid(Events.empty(SENSOR, window=(0, 10)))
        assert out.shape == (grid.channels, 5, 7)
        assert out.dtype == torch.float32
        assert not out.any()
        assert not grid.batched(EventBatch.collate([Events.empty(SENSOR, window=(0, 10))])).any()

    def test_one_event_and_one_timestamp_are_finite_and_land_in_the_first_instant(self, grid):
        for times in ([4], [4, 4, 4]):
            out = grid(make(times, window=(4, 20)))
            expected = torch.zeros_like(out)
            expected[0, 0, 0] = min(len(times), getattr(grid, "max_count", 255))
            torch.testing.assert_close(out, expected, rtol=0, atol=0)

    def test_input_is_not_written_to(self, grid):
        events = make([0, 3, 9], x=[1, 2, 1], p=[0, 1, 0], window=(0, 12))
        before = pickle.dumps(events)
        for column in (events.x, events.y, events.t, events.p):
            column.flags.writeable = False
        grid(events)
        assert pickle.dumps(events) == before
        batch = EventBatch.collate([events])
        copies = [column.clone() for column in (batch.x, batch.y, batch.t, batch.p)]
        grid.batched(batch)
        assert all(map(torch.equal, copies, (batch.x, batch.y, batch.t, batch.p)))

    def test_accumulate_overwrites_the_output(self, grid):
        events = make([0, 3, 9], x=[1, 2, 1], p=[0, 1, 0], window=(0, 12))
        batch = np.full((2, grid.channels, 5, 7), 7, np.float32)
        grid.accumulate(events, batch[1])
        np.testing.assert_array_equal(batch[1], grid(events).numpy())
        assert (batch[0] == 7).all()

    def test_an_output_that_does_not_fit_is_refused(self, grid):
        events = make([0, 3], window=(0, 12))
        with pytest.raises(ValueError, match="expected an output of shape"):
            grid.accumulate(events, np.zeros((grid.channels + 1, 5, 7), np.float32))
        with pytest.raises(ValueError, match=r"float32, got .* float64"):
            grid.accumulate(events, np.zeros((grid.channels, 5, 7), np.float64))

    def test_events_that_break_the_contract_are_refused(self, grid):
        zeros, ones = np.zeros(2, np.uint16), np.ones(2, np.uint8)
        unsorted = Events(zeros, zeros, np.array([5, 2]), ones, SENSOR, (0, 10))
        with pytest.raises(EventError, match=r"event [01] breaks the contract of Events.*t=[25] us"):
            grid(unsorted)
        outside = Events(zeros, np.array([0, 5], np.uint16), np.array([2, 5]), ones, SENSOR, (0, 10))
        with pytest.raises(EventError, match=r"event 1 breaks the contract of Events: x=0, y=5"):
            grid(outside)

    @settings(deadline=None)  # the first example may compile the kernel
    @given(st.lists(streams(), min_size=1, max_size=4))
    def test_a_ragged_batch_equals_its_samples_bit_for_bit(self, grid, samples):
        batched = grid.batched(EventBatch.collate(samples))
        assert batched.shape == (len(samples), grid.channels, 5, 7)
        for sample, out in zip(samples, batched, strict=True):
            np.testing.assert_array_equal(out.numpy(), grid(sample).numpy())


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
