"""Figures over the number of labels, and side by side."""

from __future__ import annotations

import io

import numpy as np
import pytest

from eventfm.visualization.intervals_plot import Mark, dot_plot, label_curves


def curve(start: float, shares: tuple[float, ...] = (0.01, 0.1, 1.0)) -> list[tuple[float, Mark]]:
    return [(share, Mark("", start + 0.1 * n, start + 0.1 * n - 0.05, start + 0.1 * n + 0.03))
            for n, share in enumerate(shares)][::-1]  # fmt: skip


def test_curves_over_the_share_of_labels() -> None:
    rows = {"ours": curve(0.5), "without": curve(0.3)}
    figure = label_curves(rows, "miou", "share of the labels", ["without"], Mark("trivial", 0.1))
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1 %", "10 %", "100 %"]
    lines = {line.get_label(): line for line in axes.lines if not str(line.get_label()).startswith("_")}
    assert list(lines) == ["ours", "without", "trivial"]
    np.testing.assert_allclose(lines["ours"].get_ydata(), [0.5, 0.6, 0.7])
    np.testing.assert_allclose(lines["ours"].get_xdata(), [0.01, 0.1, 1.0], rtol=0.05)
    assert (lines["ours"].get_xdata() < lines["without"].get_xdata()).all(), "no interval hides another"
    assert (lines["ours"].get_linestyle(), lines["without"].get_linestyle()) == ("-", "--")
    assert lines["ours"].get_color() != lines["without"].get_color()
    bars = [line for line in axes.lines if str(line.get_label()).startswith("_")]
    assert len(bars) == 6
    np.testing.assert_allclose(bars[0].get_ydata(), [0.45, 0.53])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["ours", "without", "trivial"]
    figure.savefig(io.BytesIO())


def test_counts_of_labels_are_counts() -> None:
    (axes,) = label_curves({"ours": curve(0.5, (1, 4, 16))}, "top1").axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "4", "16"]
    with pytest.raises(ValueError, match="at least one row"):
        label_curves({}, "top1")


def test_dots_of_one_group_have_one_colour() -> None:
    marks = [Mark(name, value) for name, value in (("a, linear", 0.5), ("b, linear", 0.4), ("a, full", 0.6))]
    (axes,) = dot_plot(marks, "miou", Mark("trivial", 0.1), ["a", "b", "a"]).axes
    first, second, third = (line.get_color() for line in axes.lines[:3])
    assert first == third != second
    assert axes.get_xlim()[0] < 0.09, "the name of the reference has room"
    (axes,) = dot_plot(marks, "miou").axes
    assert len({line.get_color() for line in axes.lines}) == 3
