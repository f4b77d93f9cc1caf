from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import StratifiedKFold

from eventfm.evaluation import probes

PROBES = [probes.linear, probes.nearest_neighbours, probes.ridge, probes.rbf_svm]


def clusters(rng: np.random.Generator, count: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(count) % 3
    centres = np.array([[3.0, 0, 0], [0, 3, 0], [0, 0, 3]])
    return (centres[labels] + rng.normal(0, noise, (count, 3))).astype(np.float32), labels


@pytest.mark.parametrize("probe", PROBES)
def test_separable_classes_are_learnt_and_noise_is_not(probe: probes.Probe) -> None:
    rng = np.random.default_rng(0)
    train, labels = clusters(rng, 60, 0.3)
    test, truth = clusters(rng, 300, 0.3)
    assert (probe(train, labels, test).labels == truth).mean() > 0.97
    chance = (probe(train, rng.permutation(labels), test).labels == truth).mean()
    assert chance < 0.75


@pytest.mark.parametrize("probe", PROBES)
def test_result_is_a_function_of_the_features(probe: probes.Probe) -> None:
    rng = np.random.default_rng(0)
    train, labels = clusters(rng, 60, 2.0)
    test, _ = clusters(rng, 60, 2.0)
    first, second = probe(train, labels, test), probe(train, labels, test)
    np.testing.assert_array_equal(first.labels, second.labels)
    assert first.setting == second.setting


def test_penalty_is_the_best_of_four_folds_of_the_training_part() -> None:
    """The same choice made by hand: standardise, fit and score each inner fold, and take the best mean."""
    rng = np.random.default_rng(1)
    train, labels = clusters(rng, 60, 1.0)
    noisy = np.hstack([train, rng.normal(0, 1, (60, 300)).astype(np.float32)])
    scores = {}
    for alpha in (1.0, 10.0, 100.0, 300.0, 1e3, 3e3, 1e4):
        right = []
        for kept, left in StratifiedKFold(4, shuffle=True, random_state=0).split(noisy, labels):
            mean, spread = noisy[kept].mean(0), noisy[kept].std(0)
            model = RidgeClassifier(alpha=alpha).fit((noisy[kept] - mean) / spread, labels[kept])
            right.append((model.predict((noisy[left] - mean) / spread) == labels[left]).mean())
        scores[alpha] = np.mean(right)
    chosen = probes.ridge(noisy, labels, noisy).setting["alpha"]
    assert scores[chosen] == max(scores.values())
    assert chosen > 1.0  # 300 useless features beside 3 useful ones ask for more than the weakest penalty


@pytest.mark.parametrize("probe", PROBES)
def test_each_test_sample_is_judged_by_itself(probe: probes.Probe) -> None:
    rng = np.random.default_rng(0)
    train, labels = clusters(rng, 60, 1.5)
    test, _ = clusters(rng, 40, 1.5)
    together = probe(train, labels, test).labels
    np.testing.assert_array_equal(probe(train, labels, test[:7]).labels, together[:7])


@pytest.mark.parametrize("probe", PROBES)
def test_nothing_to_learn_from(probe: probes.Probe) -> None:
    empty = np.empty((0, 2), np.float32)
    with pytest.raises(probes.ProbeError, match="got 0 classes"):
        probe(empty, np.empty(0, np.int64), np.ones((3, 2), np.float32))


def test_scale_of_features_does_not_matter_to_the_linear_probe() -> None:
    rng = np.random.default_rng(0)
    train, labels = clusters(rng, 60, 1.0)
    scale = np.array([1e-3, 1.0, 1e3], np.float32)
    np.testing.assert_array_equal(
        probes.linear(train, labels, train).labels, probes.linear(train * scale, labels, train * scale).labels
    )


def test_clear_errors() -> None:
    features = np.ones((4, 2), np.float32)
    with pytest.raises(probes.ProbeError, match="2 classes"):
        probes.linear(features, np.zeros(4, np.int64), features)
    broken = features.copy()
    broken[1, 1] = np.nan
    with pytest.raises(probes.ProbeError, match="finite training features, 1 rows"):
        probes.linear(broken, np.array([0, 0, 1, 1]), features)
