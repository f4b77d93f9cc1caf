"""Protocols: which samples a probe learns from and is scored on, and how sure the scores are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventfm.evaluation.probes import Probe, ProbeError
from eventfm.random import generator

NUM_RESAMPLES = 10_000


class ProtocolError(ValueError):
    """Raised when a collection has neither folds nor the splits a protocol needs."""


@dataclass(frozen=True)
class Part:
    """One fitting: the samples to learn from, those to score, and the fold that they are."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    fold: int | None = None


@dataclass(frozen=True)
class Score:
    """Result of one probe on one set of features over all parts of a protocol."""

    name: str
    probe: str
    correct: NDArray[np.bool_]
    """(N,) for every scored sample, in the order of the collection."""
    settings: list[dict[str, Any]] = field(default_factory=list)

    @property
    def accuracy(self) -> float:
        """Share of scored samples that are right."""
        return float(self.correct.mean())

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the bootstrap interval of the accuracy over samples."""
        return _interval(self.correct.astype(np.float64), level)


def parts(splits: Sequence[str], folds: Sequence[int | None]) -> list[Part]:
    """Return one part per fold where every sample has a fold, else one part `train` to `test`.

    Raises:
        ProtocolError: Neither is there, or there is one fold only.
    """
    if len(folds) and all(fold is not None for fold in folds):
        of = np.array(folds, np.int64)
        if len(np.unique(of)) < 2:
            raise ProtocolError(f"expected two folds or more, got fold {of[0]} alone: nothing is left to learn from")
        return [Part(np.flatnonzero(of != fold), np.flatnonzero(of == fold), int(fold)) for fold in np.unique(of)]
    names = np.array(splits)
    train, test = np.flatnonzero(names == "train"), np.flatnonzero(names == "test")
    if not len(train) or not len(test):
        raise ProtocolError(
            "expected a table with a fold for every recording, or with the splits 'train' and 'test'; "
            f"got splits {sorted(set(splits) - {''}) or 'none'} and no complete folds"
        )
    return [Part(train, test)]


def score(
    name: str,
    probe_name: str,
    probe: Probe,
    features: Sequence[NDArray[np.float32]],
    labels: NDArray[np.int64],
    protocol: Sequence[Part],
) -> Score:
    """Return how `probe` does: `features[i]` (N, D) are those of part `i`, since each may have its own encoder.

    Raises:
        ProbeError: A part cannot be learnt from; the message says which one.
    """
    correct = np.zeros(len(labels), bool)
    scored = np.zeros(len(labels), bool)
    settings = []
    for part, values in zip(protocol, features, strict=True):
        try:
            prediction = probe(values[part.train], labels[part.train], values[part.test])
        except ProbeError as error:
            where = "" if part.fold is None else f", fold {part.fold}"
            raise ProbeError(f"{name}, {probe_name}{where}: {error}") from error
        correct[part.test] = prediction.labels == labels[part.test]
        scored[part.test] = True
        settings.append(prediction.setting)
    return Score(name, probe_name, correct[scored], settings)


def paired_difference(a: Score, b: Score, level: float = 0.95) -> tuple[float, float, float]:
    """Return the difference in accuracy a - b with its paired bootstrap interval (difference, low, high).

    Samples are drawn with replacement, the same ones for both (Efron and Tibshirani 1993, chapter 13).
    """
    difference = a.correct.astype(np.float64) - b.correct.astype(np.float64)
    return (float(difference.mean()), *_interval(difference, level))


def _interval(values: NDArray[np.float64], level: float) -> tuple[float, float]:
    # Each value is one of few, so resampling is a draw of how often each occurs.
    kinds, counts = np.unique(values, return_counts=True)
    draws = generator(0, "bootstrap").multinomial(len(values), counts / len(values), NUM_RESAMPLES)
    low, high = np.quantile(draws @ kinds / len(values), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
