"""Figures with their intervals: rows side by side, and over the number of labels."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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


def dot_plot(
    marks: Sequence[Mark], figure_name: str, reference: Mark | None = None, groups: Sequence[str] = ()
) -> Figure:
    """Return a figure with a row for each mark, its interval as a bar, and a dashed line at the `reference`.

    Marks of one of the `groups`, a name for each mark, have one colour; without groups each has its own.

    Raises:
        ValueError: No marks.
    """
    from matplotlib.figure import Figure

    if not marks:
        raise ValueError("expected at least one figure to draw, got none")
    figure = Figure(figsize=(7.2, 0.9 + 0.34 * len(marks)), dpi=120, layout="constrained")
    axes = figure.subplots()
    order = list(dict.fromkeys(groups or range(len(marks))))
    for place, (mark, group) in enumerate(zip(marks, groups or order, strict=True)):
        colour = COLOURS[order.index(group) % len(COLOURS)]
        if mark.low is not None and mark.high is not None:
            axes.plot([mark.low, mark.high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot([mark.value], [place], "o", color=colour, markersize=6)
    if reference is not None:
        axes.axvline(reference.value, color="0.5", linestyle="--", linewidth=1)
        axes.annotate(
            reference.label, (reference.value, 1), xycoords=("data", "axes fraction"), xytext=(0, 2),
            textcoords="offset points", fontsize=7, ha="center", va="bottom", color="0.4",
        )  # fmt: skip
    axes.set_yticks(range(len(marks)), [mark.label for mark in marks], fontsize=8)
    axes.set_ylim(len(marks) - 0.5, -0.5)
    axes.set_xlabel(figure_name, fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


def label_curves(
    rows: Mapping[str, Sequence[tuple[float, Mark]]],
    figure_name: str,
    counted: str = "labels",
    controls: Collection[str] = (),
    reference: Mark | None = None,
) -> Figure:
    """Return a figure with a curve for each row over the number of labels, intervals as bars.

    Args:
        rows: For each name its points: the number of labels, or the share of them, and the figure.
        figure_name: What the figure is called.
        counted: What is counted along the axis; numbers up to 1 are shares, and shown in percent.
        controls: Names of rows that are dashed and grey: what others are compared with.
        reference: A figure that takes no labels, as a dotted line.

    Raises:
        ValueError: No rows.
    """
    from matplotlib.figure import Figure

    if not rows:
        raise ValueError("expected at least one row to draw, got none")
    figure = Figure(figsize=(6.4, 3.9 + 0.16 * len(rows)), dpi=120, layout="constrained")
    axes = figure.subplots()
    amounts = sorted({x for points in rows.values() for x, _ in points})
    colours = {name: COLOURS[n % len(COLOURS)] for n, name in enumerate(name for name in rows if name not in controls)}
    greys = {name: str(0.35 + 0.15 * (n % 3)) for n, name in enumerate(name for name in rows if name in controls)}
    apart = (amounts[-1] / amounts[0]) ** 0.008
    for number, (name, points) in enumerate(rows.items()):
        colour, line = (greys[name], "o--") if name in greys else (colours[name], "o-")
        # Side by side, so that no interval hides another.
        aside = apart ** (number - (len(rows) - 1) / 2)
        ordered = sorted(points, key=lambda point: point[0])
        places = [aside * x for x, _ in ordered]
        axes.plot(places, [m.value for _, m in ordered], line, color=colour, label=name, markersize=5)
        for x, (_, mark) in zip(places, ordered, strict=True):
            if mark.low is not None and mark.high is not None:
                axes.plot([x, x], [mark.low, mark.high], color=colour, linewidth=1.5)
    if reference is not None:
        axes.axhline(reference.value, color="0.5", linestyle=":", linewidth=1.2, label=reference.label)
    axes.set_xscale("log")
    shown = [f"{100 * x:.3g} %" if amounts[-1] <= 1 else f"{x:g}" for x in amounts]
    axes.set_xticks(amounts, shown)
    axes.set_xticks([], minor=True)
    axes.set_xlabel(counted, fontsize=8)
    axes.set_ylabel(figure_name, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure
