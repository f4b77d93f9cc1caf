"""What every registered representation promises, whatever it counts: the contract of `protocols.Representation`."""

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
from eventfm.representations import (
    REPRESENTATIONS,
    ECDPImage,
    EventVolume,
    EvRep,
    MEMImage,
    PolarityCounts,
    StackedHistogram,
    VoxelGrid,
    describe,
)

SENSOR = Sensor(7, 5)
ALL = [
    VoxelGrid(1),
    VoxelGrid(5),
    VoxelGrid(4, span="window"),
    PolarityCounts(),
    StackedHistogram(1),
    StackedHistogram(3, max_count=2),
    StackedHistogram(3, span="window"),
    ECDPImage(),
    MEMImage(),
    EvRep(),
    EventVolume(),
    EventVolume(span="window", coding="imagenet"),
]


def make(t, x=0, y=0, p=1, window=None):
    t = np.asarray(t, np.int64)
    x, y, p = (np.broadcast_to(np.asarray(value), t.shape) for value in (x, y, p))
    return Events.checked(x, y, t, p, SENSOR, window=window)


@st.composite
def streams(draw):
    """Up to 50 events of a 7 x 5 sensor, at times all over it or on few pixels, with and without equal times."""
    size = draw(st.integers(0, 50))
    start, length = draw(st.sampled_from([0, -90, 10**15])), draw(st.sampled_from([1, 30, 10**6]))
    columns = draw(st.sampled_from([1, 2, 7]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    t = np.sort(rng.integers(start, start + length, size))
    x, y, p = rng.integers(0, columns, size), rng.integers(0, 5, size), rng.integers(0, 2, size)
    return make(t, x, y, p, window=(start, start + length))


def test_every_registered_representation_is_here():
    assert {describe(representation)["name"] for representation in ALL} == set(REPRESENTATIONS)


@pytest.mark.parametrize("representation", ALL, ids=repr)
class TestEveryRepresentation:
    def test_is_a_frozen_config_that_travels(self, representation):
        assert isinstance(representation, Representation)
        assert pickle.loads(pickle.dumps(representation)) == representation
        same = type(representation)(**{name: getattr(representation, name) for name in representation.__slots__})
        assert hash(representation) == hash(same)
        with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
            representation.num_bins = 3

    @pytest.mark.parametrize("times", [[], [4], [4, 4, 4]])
    def test_few_events_give_finite_float32_of_the_promised_shape(self, representation, times):
        events = make(times, window=(4, 20))
        for out in (representation(events), representation.batched(EventBatch.collate([events]))[0]):
            assert out.shape == (representation.channels, 5, 7)
            assert out.dtype == torch.float32
            assert out.isfinite().all()

    def test_input_is_not_written_to(self, representation):
        events = make([0, 3, 9], x=[1, 2, 1], p=[0, 1, 0], window=(0, 12))
        before = pickle.dumps(events)
        for column in (events.x, events.y, events.t, events.p):
            column.flags.writeable = False
        representation(events)
        assert pickle.dumps(events) == before
        batch = EventBatch.collate([events])
        copies = [column.clone() for column in (batch.x, batch.y, batch.t, batch.p)]
        representation.batched(batch)
        assert all(map(torch.equal, copies, (batch.x, batch.y, batch.t, batch.p)))

    def test_accumulate_overwrites_the_output(self, representation):
        events = make([0, 3, 9], x=[1, 2, 1], p=[0, 1, 0], window=(0, 12))
        batch = np.full((2, representation.channels, 5, 7), 7, np.float32)
        representation.accumulate(events, batch[1])
        np.testing.assert_array_equal(batch[1], representation(events).numpy())
        assert (batch[0] == 7).all()

    def test_an_output_that_does_not_fit_is_refused(self, representation):
        events = make([0, 3], window=(0, 12))
        with pytest.raises(ValueError, match="expected an output of shape"):
            representation.accumulate(events, np.zeros((representation.channels + 1, 5, 7), np.float32))
        with pytest.raises(ValueError, match=r"float32, got .* float64"):
            representation.accumulate(events, np.zeros((representation.channels, 5, 7), np.float64))

    def test_events_that_break_the_contract_are_refused(self, representation):
        zeros, ones = np.zeros(2, np.uint16), np.ones(2, np.uint8)
        unsorted = Events(zeros, zeros, np.array([5, 2]), ones, SENSOR, (0, 10))
        with pytest.raises(EventError, match=r"event [01] breaks the contract of Events.*t=[25] us"):
            representation(unsorted)
        outside = Events(zeros, np.array([0, 5], np.uint16), np.array([2, 5]), ones, SENSOR, (0, 10))
        with pytest.raises(EventError, match=r"event 1 breaks the contract of Events: x=0, y=5"):
            representation(outside)

    @settings(deadline=None)  # the first example may compile the kernel
    @given(st.lists(streams(), min_size=1, max_size=4))
    def test_a_ragged_batch_equals_its_samples_bit_for_bit(self, representation, samples):
        batched = representation.batched(EventBatch.collate(samples))
        assert batched.shape == (len(samples), representation.channels, 5, 7)
        for sample, out in zip(samples, batched, strict=True):
            np.testing.assert_array_equal(out.numpy(), representation(sample).numpy())

    @settings(deadline=None)  # the first example may compile the kernel
    @given(streams(), st.integers(0, 2**32 - 1))
    def test_events_of_one_time_may_come_in_any_order(self, representation, events, seed):
        order = np.lexsort((np.random.default_rng(seed).random(len(events)), events.t))
        mixed = make(events.t[order], events.x[order], events.y[order], events.p[order], window=events.window)
        torch.testing.assert_close(representation(mixed), representation(events), rtol=0, atol=2e-5)

    def test_moving_the_clock_changes_nothing(self, representation):
        t, x, p = np.array([0, 3, 3, 10, 40]), [1, 2, 1, 1, 2], [0, 1, 1, 0, 1]
        early = representation(make(t, x, p=p, window=(0, 50)))
        late = representation(make(t + 10**15, x, p=p, window=(10**15, 10**15 + 50)))
        torch.testing.assert_close(early, late, rtol=0, atol=0)
