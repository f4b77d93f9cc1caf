"""Curves of robustness: a figure over how badly the events were disturbed."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from eventfm.visualization.curves import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 5


def robustness_plot(rows: Sequence[Mapping[str, Any]], figure_name: str, name: str = "name") -> Figure:
    """Return a figure with one plot for each perturbation, all on one scale.

    Args:
        rows: Those of `evaluation.robustness.curve`: `perturbation`, `severity`, `amount`, `what`, `unit`, figures.
        figure_name: The figure to draw; a row without it, or where it is not finite, leaves no point.
        name: The key that tells models apart, where rows of several are put together; each has a colour. What a model
            reaches on undisturbed events is dashed in its colour.

    Raises:
        ValueError: No row has the figure.
    """
    from matplotlib.figure import Figure

    known = [row for row in rows if row.get(figure_name) is not None and np.isfinite(row[figure_name])]
    if not known:
        raise ValueError(f"expected rows with {figure_name!r}, got {len(rows)} without")
    perturbations = list(dict.fromkeys(row["perturbation"] for row in known))
    models = list(dict.fromkeys(row.get(name, "") for row in known))
    across = min(_COLUMNS, len(perturbations))
    down = -(-len(perturbations) // across)
    figure = Figure(figsize=(2.7 * across, 2.5 * down + 0.4), dpi=120, layout="constrained")
    grid = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    for axes, perturbation in zip(grid, perturbations, strict=False):
        members = [row for row in known if row["perturbation"] == perturbation]
        for place, model in enumerate(models):
            _draw(axes, [row for row in members if row.get(name, "") == model], figure_name, place, str(model))
        _label(axes, members)
    for axes in grid[len(perturbations) :]:
        axes.set_axis_off()
    for axes in grid[::across]:
        axes.set_ylabel(figure_name, fontsize=9)
    if any(models):
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    return figure


def _draw(axes: Any, rows: Sequence[Mapping[str, Any]], figure_name: str, place: int, label: str) -> None:
    colour = COLOURS[place % len(COLOURS)]
    points = sorted((row["severity"], row[figure_name]) for row in rows)
    axes.plot(*zip(*points, strict=True) if points else ((), ()), "o-", color=colour, markersize=3, label=label)
    if points and points[0][0] == 0:
        axes.axhline(points[0][1], color=colour, linestyle="--", linewidth=0.8, alpha=0.6)


def _label(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    amounts = dict(sorted((row["severity"], row["amount"]) for row in rows))
    first = rows[0]
    axes.set_title(first["perturbation"].replace("_", " "), fontsize=10)
    unit = "" if first["unit"] in first["what"].split() else f" ({first['unit']})"
    axes.set_xlabel(textwrap.fill(first["what"] + unit, 32), fontsize=8)
    axes.set_xticks(list(amounts), [f"{amount:g}" for amount in amounts.values()], fontsize=7)
    axes.tick_params(axis="y", labelsize=8)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
