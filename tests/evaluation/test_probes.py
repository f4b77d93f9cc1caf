from __future__ import annotations

import numpy as np
import pytest

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


def test_penalty_is_chosen_inside_the_training_part() -> None:
    """With 300 useless features beside 3 useful ones, a stronger penalty than the weakest must win."""
    rng = np.random.default_rng(0)
    train, labels = clusters(rng, 60, 1.0)
    noisy = np.hstack([train, rng.normal(0, 1, (60, 300)).astype(np.float32)])
    assert probes.ridge(noisy, labels, noisy).setting["alpha"] > probes.ridge(train, labels, train).setting["alpha"]


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
