"""The robustness suite: the same windows, made worse, with labels moved as the pixels are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eventfm.api import evaluate, finetune
from eventfm.api.disturbing import RobustnessConfig, RobustnessResult, _test_windows
from eventfm.api.finetuning import FinetuneResult
from eventfm.api.pretraining import RunResult
from eventfm.deployment.model import load_model
from eventfm.evaluation.scoring import score_task
from eventfm.registry import UnknownNameError


@pytest.fixture(scope="module")
def flow_model(worlds: Path, trained: RunResult, tmp_path_factory: pytest.TempPathFactory) -> FinetuneResult:
    """Return a model that reads half the pixels a side that the sensor has."""
    return finetune(
        "flow", data=worlds, encoder=trained.out, out=tmp_path_factory.mktemp("models") / "flow",
        **{"data.labels": worlds / "labels.csv", "task.head": {"name": "linear"}, "data.image_size": 16},
        train={"num_steps": 1, "batch_size": 4, "device": "cpu"},
    )  # fmt: skip


def suite(worlds: Path, model: Path, out: Path, **changes: Any) -> RobustnessResult:
    settings = {"perturbations": ("drop", "resolution"), "severities": (0, 3, 5), **changes}
    data = {"path": str(worlds), "labels": str(worlds / "labels.csv")}
    result = evaluate("robustness", models=str(model), data=data, out=str(out), **settings)
    assert isinstance(result, RobustnessResult)
    return result


def test_every_disturbance_is_scored_and_kept(
    worlds: Path, flow_model: FinetuneResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = suite(worlds, flow_model.out, tmp_path)
    keys = [(row["perturbation"], row["severity"]) for row in result.rows]
    assert keys == [(name, severity) for name in ("drop", "resolution") for severity in (0, 3, 5)]
    assert result.rows[0]["epe"] == result.rows[3]["epe"], "undisturbed events are the same for all"
    half = result.rows[4]
    assert half["epe"] == result.rows[3]["epe"], "a sensor of half the pixels gives the input of 16x16 that there was"
    assert len({row["epe"] for row in result.rows}) == 4
    assert {row["name"] for row in result.rows} == {"flow"}
    assert json.loads((tmp_path / "results.json").read_text())["rows"] == list(result.rows)
    assert "| flow | resolution |" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "report.html").stat().st_size > 10_000

    from eventfm.api import disturbing

    def never(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("nothing is left to score")

    monkeypatch.setattr(disturbing, "score_task", never)
    assert suite(worlds, flow_model.out, tmp_path).rows == result.rows
    with pytest.raises(ValueError, match=r"is of other data, .*; choose another out="):
        evaluate(
            "robustness", models=str(flow_model.out), out=str(tmp_path), perturbations=("drop",), severities=(3,),
            data={"path": str(worlds), "labels": str(worlds / "labels.csv"), "image_size": 32},
        )  # fmt: skip


def test_figures_are_of_the_labels_own_size(worlds: Path, flow_model: FinetuneResult, tmp_path: Path) -> None:
    """The model reads 16x16 pixels of 32x32: undisturbed it scores what it does in validation and in `transfer`."""
    result = suite(worlds, flow_model.out, tmp_path, perturbations=("resolution",), severities=(0,))
    (undisturbed,) = result.rows
    config = RobustnessConfig(models="", out="", data={"path": str(worlds), "labels": str(worlds / "labels.csv")})
    objective, card = load_model(flow_model.model)
    samples = _test_windows(card, config)
    assert samples.shapes["input"][1:] == (16, 16)

    own = score_task(objective.predict, "flow", replace(samples, label_size="sensor")).figures
    assert {name: undisturbed[name] for name in own} == pytest.approx(own)
    small = score_task(objective.predict, "flow", samples).figures
    assert abs(small["epe"] - own["epe"]) > 0.1 * own["epe"], "lengths of the input's pixels are others"


def test_figures_that_were_kept_at_the_size_of_the_input_are_not_taken(
    worlds: Path, flow_model: FinetuneResult, tmp_path: Path
) -> None:
    settings = {"perturbations": ("drop",), "severities": (3,)}
    suite(worlds, flow_model.out, tmp_path, **settings)
    (file,) = (tmp_path / "figures").glob("*.json")
    values = json.loads(file.read_text())
    del values["known_by"]["scored_at"]
    file.write_text(json.dumps(values))
    with pytest.raises(ValueError, match="or of an earlier version of this suite"):
        suite(worlds, flow_model.out, tmp_path, **settings)


def test_mistakes_are_named(worlds: Path, flow_model: FinetuneResult, trained: RunResult, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown perturbation 'nois'; did you mean 'noise'"):
        suite(worlds, flow_model.out, tmp_path, perturbations=("nois",))
    with pytest.raises(ValueError, match="eventfm finetune"):
        suite(worlds, trained.encoder, tmp_path)
