from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.data import perturb
from eventfm.data.perturb import Perturbation
from eventfm.events import Events, Sensor

ALL: dict[str, Perturbation] = {name: kind for name, kind in vars(perturb).items() if isinstance(kind, Perturbation)}

shares = st.floats(0, 1)
seeds = st.integers(0, 2**32)


@st.composite
def windows(draw: st.DrawFn) -> Events:
    rng = np.random.default_rng(draw(seeds))
    sensor = Sensor(draw(st.integers(1, 40)), draw(st.integers(1, 30)), "camera")
    count = draw(st.integers(0, 80))
    start, length = draw(st.integers(-(10**6), 10**12)), draw(st.integers(1, 50_000))
    events = Events(
        rng.integers(0, sensor.width, count).astype(np.uint16),
        rng.integers(0, sensor.height, count).astype(np.uint16),
        np.sort(start + rng.integers(0, length, count)),
        rng.integers(0, 2, count).astype(np.uint8),
        sensor,
        (start, start + length) if draw(st.booleans()) else None,
        rng.integers(0, 2, count).astype(np.uint8) if draw(st.booleans()) else None,
    )
    return events


def rows(events: Events) -> list[tuple[int, ...]]:
    return list(zip(events.x.tolist(), events.y.tolist(), events.t.tolist(), events.p.tolist(), strict=True))


def span(events: Events) -> tuple[int, int]:
    if events.window is not None:
        return events.window
    return (int(events.t[0]), int(events.t[-1]) + 1) if len(events) else (0, 0)


