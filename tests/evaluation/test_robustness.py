from __future__ import annotations

import io
import pickle

import numpy as np
import pytest

from eventfm.evaluation.robustness import PERTURBATIONS, SEVERITIES, Disturbance, curve
from eventfm.events import Events, Sensor
from eventfm.visualization.robustness import robustness_plot


def window(seed: int = 0) -> Events:
    rng = np.random.default_rng(seed)
    n = 400
    return Events(
        rng.integers(0, 40, n).astype(np.uint16),
        rng.integers(0, 30, n).astype(np.uint16),
        np.sort(rng.integers(0, 10_000, n)),
        rng.integers(0, 2, n).astype(np.uint8),
        Sensor(40, 30),
        (0, 10_000),
    )


def same(a: Events, b: Events) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in "xytp")


@pytest.mark.parametrize("name", list(PERTURBATIONS))
def test_a_disturbance_is_a_function_of_seed_and_sample(name: str) -> None:
    events = window()
    disturbance = Disturbance(name, 3, seed=7)
    out = disturbance(events, 5)
    assert not same(out, events)
    assert same(out, pickle.loads(pickle.dumps(disturbance))(events, 5))
    assert Disturbance(name, 0, seed=7)(events, 5) is events
    drawn = name not in ("resolution", "crop", "width")
    assert same(out, disturbance(events, 6)) != drawn
    assert same(out, Disturbance(name, 3, seed=8)(events, 5)) != drawn
    geometry = disturbance.geometry(events.sensor)
    assert (geometry is None) == drawn
    assert geometry is None or geometry.out == (out.sensor.height, out.sensor.width)
    assert Disturbance(name, 0).geometry(events.sensor) is None


def test_rows_say_what_was_done_and_what_came_of_it() -> None:
    calls: list[Disturbance] = []

    def score(disturbance: Disturbance) -> dict[str, float]:
        calls.append(disturbance)
        return {"kept": len(disturbance(window(), "a")) / 400}

    rows = curve(score, ["gap", "drop", "gap"], [2, 0, 5], seed=3)
    assert [(row["perturbation"], row["severity"], row["amount"]) for row in rows] == [
        ("gap", 0, 0), ("gap", 2, 0.25), ("gap", 5, 0.8), ("drop", 0, 0), ("drop", 2, 0.25), ("drop", 5, 0.9),
    ]  # fmt: skip
    assert [row["severity_name"] for row in rows[:3]] == ["none", "mild", "extreme"]
    assert {row["unit"] for row in rows} == {"share"}
    assert [row["kept"] for row in rows[3:]] == [1.0, 0.75, 0.1]
    assert [(call.severity, call.seed) for call in calls] == [(0, 3), (2, 3), (5, 3), (2, 3), (5, 3)], "clean once"
    assert len(SEVERITIES) == 6


def test_all_perturbations_are_run_where_none_is_named() -> None:
    rows = curve(lambda disturbance: {"epe": float(disturbance.severity)})
    assert len(rows) == 6 * len(list(PERTURBATIONS))
    assert [row["epe"] for row in rows[:6]] == [0, 1, 2, 3, 4, 5]


def test_what_cannot_be_run_is_refused_before_anything_is() -> None:
    def score(disturbance: Disturbance) -> dict[str, float]:
        raise AssertionError("must not be reached")

    with pytest.raises(ValueError, match="unknown perturbation 'hot_pixel'; did you mean 'hot_pixels'"):
        curve(score, ["drop", "hot_pixel"])
    with pytest.raises(ValueError, match="severity from 0"):
        curve(score, ["drop"], [1, 6])
    for empty in ({"perturbations": []}, {"severities": []}):
        with pytest.raises(ValueError, match="got none"):
            curve(score, **empty)
    with pytest.raises(ValueError, match="amount"):
        curve(lambda _: {"amount": 1.0}, ["drop"], [1])


def test_the_plot_has_a_curve_for_each_model_in_each_plot() -> None:
    rows = []
    for place, name in enumerate(("ours", "scratch")):
        found = curve(
            lambda disturbance, p=place: {"miou": 0.6 - 0.1 * p - 0.05 * disturbance.severity}, ["drop", "gap"]
        )
        rows += [{"name": name, **row} for row in found]
    rows[2]["miou"] = float("nan")
    rows[-1]["miou"] = 0.0
    figure = robustness_plot(rows, "miou")
    drop, gap = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["drop", "gap"]
    curves = {line.get_label(): line for line in drop.lines if not str(line.get_label()).startswith("_")}
    assert list(curves) == ["ours", "scratch"]
    np.testing.assert_allclose(curves["ours"].get_xydata(), [[s, 0.6 - 0.05 * s] for s in (0, 1, 3, 4, 5)])
    np.testing.assert_allclose(curves["scratch"].get_ydata(), [0.5 - 0.05 * s for s in range(6)])
    assert [text.get_text() for text in gap.get_xticklabels()] == ["0", "0.1", "0.25", "0.4", "0.6", "0.8"]
    assert "without events" in gap.get_xlabel().replace("\n", " ")
    assert drop.get_ylim() == gap.get_ylim()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["ours", "scratch"]
    figure.savefig(io.BytesIO())
    alone = robustness_plot(curve(lambda d: {"epe": 1.0 + d.severity}), "epe")
    assert not alone.legends
    with pytest.raises(ValueError, match="rows with 'top1', got 24 without"):
        robustness_plot(rows, "top1")
