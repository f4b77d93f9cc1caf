"""Figures with their intervals: rows side by side, and over the number of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from eventfm.visualization.curves import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Mark(NamedTuple):
    """One figure: where it stands, and how far it may be off."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    """Ends of its interval, where it has one."""


def dot_plot(marks: Sequence[Mark], figure_name: str, reference: Mark | None = None) -> Figure:
    """Return a figure with a row for each mark, its interval as a bar, and a dashed line at the `reference`.

    Raises:
        ValueError: No marks.
    """
    from matplotlib.figure import Figure

    if not marks:
        raise ValueError("expected at least one figure to draw, got none")
    figure = Figure(figsize=(7.2, 0.9 + 0.34 * len(marks)), dpi=120, layout="constrained")
    axes = figure.subplots()
    for place, mark in enumerate(marks):
        colour = COLOURS[place % len(COLOURS)]
        if mark.low is not None and mark.high is not None:
            axes.plot([mark.low, mark.high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot([mark.value], [place], "o", color=colour, markersize=6)
    if reference is not None:
        axes.axvline(reference.value, color="0.5", linestyle="--", linewidth=1)
        axes.annotate(
            reference.label, (reference.value, 1), xycoords=("data", "axes fraction"), rotation=90, fontsize=7,
            ha="right", va="top", color="0.4",
        )  # fmt: skip
    axes.set_yticks(range(len(marks)), [mark.label for mark in marks], fontsize=8)
    axes.set_ylim(len(marks) - 0.5, -0.5)
    axes.set_xlabel(figure_name, fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


def label_curves(rows: Mapping[str, Sequence[tuple[float, Mark]]], figure_name: str, counted: str = "labels") -> Figure:
    """Return a figure with a curve for each row over the number (or share) of labels, intervals as bars.

    Raises:
        ValueError: No rows.
    """
    from matplotlib.figure import Figure

    if not rows:
        raise ValueError("expected at least one row to draw, got none")
    figure = Figure(figsize=(6.4, 3.6), dpi=120, layout="constrained")
    axes = figure.subplots()
    for number, (name, points) in enumerate(rows.items()):
        colour = COLOURS[number % len(COLOURS)]
        ordered = sorted(points, key=lambda point: point[0])
        axes.plot([x for x, _ in ordered], [m.value for _, m in ordered], "o-", color=colour, label=name, markersize=5)
        for x, mark in ordered:
            if mark.low is not None and mark.high is not None:
                axes.plot([x, x], [mark.low, mark.high], color=colour, linewidth=1.5)
    axes.set_xscale("log")
    axes.set_xlabel(counted, fontsize=8)
    axes.set_ylabel(figure_name, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure
