"""EvRep: the compiled loop against its twin and against exact fractions; intervals that stay with their pixel."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from math import sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.events import EventBatch, Events, Sensor
from eventfm.representations import EvRep, PolarityCounts, intervals

HEIGHT, WIDTH = 3, 4
LONGEST = 1000.0


@st.composite
def columns(draw):
    """Up to 80 events on 12 pixels; clocks may be negative, huge, or hardly move."""
    size = draw(st.integers(0, 80))
    start = draw(st.sampled_from([0, 17, -1_000, 1_700_000_000_000_000]))
    longest = draw(st.sampled_from([0, 3, 400, 50_000, 30_000_000]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return (
        rng.integers(0, WIDTH, size).astype(np.uint16),
        rng.integers(0, HEIGHT, size).astype(np.uint16),
        np.sort(rng.integers(start, start + longest + 1, size)),
        rng.integers(0, 2, size).astype(np.uint8),
    )


def by_hand(x, y, t, p):
    """Return EvRep (3, H, W) float64 from exact fractions, pixel by pixel."""
    out = np.zeros((3, HEIGHT, WIDTH))
    for row in range(HEIGHT):
        for column in range(WIDTH):
            mine = [i for i in range(len(t)) if (x[i], y[i]) == (column, row)]
            times = [int(t[i]) for i in mine]
            gaps = [Fraction(b - a) for a, b in pairwise(times)]
            mean = sum(gaps) / max(len(gaps), 1)
            variance = sum((gap - mean) ** 2 for gap in gaps) / max(len(gaps), 1)
            out[:, row, column] = len(mine), sum(1 if p[i] else -1 for i in mine), min(sqrt(variance), LONGEST)
    return out


@settings(deadline=None)  # the first example may compile the kernel
@given(columns())
def test_the_loop_equals_its_twin_bit_for_bit_and_the_count_by_hand(events):
    out = np.full((3, HEIGHT, WIDTH), 7, np.float32)
    assert intervals.add_evrep(*events, LONGEST, out) == len(events[2])
    np.testing.assert_array_equal(out, intervals.evrep_numpy(*events, LONGEST, out.shape))
    np.testing.assert_allclose(out, by_hand(*events), rtol=1e-6, atol=0)


def evrep(t, x, p=1):
    t = np.asarray(t, np.int64)
    events = Events.checked(np.asarray(x), np.zeros(len(t), int), t, np.broadcast_to(p, t.shape), Sensor(WIDTH, HEIGHT))
    out = EvRep()(events)
    torch.testing.assert_close(EvRep().batched(EventBatch.collate([events]))[0], out, rtol=0, atol=0)
    return out[:, 0]


def test_no_interval_leaks_from_one_pixel_to_another():
    # Published code gives 5 and 12.5 here: 0 and 10 for the first pixel, then the way back to the second as well.
    assert evrep([0, 10, 20, 30], [0, 0, 1, 1])[2].tolist() == [0, 0, 0, 0]
    spread = evrep([0, 5, 10, 15, 30, 55], [0, 1, 0, 1, 0, 1])[2].tolist()
    assert spread == [5, 15, 0, 0]  # gaps of 10 and 20, and of 10 and 40


def test_a_pixel_does_not_see_its_neighbours():
    among = evrep([0, 3, 7, 9, 20, 21, 90], [1, 0, 1, 3, 1, 2, 1])
    alone = evrep([0, 7, 20, 90], [1, 1, 1, 1])
    torch.testing.assert_close(among[:, 1], alone[:, 1], rtol=0, atol=0)


def test_both_polarities_make_intervals_and_the_sum_is_signed():
    assert evrep([0, 10, 40], [2, 2, 2], [1, 0, 0])[:, 2].tolist() == [3, -1, 10]


def test_the_spread_is_cut_off_and_long_equal_intervals_have_none():
    assert evrep([0, 10, 2_010], [0] * 3)[2, 0] == 995
    assert evrep([0, 10, 9_000_000_000], [0] * 3)[2, 0] == 1000
    day = 86_400_000_000
    assert evrep([0, day, 2 * day, 3 * day + 4], [0] * 4)[2, 0] == pytest.approx(sqrt(32 / 9))


def test_a_spread_of_a_microsecond_survives_long_intervals_and_a_hot_pixel():
    gaps = np.where(np.arange(100_000) % 2, 1_000_001, 999_999)
    assert evrep(np.cumsum(gaps), np.zeros(100_000, int))[2, 0] == pytest.approx(1, rel=1e-6)


@settings(deadline=None)  # the first example may compile the kernel
@given(columns())
def test_running_time_backwards_keeps_the_statistics_but_for_the_sign(events):
    sensor = Sensor(WIDTH, HEIGHT)
    x, y, t, p = events
    there = EvRep()(Events(x, y, t, p, sensor))
    back = EvRep()(Events(x[::-1].copy(), y[::-1].copy(), -t[::-1], 1 - p[::-1], sensor))
    torch.testing.assert_close(back * torch.tensor([1, -1, 1])[:, None, None], there, rtol=1e-6, atol=0)


@settings(deadline=None)  # the first example may compile the kernel
@given(columns())
def test_counts_are_those_of_the_polarities(events):
    counts = PolarityCounts()(Events(*events, Sensor(WIDTH, HEIGHT)))
    out = EvRep()(Events(*events, Sensor(WIDTH, HEIGHT)))
    torch.testing.assert_close(out[:2], torch.stack([counts[0] + counts[1], counts[0] - counts[1]]), rtol=0, atol=0)


@pytest.mark.parametrize(("column", "value"), [("x", WIDTH), ("y", HEIGHT), ("x", 65535), ("t", 1)])
def test_stops_at_the_first_bad_event_and_writes_nothing_outside(column, value):
    events = {
        "x": np.array([0, 1, 2, 3], np.uint16),
        "y": np.array([0, 1, 2, 0], np.uint16),
        "t": np.array([0, 20, 30, 40]),
        "p": np.array([1, 0, 1, 0], np.uint8),
    }
    events[column][2] = value
    room = np.zeros((3, 3, HEIGHT, WIDTH), np.float32)  # planes before and after the output
    assert intervals.add_evrep(*events.values(), LONGEST, room[1]) == 2
    assert not room[0].any()
    assert not room[2].any()
    assert room[1, 0].sum() == 2
