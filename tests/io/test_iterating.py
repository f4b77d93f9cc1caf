from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfm.events import Events, Sensor
from eventfm.io.iterating import iterate
from eventfm.io.recording import ArrayRecording

SENSOR = Sensor(4, 4)


def at(times):
    n = len(times)
    return Events.checked([1] * n, [2] * n, times, [1] * n, SENSOR)


def test_windows_keep_the_rhythm():
    slices = list(iterate(at([5, 6, 14, 40]), duration_us=10))
    assert [part.window for part in slices] == [(5, 15), (15, 25), (25, 35), (35, 45)]
    assert [part.t.tolist() for part in slices] == [[5, 6, 14], [], [], [40]]


def test_windows_with_overlap():
    slices = list(iterate(at([0, 7, 12, 19]), duration_us=10, overlap=5))
    assert [part.window for part in slices] == [(0, 10), (5, 15), (10, 20)]
    slices = list(iterate(at([0, 7, 12, 20]), duration_us=10, overlap=5))
    assert slices[-1].window == (15, 25)


def test_counts():
    events = at([0, 1, 2, 2, 3, 9, 9])
    assert [len(part) for part in iterate(events, num_events=3)] == [3, 3, 1]
    assert [part.t.tolist() for part in iterate(events, num_events=4, overlap=2)] == [
        [0, 1, 2, 2],
        [2, 2, 3, 9],
        [3, 9, 9],
    ]
    assert [len(part) for part in iterate(events, num_events=4, overlap=3)] == [4, 4, 4, 4]
    assert [part.t.tolist() for part in iterate(events, num_events=2, start=1, stop=4)] == [[1, 2], [2]]


def test_a_part_of_the_time():
    slices = list(iterate(at([0, 10, 20, 30]), duration_us=10, start=-5, stop=14))
    assert [part.window for part in slices] == [(-5, 5), (5, 15)]
    assert [part.t.tolist() for part in slices] == [[0], [10]]


def test_no_events():
    assert list(iterate(Events.empty(SENSOR), duration_us=10)) == []
    assert list(iterate(Events.empty(SENSOR), num_events=10)) == []


@given(st.lists(st.integers(0, 300), max_size=40), st.integers(1, 60), st.integers(0, 59), st.booleans())
def test_each_event_comes_as_often_as_slices_overlap(times, length, overlap, by_time):
    overlap %= length
    events = at(sorted(times))
    options = {"duration_us": length} if by_time else {"num_events": length}
    plain = list(iterate(events, **options))
    assert np.concatenate([part.t for part in plain] or [np.empty(0)]).tolist() == events.t.tolist()
    slices = list(iterate(events, **options, overlap=overlap))
    step = length - overlap
    if by_time:
        starts = [int(events.t[0]) + k * step for k in range(len(slices))] if times else []
        expected = [[t for t in sorted(times) if a <= t < a + length] for a in starts]
        assert not times or starts[-1] + length > max(times)
        assert len(starts) < 2 or max(times) >= starts[-1] + overlap
    else:
        expected = [sorted(times)[k * step : k * step + length] for k in range(len(slices))]
        assert not times or len(slices) == 1 + max(0, -(-(len(times) - length) // step))
    assert [part.t.tolist() for part in slices] == expected


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"duration_us": 1, "num_events": 1},
        {"duration_us": 0},
        {"num_events": -1},
        {"duration_us": 5, "overlap": 5},
        {"num_events": 5, "overlap": -1},
    ],
)
def test_impossible_lengths(options):
    with pytest.raises(ValueError, match="expected"):
        iterate(at([1]), **options)


def test_one_slice_in_memory():
    class Made:
        """A long recording that makes its events when asked: one a microsecond."""

        format, sensor, tracks = "made", SENSOR, {}
        num_events, t_range = 2_000_000, (0, 1_999_999)

        def events(self, t0, t1):
            return ArrayRecording(at(np.arange(max(t0, 0), min(t1, self.num_events)))).events(t0, t1)

        def events_by_index(self, start, stop):
            return at(np.arange(start, stop))

    for options in ({"duration_us": 20_000}, {"num_events": 20_000}):
        tracemalloc.start()
        assert sum(len(part) for part in iterate(Made(), **options)) == 2_000_000
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8 * 2**20
