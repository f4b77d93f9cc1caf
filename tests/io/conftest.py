"""What the tests of the readers share: made-up events, checks that every reader must pass."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from eventfm.events import Events, Sensor

sys.path.insert(0, str(Path(__file__).parent))

COLUMNS = "xytp"


@pytest.fixture
def make_events():
    """Random events in order, with ties, the far corner among them."""

    def make(count=500, width=40, height=30, seed=0, start_us=1_000, span_us=60_000):
        rng = np.random.default_rng(seed)
        x, y = rng.integers(0, width, count), rng.integers(0, height, count)
        t = np.sort(rng.integers(start_us, start_us + span_us, count))
        if count:
            x[0], y[0], t[0], t[-1] = width - 1, height - 1, start_us, start_us + span_us
            t[count // 2 : count // 2 + 5] = t[count // 2]
            t = np.sort(t)
        return Events.checked(x, y, t, rng.integers(0, 2, count), Sensor(width, height))

    return make


@pytest.fixture
def assert_same():
    """Two `Events` agree in every column and dtype."""

    def check(found, expected):
        for name in COLUMNS:
            a, b = getattr(found, name), getattr(expected, name)
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b, err_msg=name)

    return check


@pytest.fixture
def assert_contract(assert_same):
    """A recording holds `expected`, reads at random as slices of the whole, and survives pickling."""

    def check(recording, expected):
        n = len(expected)
        assert recording.num_events == n
        whole_range = (int(expected.t[0]), int(expected.t[-1])) if n else (0, -1)
        assert recording.t_range == whole_range
        assert_same(recording.events_by_index(0, n), expected)
        again = pickle.loads(pickle.dumps(recording))
        assert again.t_range == recording.t_range
        assert again.sensor == recording.sensor
        assert set(again.tracks) == set(recording.tracks)
        first, last = whole_range
        rng = np.random.default_rng(1)
        cuts = [tuple(sorted(rng.integers(first - 2000, last + 2000, 2).tolist())) for _ in range(12)] if n else []
        edges = [(first, last), (first, last + 1), (last, last + 1), (last + 1, last + 5000), (first - 9, first)]
        for t0, t1 in [*cuts, *edges, (first, first), (-(10**7), 10**18)]:
            keep = (expected.t >= t0) & (expected.t < t1)
            for one in (recording, again):
                found = one.events(t0, t1)
                assert found.window == (t0, t1)
                for name in COLUMNS:
                    np.testing.assert_array_equal(getattr(found, name), getattr(expected, name)[keep])
        for start, stop in [(0, 1), (n // 3, n // 2), (n - 1, n + 10), (n, n + 1), (-5, 2), (3, 1)]:
            assert_same(recording.events_by_index(start, stop), expected.take(max(start, 0), max(stop, 0)))

    return check


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    """Keep no columns from when a file was opened, so that what is asked for is decoded; `test_gathered.py` does."""
    monkeypatch.setattr("eventfm.io.gathered.BUDGET", 0)
