from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from eventfm.evaluation.intervals import added_up, interval, paired_interval, seed_interval
from eventfm.evaluation.protocol import Score, paired_difference
from eventfm.tasks.metric_checks import NothingMeasuredError
from eventfm.tasks.metrics import build_metrics


def ratio(sums: np.ndarray) -> dict[str, float]:
    """Return the mean of (N, 2) rows of a sum and its number of pixels."""
    if not sums[1]:
        raise NothingMeasuredError("nothing")
    return {"mean": float(sums[0] / sums[1])}


def rows_of(seed: int, count: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    pixels = generator.integers(1, 50, count)
    return np.stack([pixels * generator.normal(3, 1, count), pixels], 1)


def test_against_scipy() -> None:
    rows = rows_of(0, 60)
    found = interval(rows, ratio, num=4000)["mean"]
    assert found.value == pytest.approx(rows[:, 0].sum() / rows[:, 1].sum())
    theirs = stats.bootstrap(
        (rows[:, 0], rows[:, 1]),
        lambda a, b, axis: a.sum(axis) / b.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    width = theirs.high - theirs.low
    assert [found.low, found.high] == pytest.approx([theirs.low, theirs.high], abs=0.06 * width)


def test_accuracy_agrees_with_the_interval_of_probes() -> None:
    correct = np.arange(200) % 4 > 0
    low, high = Score("a", "b", correct).interval()
    rows = np.stack([correct, correct, np.ones(200)], 1).astype(float)[:, [2, 0, 1]]
    found = interval(rows, build_metrics("recognition").from_sums)["top1"]
    assert found == pytest.approx((0.75, low, high), abs=0.011)


def test_level_and_seed() -> None:
    rows = rows_of(1, 40)
    assert interval(rows, ratio, num=200) == interval(rows, ratio, num=200)
    assert interval(rows, ratio, num=200) != interval(rows, ratio, num=200, seed=1)
    narrow, wide = (interval(rows, ratio, level=level)["mean"] for level in (0.5, 0.95))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(1.96 / 0.674, rel=0.15)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    held = 0
    for seed in range(200):
        found = interval(rows_of(seed + 10, 50), ratio, num=200, seed=seed, level=0.9)["mean"]
        held += found.low <= 3 <= found.high
    assert 165 <= held <= 192


def test_pairs_share_their_draws() -> None:
    """A system that is worse by 0.1 on every sample is surely worse, though samples differ by ten times that."""
    rows = rows_of(2, 50)
    worse = rows - np.stack([0.1 * rows[:, 1], 0 * rows[:, 1]], 1)
    found = paired_interval(rows, worse, ratio)["mean"]
    assert found == pytest.approx((0.1, 0.1, 0.1), abs=1e-9)
    assert paired_interval(worse, rows, ratio)["mean"].value == pytest.approx(-0.1)
    own = interval(rows, ratio)["mean"]
    assert own.high - own.low > 0.3


def test_pairs_agree_with_those_of_probes() -> None:
    generator = np.random.default_rng(4)
    a, b = generator.random((2, 300)) < [[0.8], [0.7]]
    theirs = paired_difference(Score("a", "", a), Score("b", "", b))
    rows = [np.stack([np.ones(300), correct, correct], 1) for correct in (a, b)]
    ours = paired_interval(*rows, build_metrics("recognition").from_sums)["top1"]
    assert ours == pytest.approx(theirs, abs=0.011)


def test_a_figure_that_few_draws_can_measure_has_no_interval() -> None:
    """One sample of twenty has an event: 36 % of the draws are without it."""
    rows = np.zeros((20, 14))
    rows[:, :7] = [10, 5, 4, 3, 2, 1, 30]
    rows[0, 7:] = rows[0, :7]
    metrics = build_metrics("flow")
    assert "epe_events" in metrics.from_sums(rows.sum(0))
    found = interval(rows, metrics.from_sums, num=300)
    assert "epe_events" not in found
    assert found["epe"] == (0.5, 0.5, 0.5)
    rows[:10, 7:] = rows[:10, :7]
    assert interval(rows, metrics.from_sums, num=300)["epe_events"] == (0.5, 0.5, 0.5)


def test_draws_without_anything_to_measure_are_passed_over() -> None:
    rows = np.array([[3.0, 1.0], [5.0, 1.0], [4.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    found = interval(rows, ratio, num=500)["mean"]
    assert (found.value, found.low, found.high) == (4.0, 3.0, 5.0)


def test_refusals() -> None:
    rows = rows_of(0, 5)
    with pytest.raises(ValueError, match=r"two samples or more, got shape \(1, 2\)"):
        interval(rows[:1], ratio)
    with pytest.raises(ValueError, match=r"two samples or more, got shape \(5,\)"):
        interval(rows[:, 0], ratio)
    with pytest.raises(ValueError, match=r"same samples, got shapes \[\(5, 2\), \(4, 2\)\]"):
        paired_interval(rows, rows[:4], ratio)
    with pytest.raises(NothingMeasuredError, match="nothing"):
        interval(0 * rows, ratio)
    with pytest.raises(ValueError, match="expected finite figures, got mean nan"):
        interval(rows * np.nan, ratio)
    with pytest.raises(ValueError, match="level between 0 and 1, got 2000 and 95"):
        interval(rows, ratio, level=95)


def test_seeds() -> None:
    figures = [61.1, 60.2, 62.4]
    found = seed_interval(figures)
    assert found.mean == pytest.approx(61.2333333333)
    assert found.std == pytest.approx(1.1060440015)
    theirs = stats.t.interval(0.95, 2, loc=np.mean(figures), scale=stats.sem(figures))
    assert (found.low, found.high) == pytest.approx(theirs)
    assert found.high - found.mean == pytest.approx(4.3026527297 * 1.1060440015 / 3**0.5)
    assert seed_interval([0.5, 0.5]) == (0.5, 0.0, 0.5, 0.5)
    with pytest.raises(ValueError, match="two seeds or more, got 1"):
        seed_interval([61.1])
    with pytest.raises(ValueError, match="finite figures"):
        seed_interval([61.1, float("nan")])


def test_rows_of_a_group_are_added_up() -> None:
    sums = np.array([[1.0, 2.0], [10.0, 20.0], [100.0, 200.0], [1000.0, 2000.0]])
    np.testing.assert_array_equal(added_up(sums, np.array([7, 2, 7, 5])), [[10, 20], [1000, 2000], [101, 202]])
