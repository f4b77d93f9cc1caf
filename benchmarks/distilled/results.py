"""What the rows come to: scores with their intervals, and differences paired by picture or recording."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from quality.results import Cell

from distilled.segmentation import accuracy, miou
from distilled.settings import Settings
from distilled.students import CONTROLS, STUDENTS, TRAINED, seeds_of
from eventfm.evaluation.protocol import paired_difference
from eventfm.random import generator

NUM_RESAMPLES = 4_000
SCORES = ("miou", "accuracy", "digits")
PROBES = ("miou", "digits")
"""The scores by which rows are held against the controls."""
FIGURES = ("effective_rank", "teacher_effective_rank", "mean_cosine", "teacher_mean_cosine", "neighbour_overlap", "cka")
Interval = tuple[float, float, float]
"""A value, and the ends of its 95 % interval."""

COMPARED = (
    *((row, control) for row in TRAINED for control in CONTROLS),
    ("mask", "token"),
    ("intra", "mask"),
    ("cross", "intra"),
    ("cross", "token"),
    ("cross", "released"),
    ("cross", "paper"),
    ("mended", "cross"),
)


@dataclass(frozen=True)
class Streets:
    """A row's confusions of test pictures."""

    counts: NDArray[np.int64]
    """(seeds, pictures, classes, classes)."""

    def each_seed(self, of: Callable[[NDArray[Any]], NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return the score `of` all pictures together, (seeds,)."""
        return of(self.counts.sum(axis=1))

    @cached_property
    def resampled(self) -> dict[str, NDArray[np.float64]]:
        """Both scores, seeds averaged, of pictures drawn with replacement, the same for every row."""
        pictures = self.counts.shape[1]
        times = generator(0, "bootstrap").multinomial(pictures, np.full(pictures, 1 / pictures), NUM_RESAMPLES)
        totals = np.einsum("rp,spij->rsij", times.astype(np.float64), self.counts.astype(np.float64), optimize=True)
        return {name: of(totals).mean(axis=1) for name, of in (("miou", miou), ("accuracy", accuracy))}


@dataclass(frozen=True)
class Row:
    """What is known of one row."""

    streets: Streets | None = None
    digits: Cell | None = None
    collapse: Mapping[str, Mapping[str, Interval]] | None = None
    """By density and figure; the interval is over groups of pictures, seeds averaged."""

    def each_seed(self, score: str) -> NDArray[np.float64] | None:
        """Return a score of every seed; None where there is none."""
        if score == "digits":
            return None if self.digits is None else self.digits.accuracies
        return None if self.streets is None else self.streets.each_seed(miou if score == "miou" else accuracy)

    def interval(self, score: str) -> tuple[float, float]:
        """Return the ends of the bootstrap interval of a score that there is."""
        if score == "digits":
            assert self.digits is not None
            return self.digits.score.interval()
        assert self.streets is not None
        low, high = np.quantile(self.streets.resampled[score], [0.025, 0.975])
        return float(low), float(high)


def gather(folder: Path, settings: Settings) -> dict[str, Row]:
    """Return the rows of which something is there: of a column, every seed."""
    out = {}
    for name in (*STUDENTS, "teacher"):
        seeds = settings.seeds[:1] if name == "teacher" else seeds_of(name, settings)
        found = {column: _read(folder, name, column, seeds) for column in ("streets", "digits", "collapse")}
        if not any(found.values()):
            continue
        streets, digits, collapse = found["streets"], found["digits"], found["collapse"]
        out[name] = Row(
            Streets(np.array([values["confusions"] for values in streets], np.int64)) if streets else None,
            Cell(np.array([[int(c) for c in values["correct"]] for values in digits], np.float64)) if digits else None,
            _figures([values["groups"] for values in collapse]) if collapse else None,
        )
    return out


def difference(first: Row, second: Row, score: str) -> Interval | None:
    """Return how much more `first` scores than `second`, paired, seeds averaged; None where one has no such score."""
    a, b = first.each_seed(score), second.each_seed(score)
    if a is None or b is None:
        return None
    if score == "digits":
        assert first.digits is not None
        assert second.digits is not None
        return paired_difference(first.digits.score, second.digits.score)
    assert first.streets is not None
    assert second.streets is not None
    low, high = np.quantile(first.streets.resampled[score] - second.streets.resampled[score], [0.025, 0.975])
    return float(a.mean() - b.mean()), float(low), float(high)


def differences(rows: Mapping[str, Row]) -> dict[str, Interval]:
    """Return each difference of `COMPARED` that there is, by `"first - second | score"`."""
    out = {}
    for first, second in COMPARED:
        for score in SCORES:
            if first in rows and second in rows and (value := difference(rows[first], rows[second], score)) is not None:
                out[f"{first} - {second} | {score}"] = value
    return out


def above(rows: Mapping[str, Row], found: Mapping[str, Interval]) -> dict[str, str]:
    """Return how each trained row stands to both controls on both probes.

    `apart`: its intervals are above theirs; `above`: the intervals of all four paired differences are above zero;
    `not above`: one is not. Rows that are not complete are left out.
    """
    out = {}
    for row in TRAINED:
        pairs = [(f"{row} - {control} | {score}", control, score) for control in CONTROLS for score in PROBES]
        if not all(key in found for key, _, _ in pairs):
            continue
        apart = all(rows[row].interval(score)[0] > rows[control].interval(score)[1] for _, control, score in pairs)
        higher = all(found[key][1] > 0 for key, _, _ in pairs)
        out[row] = "apart" if apart else "above" if higher else "not above"
    return out


def _read(folder: Path, name: str, column: str, seeds: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return what every seed has found, or nothing."""
    files = [folder / f"{name}-{column}-{seed}.json" for seed in seeds]
    return [json.loads(file.read_text()) for file in files] if all(file.exists() for file in files) else []


def _figures(seeds: list[list[list[dict[str, float]]]]) -> dict[str, dict[str, Interval]]:
    """Return each figure at each density: seeds averaged, its mean over groups and a bootstrap interval over them."""
    groups = range(len(seeds[0]))
    out: dict[str, dict[str, Interval]] = {}
    for place, record in enumerate(seeds[0][0] if seeds[0] else []):
        for figure in FIGURES:
            each = [[seed[group][place].get(figure, np.nan) for seed in seeds] for group in groups]
            values = np.array(each).mean(axis=1)
            values = values[np.isfinite(values)]
            if not len(values):  # too few active patches to have neighbours
                continue
            drawn = generator(0, "groups").choice(values, (NUM_RESAMPLES, len(values))).mean(axis=1)
            low, high = np.quantile(drawn, [0.025, 0.975])
            out.setdefault(f"x{record['density']:g}", {})[figure] = float(values.mean()), float(low), float(high)
    return out
