"""Tables of what models reach on each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eventfm.deployment.report import Table

ByClass = Sequence[float | None]
"""One figure of each class, by number; None for a class that occurs nowhere."""
ABSENT = "-"


def class_table(classes: Sequence[str], columns: Mapping[str, ByClass], caption: str = "", signed: str = "") -> Table:
    """Return a row for each class with its figure in each of `columns`; the one called `signed` has signs."""
    rows = [
        [name, *(_text(values[number], "+.4f" if title == signed else ".4f") for title, values in columns.items())]
        for number, name in enumerate(classes)
    ]
    return Table(["class", *columns], rows, caption)


def mean_by_class(runs: Sequence[ByClass]) -> list[float | None]:
    """Return the mean of each class's figure over those `runs` that have one."""
    found = [[value for value in values if value is not None] for values in zip(*runs, strict=True)]
    return [sum(values) / len(values) if values else None for values in found]


def difference_by_class(a: ByClass, b: ByClass) -> list[float | None]:
    """Return each class's figure in `a` less that in `b`; None where either has none."""
    return [None if x is None or y is None else x - y for x, y in zip(a, b, strict=True)]


def _text(value: float | None, form: str) -> str:
    return ABSENT if value is None else format(value, form)
