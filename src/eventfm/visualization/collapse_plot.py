"""Figures of collapse over the steps of a run, or over the density of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from eventfm.visualization.curves import curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES = {
    "Effective rank of tokens": ("effective_rank", "teacher_effective_rank", "teacher"),
    "Mean cosine of two tokens": ("mean_cosine", "teacher_mean_cosine", "teacher"),
    "Shared nearest neighbours": ("neighbour_overlap", "neighbour_chance", "chance"),
    "Alignment with the teacher (CKA)": ("cka", None, ""),
}
"""Title of each plot: the key of the student's figure, that of what it is to be held against, and what that is."""


def collapse_plot(records: Sequence[Mapping[str, Any]], x: Literal["step", "density"] = "step") -> Figure:
    """Return a figure with four plots of what `evaluation.collapse.collapse_figures` says, over `x`.

    Over steps there is a curve for each density, and over densities one for each step. What belongs beside it, the
    teacher's own figure or what chance gives, is dashed in the same colour.

    Args:
        records: The figures, each with the `step` and the `density` that they are of, or with one of both.
        x: The key of the horizontal axis.

    Raises:
        ValueError: No record has `x`.
    """
    other = "density" if x == "step" else "step"
    known = [record for record in records if record.get(x) is not None]
    if not known:
        raise ValueError(f"expected records with {x!r}, got {len(records)} records without")
    known = sorted(known, key=lambda record: (record.get(other) or 0, record[x]))
    names = list(dict.fromkeys(_name(record, other) for record in known))
    # The students' curves come first, so that one name has one colour in all plots.
    keys = {
        title: [f"{name}, {figure}" for figure in (own, against) if figure is not None for name in names]
        for title, (own, against, _) in FIGURES.items()
    }
    flat = [
        {x: record[x], **{f"{_name(record, other)}, {key}": value for key, value in record.items()}} for record in known
    ]
    figure = curves(flat, keys, x)
    for axes, (own, against, what) in zip(figure.axes, FIGURES.values(), strict=True):
        lines = {str(line.get_label()): line for line in axes.lines}
        dashes = f"dashed: {what}"
        for name in names:
            student, beside = lines.get(f"{name}, {own}"), lines.get(f"{name}, {against}")
            if student is not None:
                student.set_label(name)
            if beside is not None:
                beside.set(linestyle="--", alpha=0.7, label=dashes)
                dashes = "_"  # said once
                if student is not None:
                    beside.set_color(student.get_color())
        if x == "density":
            axes.set_xticks(sorted({record[x] for record in known}))
        if lines:
            axes.legend(frameon=False)
    return figure


def _name(record: Mapping[str, Any], other: str) -> str:
    """Return what the curve is called that `record` is on."""
    value = record.get(other)
    if value is None:
        return "student"
    return f"x{value:g}" if other == "density" else f"step {value:,}"
