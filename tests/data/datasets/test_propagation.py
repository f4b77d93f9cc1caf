"""Flow from frame to frame: hand-computed cases, and every pixel followed by itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.data.datasets.propagation import PropagatedFlow, covered, propagated
from eventfm.io import ArrayTrack, FormatError


def followed(flows: np.ndarray, times: list[int], start: int, stop: int, x: int, y: int) -> tuple[float, float] | None:
    """Follow one pixel as EV-FlowNet's description says (section IV-B), with Python's own numbers."""
    height, width = flows.shape[2:]
    at_x, at_y = float(x), float(y)
    for number in range(len(times) - 1):
        begin, end = max(times[number], start), min(times[number + 1], stop)
        if begin >= end:
            continue
        column, row = round(at_x), round(at_y)
        if not (0 <= column < width and 0 <= row < height):
            return None
        u, v = float(flows[number, 0, row, column]), float(flows[number, 1, row, column])
        if not (math.isfinite(u) and math.isfinite(v)) or (u == 0 and v == 0):
            return None
        share = (end - begin) / (times[number + 1] - times[number])
        at_x, at_y = at_x + u * share, at_y + v * share
    return at_x - x, at_y - y


def test_one_ground_truth_is_scaled() -> None:
    truth = ArrayTrack([0, 100], np.full((2, 2, 3, 4), 8.0))
    np.testing.assert_array_equal(propagated(truth, 25, 50), np.full((2, 3, 4), 2.0, np.float32))
    np.testing.assert_array_equal(propagated(truth, 0, 100), np.full((2, 3, 4), 8.0, np.float32))


def test_a_pixel_is_looked_up_where_it_has_come_to() -> None:
    # The first moves all by 2 to the right; in the second what is in column 2 goes down 4, the rest goes up 1.
    flows = np.zeros((3, 2, 5, 6))
    flows[0, 0] = 2
    flows[1, 1] = -1
    flows[1, 1, :, 2] = 4
    truth = ArrayTrack([0, 100, 200], flows)
    u, v = propagated(truth, 0, 150)
    assert (u[3, 0], v[3, 0]) == (2, 2)  # now in column 2, half of the way down
    assert (u[3, 1], v[3, 1]) == (2, -0.5)
    assert np.isnan(u[:, 4:]).all()  # beyond the picture when the second is looked up
    assert not np.isnan(u[:, :4]).any()
    u, v = propagated(truth, 50, 200)  # half of the first: only 1 to the right
    assert (u[3, 0], v[3, 0]) == (1, -1)
    assert (u[3, 1], v[3, 1]) == (1, 4)


def test_half_a_pixel_goes_to_the_even_one_as_opencv_rounds() -> None:
    flows = np.zeros((3, 2, 1, 6))
    flows[0, 0] = 0.5
    flows[1, 0, 0] = [10, 20, 30, 40, 50, 60]
    (u, _) = propagated(ArrayTrack([0, 10, 20], flows), 0, 20)
    np.testing.assert_array_equal(u[0], np.array([10.5, 30.5, 30.5, 50.5, 50.5, np.nan], np.float32))


def test_what_is_not_known_stays_unknown() -> None:
    flows = np.ones((2, 2, 2, 4))
    flows[0, :, 0, 0] = 0
    flows[0, 0, 0, 1] = np.nan
    flows[0, 1, 0, 2] = np.inf
    flows[0, 1, 1, 0] = 0  # but its other part is 1
    known = np.isfinite(propagated(ArrayTrack([0, 10], flows), 0, 5)).all(axis=0)
    np.testing.assert_array_equal(known, [[False, False, False, True], [True, True, True, True]])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.data())
def test_all_pixels_are_followed_one_by_one(seed: int, count: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.integers(1, 60, count)).tolist()
    flows = rng.normal(0, 2, (count, 2, 4, 5)).round(1)
    flows[rng.random((count, 2, 4, 5)) < 0.05] = 0
    flows[:, :, 2, 2] = 0
    flows[rng.random((count, 2, 4, 5)) < 0.03] = np.nan
    start = data.draw(st.integers(times[0], times[-1] - 1))
    stop = data.draw(st.integers(start + 1, times[-1]))
    found = propagated(ArrayTrack(times, flows), start, stop)
    assert found.dtype == np.float32
    for y in range(4):
        for x in range(5):
            expected = followed(flows, times, start, stop, x, y)
            np.testing.assert_allclose(found[:, y, x], (np.nan, np.nan) if expected is None else expected, atol=1e-5)


def test_a_track_of_it() -> None:
    truth = ArrayTrack([0, 100, 200], np.full((3, 2, 2, 2), 10.0))
    track = PropagatedFlow(truth, np.array([10, 20]), np.array([60, 30]))
    assert len(track) == 2
    assert track.times.tolist() == [10, 20]
    assert [float(track.read(i)[0, 0, 0]) for i in (0, 1)] == [5, 1]


def test_what_no_ground_truth_reaches_is_refused() -> None:
    truth = ArrayTrack([10, 100], np.ones((2, 2, 2, 2)))
    for start, stop in ((5, 50), (50, 101), (50, 50), (60, 50)):
        with pytest.raises(FormatError, match=f"from {start} to {stop} us, got 10 to 100"):
            propagated(truth, start, stop)
    starts, stops = np.array([5, 10, 50, 50]), np.array([50, 100, 101, 50])
    assert covered(truth.times, starts, stops).tolist() == [False, True, False, False]
    assert not covered(np.array([], np.int64), starts, stops).any()
