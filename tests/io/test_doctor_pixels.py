"""Hot pixels, and light that is none; pixels that are too fast."""

import numpy as np
import pytest
from doctor_faults import columns, recording, with_hot_pixel

from eventfm.io.doctor import examine


def found(recording):
    return {finding.name: finding for finding in examine(recording).findings}


@pytest.mark.parametrize("at", [(20, 30), (0, 0), (63, 20)])
@pytest.mark.parametrize("reported", [True, False])
def test_hot_pixels(at, reported):
    x, y, t, p = columns()
    counts = np.zeros((48, 64))
    np.add.at(counts, (y, x), 1)
    near = [
        counts[row, column]
        for row in range(max(at[1] - 1, 0), min(at[1] + 2, 48))
        for column in range(max(at[0] - 1, 0), min(at[0] + 2, 64))
        if (column, row) != at
    ]
    needed = int(np.ceil(10 * (np.median(near) + 1)))
    assert needed > 100
    diagnosis = examine(recording(*with_hot_pixel(x, y, t, p, at, needed - (not reported))))
    assert diagnosis.hot_pixels == ((at,) if reported else ())
    assert [finding.name for finding in diagnosis.findings] == (["hot_pixels"] if reported else [])
    if reported:
        assert diagnosis.findings[0].number == 1


@pytest.mark.parametrize(("count", "span_us", "reported"), [
    (100, 2_000_000, True), (99, 2_000_000, False), (200, 10_000_000, True), (199, 10_000_000, False),
])  # fmt: skip
def test_hot_pixels_have_events_enough_and_a_rate(count, span_us, reported):
    x, y, t, p = columns(3000, span_us)
    away = (x < 40) | (y < 40)  # an empty corner, where the neighbours are silent
    t[-1], away[-1], x[-1], away[0], x[0] = span_us - 1, True, 0, True, 0
    quiet = [column[away] for column in (x, y, t, p)]
    assert (examine(recording(*with_hot_pixel(*quiet, (60, 45), count))).hot_pixels == ((60, 45),)) is reported


def test_hot_pixels_side_by_side_are_all_found():
    hurt = columns()
    block = [(30, 30), (31, 30), (30, 31), (31, 31), (32, 30)]
    for number, at in enumerate(block):
        hurt = with_hot_pixel(*hurt, at, 3000 - 500 * number)
    assert sorted(examine(recording(*hurt)).hot_pixels) == sorted(block)


def shining(*places):
    """Return the columns of a recording without faults, and 2,000 events at each of the places, all together."""
    clean = columns()
    times = np.arange(1000, 1_999_000, 999)
    xs, ys = (np.tile(part, len(times)) for part in np.array(places).T)
    t = np.repeat(times, len(places)) + np.tile(np.arange(len(places)), len(times)) % 5
    p = np.repeat(np.arange(len(times)) % 2, len(places))
    joined = [np.concatenate(pair) for pair in zip(clean, (xs, ys, t, p), strict=True)]
    order = np.argsort(joined[2], kind="stable")
    return [column[order].astype(kept.dtype) for column, kept in zip(joined, clean, strict=True)]


def square(side, x=20, y=20):
    return [(x + i, y + j) for i in range(side) for j in range(side)]


@pytest.mark.parametrize(
    "places",
    [square(3), square(12), square(4, 60, 44), [(20 + i, 20 + j) for i in range(2) for j in range(30)]],
    ids=["a spot", "a lamp", "in the corner", "an edge"],
)
def test_light_that_blinks_is_no_hot_pixel(places):
    diagnosis = examine(recording(*shining(*places)))
    assert diagnosis.hot_pixels == ()
    assert "hot_pixels" not in {finding.name for finding in diagnosis.findings}


def test_from_six_pixels_on_it_is_light():
    few = [(30, 30), (31, 30), (30, 31), (31, 31), (32, 30)]
    assert sorted(examine(recording(*shining(*few))).hot_pixels) == sorted(few)
    assert examine(recording(*shining(*few, (32, 31)))).hot_pixels == ()


@pytest.mark.parametrize(("of_others", "reported"), [(999, True), (1000, False)])
def test_company_has_half_the_events(of_others, reported):
    hurt = columns()
    for number, at in enumerate(square(3)):
        hurt = with_hot_pixel(*hurt, at, of_others if number else 2000)
    assert examine(recording(*hurt)).hot_pixels == (((20, 20),) if reported else ())


def test_a_hot_pixel_beside_a_lamp_is_found():
    # Three pixels away it is none of the lamp's.
    assert examine(recording(*shining(*square(3), (25, 21)))).hot_pixels == ((25, 21),)


@pytest.mark.parametrize(("count", "reported"), [(200, True), (199, False)])
def test_rate_of_a_pixel(count, reported):
    t = np.linspace(0, 9_999, count).astype(np.int64)
    x = np.full(count, 5, np.uint16)
    names = found(recording(x, x, t, (t % 2).astype(np.uint8)))
    assert ("pixel_rate" in names) is reported
    if reported:
        assert names["pixel_rate"].number == pytest.approx(20_000)


@pytest.mark.parametrize(("count", "reported"), [(100, True), (99, False)])
def test_a_fast_pixel_has_a_hundred_events(count, reported):
    t = np.linspace(0, 2_499, count).astype(np.int64)
    x = np.full(count, 5, np.uint16)
    assert ("pixel_rate" in found(recording(x, x, t, (t % 2).astype(np.uint8)))) is reported
