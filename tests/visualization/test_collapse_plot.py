from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eventfm.visualization.collapse_plot import collapse_plot


def record(step: int | None, density: int | None, rank: float) -> dict[str, float]:
    where = {"step": step, "density": density}
    values = {
        "effective_rank": rank,
        "teacher_effective_rank": rank + 10,
        "mean_cosine": 0.1 * rank,
        "teacher_mean_cosine": 0.2,
        "neighbour_overlap": 0.5,
        "neighbour_chance": 0.05,
        "cka": 0.7,
    }
    return {**{key: value for key, value in where.items() if value is not None}, **values}


def test_over_steps_with_a_curve_for_each_density() -> None:
    records = [record(step, density, step / 10 + density) for density in (2, 1) for step in (100, 0)]
    figure = collapse_plot([*records, {"step": 50, "density": 1}])
    rank, cosine, neighbours, cka = figure.axes
    own, teachers = rank.lines[:2], rank.lines[2:]
    assert [line.get_label() for line in own] == ["x1", "x2"]
    np.testing.assert_array_equal(own[0].get_xydata(), [[0, 1], [100, 11]])
    np.testing.assert_array_equal(teachers[1].get_xydata(), [[0, 12], [100, 22]])
    assert own[0].get_color() != own[1].get_color()
    for axes in (cosine, neighbours, cka):
        assert [line.get_color() for line in axes.lines[:2]] == [line.get_color() for line in own]
    for student, teacher in zip(own, teachers, strict=True):
        assert student.get_color() == teacher.get_color()
        assert (student.get_linestyle(), teacher.get_linestyle()) == ("-", "--")
    assert said(rank) == said(cosine) == ["x1", "x2", "dashed: teacher"]
    assert said(neighbours) == ["x1", "x2", "dashed: chance"]
    assert said(cka) == ["x1", "x2"]
    assert cosine.get_title() == "Mean cosine of two tokens"


def test_over_densities_with_a_curve_for_each_step() -> None:
    figure = collapse_plot([record(1000, d, 8 - d) for d in (4, 1, 2)] + [record(0, 1, 3)], x="density")
    rank = figure.axes[0]
    assert said(rank) == ["step 0", "step 1,000", "dashed: teacher"]
    np.testing.assert_array_equal(rank.lines[1].get_xydata(), [[1, 7], [2, 6], [4, 4]])
    assert list(rank.get_xticks()) == [1, 2, 4]
    alone = collapse_plot([record(None, d, d) for d in (1, 2)], x="density")
    assert said(alone.axes[0]) == ["student", "dashed: teacher"]


def said(axes: Any) -> list[str]:
    """Return the legend."""
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_what_is_missing() -> None:
    figure = collapse_plot([{"step": 0, "effective_rank": 2.0}, {"step": 1, "effective_rank": float("nan")}])
    rank, cosine, *_ = figure.axes
    assert said(rank) == ["student"]
    assert cosine.texts[0].get_text() == "nothing was logged"
    with pytest.raises(ValueError, match="records with 'density', got 1"):
        collapse_plot([{"step": 0}], x="density")
