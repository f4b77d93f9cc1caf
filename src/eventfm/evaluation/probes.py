"""Probes: small classifiers on frozen features, every setting chosen inside the training part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float32]
Labels = NDArray[np.int64]


class ProbeError(ValueError):
    """Raised when a probe cannot be fitted: too few samples of a class, features that are not finite."""


@dataclass(frozen=True)
class Prediction:
    """What one fitted probe said of the test part."""

    labels: Labels
    """(N,) predicted labels."""
    setting: dict[str, Any]
    """The setting that inner cross-validation chose."""


Probe = Callable[[Features, Labels, Features], Prediction]


def linear(train: Features, labels: Labels, test: Features) -> Prediction:
    """Return predictions of multinomial logistic regression on standardised features (the linear probe).

    `train` (N, D), `labels` (N,), `test` (M, D); the strength of the penalty is chosen by cross-validation.
    """
    from sklearn.linear_model import LogisticRegression

    return _search(LogisticRegression(max_iter=1000, tol=1e-3), {"C": [1e-3, 1e-2, 1e-1, 1.0]}, train, labels, test)


def nearest_neighbours(train: Features, labels: Labels, test: Features) -> Prediction:
    """Return predictions of k nearest neighbours by cosine similarity; k is chosen by cross-validation."""
    from sklearn.neighbors import KNeighborsClassifier

    smallest = min(np.unique(labels, return_counts=True)[1], default=0)
    candidates = [k for k in (1, 3, 5, 10, 20) if k <= max(1, smallest)]
    model = KNeighborsClassifier(metric="cosine", weights="distance")
    return _search(model, {"n_neighbors": candidates}, train, labels, test)


def ridge(train: Features, labels: Labels, test: Features) -> Prediction:
    """Return predictions of a ridge classifier on standardised features; the penalty is cross-validated."""
    from sklearn.linear_model import RidgeClassifier

    return _search(RidgeClassifier(), {"alpha": [1.0, 10.0, 100.0, 300.0, 1e3, 3e3, 1e4]}, train, labels, test)


def rbf_svm(train: Features, labels: Labels, test: Features) -> Prediction:
    """Return predictions of a support vector machine with a Gaussian kernel; C and width are cross-validated."""
    from sklearn.svm import SVC

    width = 1.0 / train.shape[1]
    return _search(SVC(), {"C": [1.0, 10.0], "gamma": [width / 4, width, width * 2]}, train, labels, test)


def _search(model: Any, grid: dict[str, list[Any]], train: Features, labels: Labels, test: Features) -> Prediction:
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    for name, part in (("training", train), ("test", test)):
        if not np.isfinite(part).all():
            raise ProbeError(f"expected finite {name} features, {int((~np.isfinite(part)).any(1).sum())} rows are not")
    counts = np.unique(labels, return_counts=True)[1]
    if len(counts) < 2 or counts.min() < 2:
        raise ProbeError(
            f"expected at least 2 classes with 2 training samples each, got {len(counts)} classes, "
            f"the smallest with {counts.min() if len(counts) else 0}"
        )
    pipeline = make_pipeline(StandardScaler(), model)
    step = pipeline.steps[-1][0]
    # The folds are fixed: a probe's result is a function of its features alone.
    inner = StratifiedKFold(int(min(4, counts.min())), shuffle=True, random_state=0)
    search = GridSearchCV(pipeline, {f"{step}__{key}": values for key, values in grid.items()}, cv=inner)
    search.fit(train, labels)
    setting = {key.partition("__")[2]: value for key, value in search.best_params_.items()}
    return Prediction(search.predict(test).astype(np.int64), setting)
