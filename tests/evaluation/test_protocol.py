from __future__ import annotations

import numpy as np
import pytest

from eventfm.evaluation.probes import Prediction, ProbeError, linear
from eventfm.evaluation.protocol import ProtocolError, Score, paired_difference, parts, score


def test_folds_score_everything_once() -> None:
    protocol = parts(["train"] * 6, [0, 1, 2, 0, 1, 2])
    assert [part.fold for part in protocol] == [0, 1, 2]
    assert sorted(np.concatenate([part.test for part in protocol])) == list(range(6))
    for part in protocol:
        assert not set(part.train) & set(part.test)
        assert len(part.train) == 4


def test_splits() -> None:
    (part,) = parts(["train", "test", "train", ""], [None] * 4)
    assert part.train.tolist() == [0, 2]
    assert part.test.tolist() == [1]
    with pytest.raises(ProtocolError, match="splits 'train' and 'test'"):
        parts(["train", ""], [None, 1])


def test_one_fold_alone_is_refused() -> None:
    with pytest.raises(ProtocolError, match="got fold 3 alone"):
        parts(["train", "test"], [3, 3])


def test_score_says_which_part_cannot_be_learnt_from() -> None:
    """Without fold 1 only one class is left."""
    labels = np.array([0, 0, 0, 1, 1, 1])
    protocol = parts([""] * 6, [0, 0, 0, 1, 1, 1])
    with pytest.raises(ProbeError, match=r"ours, linear, fold 0: expected at least 2 classes.*got 1 classes"):
        score("ours", "linear", linear, [np.zeros((6, 2), np.float32)] * 2, labels, protocol)


def test_score_gives_each_part_its_features_and_hides_test_labels() -> None:
    labels = np.array([0, 1, 0, 1])
    protocol = parts([""] * 4, [0, 0, 1, 1])
    features = [np.full((4, 1), part.fold, np.float32) for part in protocol]
    seen = []

    def probe(train: np.ndarray, train_labels: np.ndarray, test: np.ndarray) -> Prediction:
        seen.append((train[0, 0], train_labels.tolist(), len(test)))
        return Prediction(np.zeros(len(test), np.int64), {"k": 1})

    result = score("a", "b", probe, features, labels, protocol)
    assert seen == [(0.0, [0, 1], 2), (1.0, [0, 1], 2)]
    assert result.correct.tolist() == [True, False, True, False]
    assert result.accuracy == 0.5
    assert result.settings == [{"k": 1}] * 2


def of(correct: np.ndarray) -> Score:
    return Score("x", "y", correct.astype(bool))


def test_interval_has_the_width_of_a_binomial() -> None:
    rng = np.random.default_rng(0)
    correct = rng.random(1000) < 0.8
    low, high = of(correct).interval()
    share = correct.mean()
    expected = 1.96 * np.sqrt(share * (1 - share) / 1000)
    assert abs((high - low) / 2 - expected) < 0.1 * expected
    assert low < share < high


def test_paired_interval_uses_the_pairing() -> None:
    """Two classifiers that differ in 30 of 1000 samples, all in one direction: the pairing makes that certain."""
    rng = np.random.default_rng(0)
    worse = rng.random(1000) < 0.5
    better = worse.copy()
    better[np.flatnonzero(~worse)[:30]] = True
    difference, low, high = paired_difference(of(better), of(worse))
    assert difference == pytest.approx(0.03)
    spread = 1.96 * np.sqrt(0.03 * 0.97 / 1000)
    assert low == pytest.approx(0.03 - spread, abs=0.002)
    assert high == pytest.approx(0.03 + spread, abs=0.002)
    # Unpaired, the same figures would say nothing.
    assert paired_difference(of(better), of(rng.permutation(worse)))[1] < 0


def test_paired_bootstrap_equals_plain_resampling() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random(200) < 0.7, rng.random(200) < 0.6
    _, low, high = paired_difference(of(a), of(b))
    rows = rng.integers(0, 200, (10_000, 200))
    plain = (a[rows].astype(float) - b[rows]).mean(1)
    assert np.quantile(plain, 0.025) == pytest.approx(low, abs=0.01)
    assert np.quantile(plain, 0.975) == pytest.approx(high, abs=0.01)
