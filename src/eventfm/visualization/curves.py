"""Curves of a run: loss, rank and whatever else its log holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"""Okabe and Ito's palette, which is told apart with every kind of colour vision."""


def curves(records: Sequence[Mapping[str, Any]], groups: Mapping[str, Sequence[str]], x: str = "step") -> Figure:
    """Return a figure with one plot per group, each with the curves of its keys over `x`.

    Args:
        records: Lines of a log; a record without a key leaves no point on its curve, a value that is not finite is
            marked by a cross on the axis.
        groups: Title of each plot and the keys in it; a key that no record has is left out.
        x: The key of the horizontal axis.

    Raises:
        ValueError: No groups.
    """
    from matplotlib.figure import Figure

    if not groups:
        raise ValueError("expected at least one group of curves, got none")
    figure = Figure(figsize=(4.6 * len(groups), 3.2), dpi=120, layout="constrained")
    for axes, (title, keys) in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups.items(), strict=True):
        num_curves = 0
        for key in keys:
            points = [(float(r[x]), float(r[key])) for r in records if r.get(x) is not None and r.get(key) is not None]
            if not points:
                continue
            colour = COLOURS[num_curves % len(COLOURS)]
            num_curves += 1
            steps, values = np.array(points).T
            finite = np.isfinite(values)
            marker = "o" if finite.sum() < 20 else None
            axes.plot(steps[finite], values[finite], color=colour, marker=marker, markersize=3, label=key)
            if not finite.all():
                at_axis = {"transform": axes.get_xaxis_transform(), "clip_on": False, "in_layout": False}
                axes.plot(steps[~finite], np.zeros((~finite).sum()), "x", color=colour, **at_axis)
        axes.set(title=title, xlabel=x)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if num_curves:
            axes.legend(frameon=False)
        else:
            axes.text(0.5, 0.5, "nothing was logged", ha="center", va="center", transform=axes.transAxes)
    return figure