def rng_of(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", ALL)
@given(events=windows(), seed=seeds, severity=st.integers(0, 5))
@settings(deadline=None, max_examples=25)
def test_what_comes_out_is_events(name: str, events: Events, seed: int, severity: int) -> None:
    kind = ALL[name]
    before = rows(events)
    out = kind.apply(events, kind.amount(severity), rng_of(seed))
    assert rows(events) == before, "what went in is untouched"
    Events.checked(out.x, out.y, out.t, out.p, out.sensor)
    assert [column.dtype for column in (out.x, out.y, out.t, out.p)] == [np.uint16, np.uint16, np.int64, np.uint8]
    assert out.window == events.window
    assert (out.noise is None) == (events.noise is None)
    assert out.noise is None or (out.noise.dtype == np.uint8 and len(out.noise) == len(out))
    first, stop = span(events)
    assert not len(out) or (first <= out.t[0] and out.t[-1] < stop)
    if kind.moves is None:
        assert out.sensor == events.sensor
    else:
        geometry = kind.moves(events.sensor, kind.amount(severity))
        assert (out.sensor.height, out.sensor.width) == geometry.out
        assert rows(out) == rows(geometry.events(events)), "as maps of labels are moved"
    assert rows(out) == rows(kind.apply(events, kind.amount(severity), rng_of(seed)))
    if severity == 0:
        assert rows(out) == before
        assert (out.sensor.width, out.sensor.height) == (events.sensor.width, events.sensor.height)


@given(events=windows(), seed=seeds, low=shares, high=shares)
@settings(deadline=None, max_examples=40)
def test_losses_are_of_the_share_and_go_on(events: Events, seed: int, low: float, high: float) -> None:
    low, high = sorted((low, high))
    little, much = (rows(perturb.drop(events, share, rng_of(seed))) for share in (low, high))
    assert (len(little), len(much)) == tuple(len(events) - round(share * len(events)) for share in (low, high))
    rest = iter(little)
    assert all(row in rest for row in much), "what more leave, fewer left too, in the same order"
    assert rows(perturb.change_rate(events, 0.5, rng_of(seed))) == rows(perturb.drop(events, 0.5, rng_of(seed)))


@given(events=windows(), seed=seeds, factor=st.floats(1, 5))
@settings(deadline=None, max_examples=40)
def test_duplicates_are_near_and_even(events: Events, seed: int, factor: float) -> None:
    out = perturb.change_rate(events, factor, rng_of(seed))
    assert len(out) == round(factor * len(events))
    left = rows(out)
    for row in rows(events):
        left.remove(row)  # every original is still there
    assert len(left) == len(out) - len(events)
    reach = 7  # standard deviations
    for x, y, t, p in left:
        near = (np.abs(events.x.astype(int) - x) <= reach) & (np.abs(events.y.astype(int) - y) <= reach)
        assert (near & (np.abs(events.t - t) <= reach * perturb.JITTER_US) & (events.p == p)).any()


def test_every_event_is_duplicated_as_often() -> None:
    n = 50
    spread = np.arange(n) * 20
    events = Events(
        spread.astype(np.uint16),
        np.full(n, 50, np.uint16),
        np.arange(n) * 10**6,
        np.ones(n, np.uint8),
        Sensor(1000, 100),
    )
    out = perturb.change_rate(events, 3.5, rng_of(0))
    of = np.rint(out.x / 20).astype(int)
    counts = np.bincount(of, minlength=n)
    assert set(counts) == {3, 4}
    assert (counts == 4).sum() == n // 2
    assert out.noise is None
    moved = out.x.astype(int) - 20 * of
    assert 0.5 < moved[moved != 0].std() < 2
    late = (out.t - 10**6 * np.rint(out.t / 10**6))[out.t % 10**6 != 0]
    assert 700 < late.std() < 1300


def test_background_activity_has_its_rate_everywhere() -> None:
    sensor, window = Sensor(60, 40), (500, 500 + 2_000_000)
    out = perturb.add_noise(Events.empty(sensor, window), 5.0, rng_of(1))
    expected = 5.0 * 60 * 40 * 2
    assert abs(len(out) - expected) < 6 * np.sqrt(expected)
    for values, cells, low in ((out.x, 60, 0), (out.y, 40, 0), ((out.t - 500) // 100_000, 20, 0), (out.p, 2, 0)):
        counts = np.bincount(values - low, minlength=cells)
        assert len(counts) == cells
        assert np.abs(counts - len(out) / cells).max() < 6 * np.sqrt(len(out) / cells)
    assert len({len(perturb.add_noise(Events.empty(sensor, window), 5.0, rng_of(seed))) for seed in range(5)}) > 1
    assert not len(perturb.add_noise(Events.empty(sensor), 5.0, rng_of(1))), "no window, no time"


@given(events=windows(), seed=seeds, share=shares)
@settings(deadline=None, max_examples=40)
def test_hot_pixels_fire_steadily(events: Events, seed: int, share: float) -> None:
    first, stop = span(events)
    out = perturb.add_hot_pixels(Events.empty(events.sensor, (first, stop)), share, rng_of(seed))
    num_pixels = events.sensor.width * events.sensor.height
    number = max(1, round(share * num_pixels)) if share else 0
    place = out.y.astype(int) * events.sensor.width + out.x
    per_pixel = (stop - first) / 2000  # 500 Hz is one in 2000 us
    assert number * np.floor(per_pixel) <= len(out) <= number * np.ceil(per_pixel)
    assert len(np.unique(place)) <= number
    assert per_pixel < 1 or len(np.unique(place)) == number
    for pixel in np.unique(place)[:5]:
        assert (np.abs(np.diff(out.t[place == pixel]) - 2000) <= 1).all()
        assert len(np.unique(out.p[place == pixel])) == 1
    joined = perturb.add_hot_pixels(events, share, rng_of(seed))
    assert sorted(rows(joined)) == sorted(rows(events) + rows(out))


@given(events=windows(), seed=seeds, share=shares)
@settings(deadline=None, max_examples=40)
def test_polarity(events: Events, seed: int, share: float) -> None:
    flipped = perturb.flip_polarity(events, share, rng_of(seed))
    assert int((flipped.p != events.p).sum()) == round(share * len(events))
    lost = perturb.lose_polarity(events, share, rng_of(seed))
    changed = lost.p != events.p
    assert (lost.p[changed] == 1).all()
    # The draw is the same: what is flipped to OFF there was ON and stays so here.
    np.testing.assert_array_equal(changed, (flipped.p != events.p) & (events.p == 0))
    assert (perturb.lose_polarity(events, 1, rng_of(seed)).p == 1).all()
    for out in (flipped, lost):
        assert [row[:3] for row in rows(out)] == [row[:3] for row in rows(events)]


@given(events=windows(), seed=seeds, low=shares, high=shares)
@settings(deadline=None, max_examples=40)
def test_gaps_are_stretches_of_the_window(events: Events, seed: int, low: float, high: float) -> None:
    first, stop = span(events)
    every = Events(
        np.zeros(stop - first, np.uint16), np.zeros(stop - first, np.uint16), np.arange(first, stop),
        np.zeros(stop - first, np.uint8), events.sensor, events.window,
    )  # fmt: skip
    kept = [set(perturb.cut_gap(every, share, rng_of(seed)).t.tolist()) for share in sorted((low, high))]
    for share, times in zip(sorted((low, high)), kept, strict=True):
        lost = sorted(set(range(first, stop)) - times)
        assert len(lost) == round(share * (stop - first))
        assert not lost or lost[-1] - lost[0] == len(lost) - 1
    out = perturb.cut_gap(events, high, rng_of(seed))
    cut = set(perturb.cut_gap(every, high, rng_of(seed)).t.tolist())
    assert rows(out) == [row for row in rows(events) if row[2] in cut]


def test_gaps_are_anywhere_and_grow() -> None:
    t = np.arange(1000)
    zeros = np.zeros(1000, np.uint16)
    events = Events(zeros, zeros, t, zeros.astype(np.uint8), Sensor(1, 1))
    starts = []
    for seed in range(200):
        small, large = (
            set(range(1000)) - set(perturb.cut_gap(events, share, rng_of(seed)).t.tolist()) for share in (0.2, 0.5)
        )
        assert small <= large
        starts.append(min(small))
    assert min(starts) < 60
    assert max(starts) > 740
    assert max(starts) <= 800


def test_another_sensor() -> None:
    x, y = np.meshgrid(np.arange(12), np.arange(8))
    n = x.size
    events = Events(
        x.ravel().astype(np.uint16), y.ravel().astype(np.uint16), np.arange(n), np.ones(n, np.uint8), Sensor(12, 8)
    )
    half = perturb.downsample(events, 2, rng_of(0))
    assert (half.sensor.width, half.sensor.height, len(half)) == (6, 4, n)
    np.testing.assert_array_equal(half.x, events.x // 2)
    np.testing.assert_array_equal(half.y, events.y // 2)
    centre = perturb.crop(events, 0.5, rng_of(0))
    assert rows(centre) == [(x - 3, y - 2, t, p) for x, y, t, p in rows(events) if 3 <= x < 9 and 2 <= y < 6]
    slim = perturb.narrow(events, 0.5, rng_of(0))
    assert rows(slim) == [(x - 3, y, t, p) for x, y, t, p in rows(events) if 3 <= x < 9]
    tiny = perturb.downsample(events, 100, rng_of(0))
    assert (tiny.sensor.width, tiny.sensor.height, len(tiny)) == (1, 1, n)


def test_what_a_simulator_knows_is_kept() -> None:
    known = Events(
        np.arange(4, dtype=np.uint16), np.zeros(4, np.uint16), np.arange(4) * 10_000, np.ones(4, np.uint8),
        Sensor(4, 1), (0, 40_000), np.array([0, 1, 0, 1], np.uint8),
    )  # fmt: skip
    noisy = perturb.add_noise(known, 100, rng_of(0))
    assert noisy.noise is not None
    assert noisy.noise.sum() == len(noisy) - 2
    hot = perturb.add_hot_pixels(known, 0.25, rng_of(0))
    assert hot.noise is not None
    assert (hot.noise == 0).sum() == 2
    double = perturb.change_rate(known, 2, rng_of(0))
    assert double.noise is not None
    assert double.noise.sum() == 4
    part = perturb.crop(known, 0.5, rng_of(0))
    assert part.noise is not None
    assert part.noise.tolist() == [1, 0]


def test_amounts_get_worse_and_bad_ones_are_refused() -> None:
    assert len(ALL) == 10
    for kind in ALL.values():
        steps = [abs(kind.amount(severity) - kind.none) for severity in range(6)]
        assert steps == sorted(set(steps))
        assert kind.what
        assert kind.unit in {"share", "times", "Hz"}
        for wrong in (-1, 6):
            with pytest.raises(ValueError, match=rf"severity from 0 \(none\) to 5, got {wrong}"):
                kind.amount(wrong)
    events = Events.empty(Sensor(4, 4), (0, 10))
    for function in (perturb.drop, perturb.add_hot_pixels, perturb.lose_polarity, perturb.cut_gap, perturb.crop):
        for share in (-0.1, 1.1, float("nan")):
            with pytest.raises(ValueError, match="share from 0 to 1"):
                function(events, share, rng_of(0))
    with pytest.raises(ValueError, match="factor of 0 or more"):
        perturb.change_rate(events, -1, rng_of(0))
    with pytest.raises(ValueError, match="rate of 0 Hz or more"):
        perturb.add_noise(events, -1, rng_of(0))
    with pytest.raises(ValueError, match="factor of 1 or more"):
        perturb.downsample(events, 0.5, rng_of(0))
