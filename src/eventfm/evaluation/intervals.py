"""How sure a figure is: over the samples it was measured on, and over the seeds of training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from eventfm.random import generator
from eventfm.tasks.metric_checks import NothingMeasuredError

FromSums = Callable[[NDArray[np.float64]], Mapping[str, float]]
"""Figures by name of the sums (S,) of some samples, as `TaskMetrics.from_sums`."""
MEASURED = 0.95
"""Part of the draws in which a figure must be there for it to have an interval."""


class Interval(NamedTuple):
    """A figure, and where it would lie on other samples of the same kind."""

    value: float
    low: float
    high: float


class SeedInterval(NamedTuple):
    """A figure over seeds: its mean, the standard deviation of one seed, and the interval of the mean."""

    mean: float
    std: float
    low: float
    high: float


def interval(
    sums: NDArray[np.float64], from_sums: FromSums, num: int = 2000, seed: int = 0, level: float = 0.95
) -> dict[str, Interval]:
    """Return each figure of `sums` (N, S) with its percentile bootstrap interval over the N rows.

    Rows are drawn with replacement and added up, and the figure is taken of the sum (Efron and Tibshirani 1993,
    chapter 13). Rows are taken to be independent. Windows of one recording are not: with many to a recording, hand
    in one row per recording, the sum of its windows.

    A figure that cannot be measured in more than one draw in twenty, such as one of rare pixels, is left out.

    Raises:
        ValueError: Fewer than two rows; or what `from_sums` says of rows that have nothing to measure.
    """
    (values,) = _rows(sums)
    return _intervals([values], lambda drawn: from_sums(drawn[0]), num, seed, level)


def paired_interval(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    from_sums: FromSums,
    num: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Return each figure of system `a` minus that of `b`, with its interval; both (N, S) on the same samples.

    Every draw takes the same rows of both, so that what makes a sample hard for both cancels. `interval` says more.

    Raises:
        ValueError: As `interval`, or `a` and `b` differ in shape.
    """
    first, second = _rows(a, b)

    def difference(drawn: list[NDArray[np.float64]]) -> dict[str, float]:
        of_a, of_b = from_sums(drawn[0]), from_sums(drawn[1])
        return {name: of_a[name] - of_b[name] for name in of_a if name in of_b}

    return _intervals([first, second], difference, num, seed, level)


def added_up(sums: NDArray[np.float64], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return one row for each group, in the order of their numbers: the rows of `sums` (N, S) in it, added up."""
    numbers, place = np.unique(groups, return_inverse=True)
    out = np.zeros((len(numbers), sums.shape[1]))
    np.add.at(out, place, sums)
    return out


def seed_interval(values: Sequence[float], level: float = 0.95) -> SeedInterval:
    """Return mean, standard deviation and Student's t interval of the mean of a figure over seeds.

    Raises:
        ValueError: Fewer than two seeds, or a figure is not finite.
    """
    figures = np.asarray(values, np.float64)
    if figures.ndim != 1 or len(figures) < 2:
        raise ValueError(
            f"expected the figures of two seeds or more, got {figures.size}: one says nothing of the spread"
        )
    if not np.isfinite(figures).all():
        raise ValueError(f"expected finite figures, got {figures.tolist()}")
    mean, std = float(figures.mean()), float(figures.std(ddof=1))
    half = float(special.stdtrit(len(figures) - 1, (1 + level) / 2)) * std / len(figures) ** 0.5
    return SeedInterval(mean, std, mean - half, mean + half)


def _rows(*systems: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    arrays = [np.asarray(sums, np.float64) for sums in systems]
    shape = arrays[0].shape
    if any(array.shape != shape for array in arrays):
        raise ValueError(f"expected sums of the same samples, got shapes {[array.shape for array in arrays]}")
    if len(shape) != 2 or shape[0] < 2:
        raise ValueError(f"expected sums (N, S) of two samples or more, got shape {shape}")
    return arrays


def _intervals(
    systems: list[NDArray[np.float64]],
    figures: Callable[[list[NDArray[np.float64]]], Mapping[str, float]],
    num: int,
    seed: int,
    level: float,
) -> dict[str, Interval]:
    if num < 1 or not 0 < level < 1:
        raise ValueError(f"expected one draw or more and a level between 0 and 1, got {num} and {level}")
    whole = figures([rows.sum(0) for rows in systems])
    bad = [name for name, value in whole.items() if not np.isfinite(value)]
    if bad:
        raise ValueError(f"expected finite figures, got {bad[0]} {whole[bad[0]]}; are all sums finite?")
    count = len(systems[0])
    draw = generator(seed, "bootstrap")
    drawn: dict[str, list[float]] = {name: [] for name in whole}
    for _ in range(num):
        times = np.bincount(draw.integers(0, count, count), minlength=count).astype(np.float64)
        try:
            found = figures([times @ rows for rows in systems])
        except NothingMeasuredError:  # none of the rows drawn has anything to measure
            continue
        for name, values in drawn.items():
            if np.isfinite(found.get(name, np.nan)):
                values.append(found[name])
    ends = [(1 - level) / 2, (1 + level) / 2]
    return {
        name: Interval(float(whole[name]), *map(float, np.quantile(values, ends)))
        for name, values in drawn.items()
        if len(values) >= MEASURED * num
    }
