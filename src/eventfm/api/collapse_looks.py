"""Looks at collapse while a run goes on: whether the tokens of one sample stay as different as the teacher's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from eventfm.evaluation.collapse import collapse_at_densities
from eventfm.protocols import Batch

DENSITIES = (1, 2, 4)
"""How many times finer the grid of tokens is, along each side: the input is up-sampled as much."""
MOST_TOKENS = 5_000
"""Tokens of a sample up to which a density is looked at: attention over more takes minutes on a laptop."""
_PREFIX = "collapse_x"


def collapse_look(objective: Any, batch: Batch) -> dict[str, float]:
    """Return the figures of `evaluation.collapse` of the active tokens of `batch`, as `collapse_x<density>/<figure>`.

    None of them where hardly any patch is active, or where the objective does not say which are.
    """
    if not hasattr(objective, "active"):
        return {}
    stride = objective.encoder().stride
    grid = batch["input"].shape[2] // stride, batch["input"].shape[3] // stride
    densities = [factor for factor in DENSITIES if factor**2 * grid[0] * grid[1] <= MOST_TOKENS]
    found = collapse_at_densities(
        objective.encoder(), objective.teacher, batch, densities, objective.active(batch, grid)
    )
    return {
        f"{_PREFIX}{int(record['density'])}/{name}": value
        for record in found
        for name, value in record.items()
        if name != "density"
    }


def collapse_records(metrics: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the figures in lines of metrics, a record for each step and density, as `collapse_plot` takes them."""
    records = []
    for line in metrics:
        found: dict[int, dict[str, Any]] = {}
        for key, value in line.items():
            if key.startswith(_PREFIX):
                density, _, name = key.removeprefix(_PREFIX).partition("/")
                found.setdefault(int(density), {})[name] = value
        records += [{"step": line["step"], "density": density, **figures} for density, figures in found.items()]
    return records
