"""Which backbones, tasks, heads, ways to adapt and input sizes are tried together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, product
from random import Random
from typing import Any

import pytest
from tasks_toy import BACKBONES, HEADS, MODES

TASK_HEADS = [(task, head) for task, heads in HEADS.items() for head in heads]
SIZES = ((48, 64), (32, 96), (33, 50))
"""Of inputs: what the backbones are built for, another one of whole patches, and one that no patch divides."""
FACTORS = (TASK_HEADS, BACKBONES, MODES, SIZES)


def fits(row: Sequence[Any]) -> bool:
    """Return whether a row of the product is one that can be built: windowed attention has no place for queries."""
    (_, head), backbone = row[0], row[1]
    return (head, backbone) != ("eomt", "swin_nano")


def covering(
    factors: Sequence[Sequence[Any]], fits: Callable[[Sequence[Any]], bool] = fits, seed: int = 0
) -> list[tuple[Any, ...]]:
    """Return rows of the product of `factors` in which all pairs of values occur that occur in any row that `fits`.

    Each row is one of those that add most pairs, so they are few, though not always the fewest there could be.
    """
    rows = [row for row in product(*factors) if fits(row)]
    Random(seed).shuffle(rows)
    missing = {pair for row in rows for pair in pairs(row)}
    chosen = []
    while missing:
        best = max(rows, key=lambda row: len(missing & pairs(row)))
        chosen.append(best)
        missing -= pairs(best)
    return chosen


def pairs(row: Sequence[Any]) -> set[tuple[tuple[int, Any], ...]]:
    """Return every two values of `row`, each with the number of its factor."""
    return set(combinations(enumerate(row), 2))


def cases() -> Iterator[Any]:
    """Yield the product as parameters `task, head, backbone, mode, size`; what a cover does without is marked slow."""
    chosen = set(covering(FACTORS))
    for row in filter(fits, product(*FACTORS)):
        (task, head), backbone, mode, size = row
        name = f"{task}-{head}-{backbone}-{mode}-{size[0]}x{size[1]}"
        yield pytest.param(task, head, backbone, mode, size, marks=[] if row in chosen else pytest.mark.slow, id=name)
