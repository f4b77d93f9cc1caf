"""The robustness suite: the same windows, made worse, with labels moved as the pixels are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eventfm.api import evaluate, finetune
from eventfm.api.disturbing import RobustnessResult, _pixel, _test_windows
from eventfm.api.finetuning import FinetuneResult
from eventfm.api.pretraining import RunResult
from eventfm.deployment.model import read_model_card
from eventfm.evaluation.robustness import Disturbance
from eventfm.registry import UnknownNameError


@pytest.fixture(scope="module")
def flow_model(worlds: Path, trained: RunResult, tmp_path_factory: pytest.TempPathFactory) -> FinetuneResult:
    return finetune(
        "flow", data=worlds, encoder=trained.out, out=tmp_path_factory.mktemp("models") / "flow",
        **{"data.labels": worlds / "labels.csv", "task.head": {"name": "linear"}},
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
    assert len({row["epe"] for row in result.rows}) == 5
    assert {row["name"] for row in result.rows} == {"flow"}
    assert json.loads((tmp_path / "results.json").read_text())["rows"] == list(result.rows)
    assert "| flow | resolution |" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "report.html").stat().st_size > 10_000

    from eventfm.api import disturbing

    def never(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("nothing is left to score")

    monkeypatch.setattr(disturbing, "score_task", never)
    assert suite(worlds, flow_model.out, tmp_path).rows == result.rows
    with pytest.raises(ValueError, match="is of other data; choose another out="):
        evaluate(
            "robustness", models=str(flow_model.out), out=str(tmp_path), perturbations=("drop",), severities=(3,),
            data={"path": str(worlds), "labels": str(worlds / "labels.csv"), "image_size": 32},
        )  # fmt: skip


def test_labels_move_with_the_pixels(worlds: Path, flow_model: FinetuneResult) -> None:
    from eventfm.api.disturbing import RobustnessConfig

    config = RobustnessConfig(models="", out="", data={"path": str(worlds), "labels": str(worlds / "labels.csv")})
    samples = _test_windows(read_model_card(flow_model.model), config)
    plain, worse = (filled(replace(samples, disturbance=d)) for d in (None, Disturbance("resolution", 5)))
    halved = Disturbance("resolution", 5)
    pixel = np.array(_pixel(samples, halved))[:, None, None]
    known = np.isfinite(plain["flow"]) & np.isfinite(worse["flow"])
    assert known.mean() > 0.5
    # In pixels of the sensor the flow is what it was, but for which pixel stands for each.
    off = np.abs(
        worse["flow"] * pixel - plain["flow"] * np.array(_pixel(samples, Disturbance("drop", 3)))[:, None, None]
    )
    assert np.median(off[known]) < 0.05
    assert not np.array_equal(plain["input"], worse["input"])

    dropped = filled(replace(samples, disturbance=Disturbance("drop", 5)))
    np.testing.assert_array_equal(dropped["flow"], plain["flow"])
    assert dropped["seen"].sum() < plain["seen"].sum()


def filled(samples: Any) -> dict[str, np.ndarray]:
    out = {name: np.empty(shape, np.float32) for name, shape in samples.shapes.items()}
    samples.fill(len(samples) // 2, None, out)
    return out


def test_mistakes_are_named(worlds: Path, flow_model: FinetuneResult, trained: RunResult, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown perturbation 'nois'; did you mean 'noise'"):
        suite(worlds, flow_model.out, tmp_path, perturbations=("nois",))
    with pytest.raises(ValueError, match="eventfm finetune"):
        suite(worlds, trained.encoder, tmp_path)
