"""The compiled loops against their numpy twins, and those against sums done by hand in exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.representations import kernels

HEIGHT, WIDTH = 5, 7


@st.composite
def columns(draw):
    """Up to 60 events on few pixels, so that cells repeat; clocks may be negative, huge, or hardly move."""
    size = draw(st.integers(1, 60))
    start = draw(st.sampled_from([0, 17, -1_000, 1_700_000_000_000_000]))
    longest = draw(st.sampled_from([0, 3, 40, 1_000_000]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return (
        rng.integers(0, WIDTH, size).astype(np.uint16),
        rng.integers(0, HEIGHT, size).astype(np.uint16),
        np.sort(rng.integers(start, start + longest + 1, size)),
        rng.integers(0, 2, size).astype(np.uint8),
    )


def voxels_by_hand(x, y, t, p, first, last, num_bins):
    grid = {}
    for xi, yi, ti, pi in zip(x.tolist(), y.tolist(), t.tolist(), p.tolist(), strict=True):
        tau = Fraction((num_bins - 1) * (ti - first), max(last - first, 1))
        i, sign = int(tau), 2 * pi - 1
        grid[i, yi, xi] = grid.get((i, yi, xi), 0) + sign * (1 - (tau - i))
        if i + 1 < num_bins:
            grid[i + 1, yi, xi] = grid.get((i + 1, yi, xi), 0) + sign * (tau - i)
    out = np.zeros((num_bins, HEIGHT, WIDTH))
    for cell, value in grid.items():
        out[cell] = float(value)
    return out


def counts_by_hand(x, y, t, p, first, last, num_bins, ceiling):
    out = np.zeros((2 * num_bins, HEIGHT, WIDTH))
    for xi, yi, ti, pi in zip(x.tolist(), y.tolist(), t.tolist(), p.tolist(), strict=True):
        i = min(int(Fraction(num_bins * (ti - first), max(last - first, 1))), num_bins - 1)
        cell = (i if pi else num_bins + i, yi, xi)
        out[cell] = min(out[cell] + 1, ceiling)
    return out


@settings(deadline=None)  # the first example may compile the kernel
@given(columns(), st.integers(1, 6), st.integers(0, 9), st.integers(0, 9))
def test_voxels_equal_their_twin_bit_for_bit_and_the_sum_by_hand(events, num_bins, before, after):
    first, last = int(events[2][0]) - before, int(events[2][-1]) + after
    out = np.zeros((num_bins, HEIGHT, WIDTH), np.float32)
    assert kernels.add_voxels(*events, first, last, out) == len(events[0])
    twin = kernels.voxels_numpy(*events, first, last, out.shape)
    np.testing.assert_array_equal(out, twin)
    np.testing.assert_allclose(twin, voxels_by_hand(*events, first, last, num_bins), rtol=0, atol=2e-5)


@settings(deadline=None)  # the first example may compile the kernel
@given(columns(), st.integers(1, 6), st.integers(0, 9), st.sampled_from([1, 2, 255]))
def test_counts_equal_their_twin_and_the_count_by_hand(events, num_bins, after, ceiling):
    first, last = int(events[2][0]), int(events[2][-1]) + after
    out = np.zeros((2 * num_bins, HEIGHT, WIDTH), np.float32)
    assert kernels.add_counts(*events, first, last, ceiling, out) == len(events[0])
    np.testing.assert_array_equal(out, kernels.counts_numpy(*events, first, last, ceiling, out.shape))
    np.testing.assert_array_equal(out, counts_by_hand(*events, first, last, num_bins, ceiling))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("x", WIDTH),
        ("y", HEIGHT),
        ("x", 65535),
        ("t", 1),  # earlier than the event before it
        ("t", -5),  # before the span
        ("t", 41),  # after the span
    ],
)
@pytest.mark.parametrize("kind", ["voxels", "counts"])
def test_stops_at_the_first_bad_event_and_writes_nothing_outside(column, value, kind):
    events = {
        "x": np.array([0, 1, 2, 3], np.uint16),
        "y": np.array([0, 1, 2, 3], np.uint16),
        "t": np.array([0, 20, 30, 40]),
        "p": np.array([1, 0, 1, 0], np.uint8),
    }
    events[column][2] = value
    room = np.zeros((3, 4, HEIGHT, WIDTH), np.float32)  # planes before and after the output
    if kind == "voxels":
        added = kernels.add_voxels(*events.values(), 0, 40, room[1])
    else:
        added = kernels.add_counts(*events.values(), 0, 40, 255, room[1])
    assert added == 2
    assert not room[0].any()
    assert not room[2].any()


def test_signed_columns_cannot_reach_backwards():
    out = np.zeros((2, HEIGHT, WIDTH), np.float32)
    zero, one = np.zeros(1, np.int64), np.ones(1, np.int64)
    assert kernels.add_voxels(-one, zero, zero, one, 0, 10, out) == 0
    assert kernels.add_counts(zero, -one, zero, one, 0, 10, 255, out) == 0
    assert not out.any()


def test_a_full_counter_stays_full():
    num_events = 300
    zeros = np.zeros(num_events, np.uint16)
    t, p = np.arange(num_events), np.ones(num_events, np.uint8)
    out = np.zeros((2, HEIGHT, WIDTH), np.float32)
    kernels.add_counts(zeros, zeros, t, p, 0, num_events, 255, out)
    assert out[0, 0, 0] == 255
    out[0, 0, 0] = 2.0**24 - 1  # where float32 stops telling neighbours apart
    kernels.add_counts(zeros, zeros, t, p, 0, num_events, 2.0**24, out)
    assert out[0, 0, 0] == 2.0**24
