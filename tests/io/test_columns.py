"""Tables of numbers to columns."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.io import FormatError
from eventfm.io.columns import file_columns, guess_order, to_microseconds


@given(st.lists(st.integers(-(2**52) // 10**6, 2**52 // 10**6 - 1), min_size=1), st.integers(1, 999_999))
@settings(max_examples=60, deadline=None)
def test_seconds_with_a_fraction_are_exact_to_the_microsecond(seconds, fraction):
    times = [second * 10**6 + fraction for second in seconds]
    found = to_microseconds(np.array([time / 1e6 for time in times]), "test")
    assert np.abs(found - np.array(times)).max() <= 1  # float64 resolves no more at 2**52 us
    if max(map(abs, times)) < 10**14:
        assert found.tolist() == times


@pytest.mark.parametrize(
    ("times", "unit", "expected"),
    [
        (np.array([1.0, 2.0]), None, [1, 2]),
        (np.array([1.0, 2.0]), "s", [10**6, 2 * 10**6]),
        (np.array([1, 2], np.uint32), None, [1, 2]),
        (np.array([1, 2], np.uint32), "s", [10**6, 2 * 10**6]),
        (np.array([0.0000015, 0.0000025]), None, [2, 2]),
        (np.array([1.25, 2.0], np.float32), "us", [1, 2]),
        (np.empty(0), None, []),
    ],
)
def test_units(times, unit, expected):
    found = to_microseconds(times, "test", unit)
    assert found.dtype == np.int64
    assert found.tolist() == expected


@pytest.mark.parametrize(
    "times", [[np.nan], [np.inf, 0.5], [1e300], np.array([2**63], np.uint64), np.array(["a"]), [True]]
)
def test_times_that_are_none(times):
    with pytest.raises(FormatError, match="test: "):
        to_microseconds(np.asarray(times), "test")


def test_guess_order_needs_a_polarity():
    with pytest.raises(FormatError, match="first row is 1 2 3 9"):
        guess_order(np.array([[1.0, 2, 3, 9]] * 5))
    assert guess_order(np.empty((0, 4))) == "txyp"


def test_one_stray_row_does_not_change_the_order():
    rows = np.array([[i % 7, i % 5, 100.0 * i, i % 2] for i in range(100)])
    rows[50] = [-3, 99_999, 5000, 1]
    assert guess_order(rows) == "xytp"


@pytest.mark.parametrize("name", ["x", "p", "t"])
def test_columns_that_are_no_numbers(name):
    columns = {key: np.zeros(2) for key in "xytp"}
    columns[name] = np.array(["a", "b"])
    with pytest.raises(FormatError, match=f"expected numbers as {name}"):
        file_columns(columns, "test")
