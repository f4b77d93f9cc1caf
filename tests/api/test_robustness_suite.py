"""The robustness suite: the same windows, made worse, with labels moved as the pixels are."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eventfm.api import evaluate, finetune
from eventfm.api.disturbing import RobustnessConfig, RobustnessResult, _test_windows
from eventfm.api.finetuning import FinetuneResult
from eventfm.api.pretraining import RunResult
from eventfm.config import ConfigError
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
            data={"path": str(worlds), "labels": str(worlds / "labels.csv"), "on_error": "sort"},
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


def recognition(store: Path, table: Path, encoder: Path, out: Path) -> FinetuneResult:
    train = {"num_steps": 1, "batch_size": 4, "device": "cpu"}
    return finetune("recognition", data=store, encoder=encoder, out=out, train=train, **{"data.labels": table})


def scored(store: Path, table: Path, models: Any, out: Path, **changes: Any) -> RobustnessResult:
    settings: dict[str, Any] = {"perturbations": ("drop",), "severities": (0, 5), **changes}
    data = {"path": str(store), "labels": str(table)}
    result = evaluate("robustness", models=models, data=data, out=str(out), **settings)
    assert isinstance(result, RobustnessResult)
    return result


def table_of(folder: Path, labels: dict[int, str], tests: range) -> Path:
    """Return labels of the store of bars, `labels` by number where they are not those of the bars."""
    usual = {n: labels.get(n, "down" if n % 2 else "right") for n in range(12)}
    rows = [f"r{n:02d},{usual[n]},{'test' if n in tests else 'train'}" for n in range(12)]
    file = folder / "table.csv"
    file.write_text("\n".join(["path,label,split", *rows]) + "\n")
    return file


@pytest.fixture(scope="module")
def named(
    store: Path, table: Path, trained: RunResult, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, Path]:
    """Return models of recognition in `a/seg`, `b/seg` and `c/other`, trained on r00 to r07."""
    folder = tmp_path_factory.mktemp("named")
    first = recognition(store, table, trained.out, folder / "b" / "seg")
    shutil.copytree(first.out, folder / "a" / "seg")
    shutil.copytree(first.out, folder / "c" / "other")
    return folder / "b" / "seg", folder / "a" / "seg", folder / "c" / "other"


def test_models_keep_their_order_and_have_names_of_their_own(
    store: Path, table: Path, named: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    given = [str(named[0]), str(named[1] / "model"), str(named[2]), str(named[0] / "model")]
    result = scored(store, table, ",".join(given), tmp_path)
    assert list(dict.fromkeys(row["name"] for row in result.rows)) == ["b/seg", "a/seg", "other"]
    assert len(result.rows) == 3 * 2
    text = (tmp_path / "table.md").read_text()
    assert [line.split(" | ")[0] for line in text.splitlines()[2:]] == ["| b/seg", "| a/seg", "| other"]


def test_tests_that_were_trained_on_are_said(
    store: Path,
    table: Path,
    named: tuple[Path, Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The encoder and the model have seen r00 to r07, the model but for what chose its step."""
    result = scored(store, table_of(tmp_path, {}, range(5, 9)), str(named[2]), tmp_path / "out")
    assert result.seen.keys() == {"other"}
    assert "3 of 4 test recordings were seen in pretraining: r05, r06, r07." in result.seen["other"]
    assert "test recordings were seen in training: r05" in result.seen["other"]
    said = f"Warning, test recordings were seen before: other: {result.seen['other']}"
    assert said in capsys.readouterr().out
    assert said in (tmp_path / "out" / "table.md").read_text()
    assert said in (tmp_path / "out" / "report.html").read_text()
    assert json.loads((tmp_path / "out" / "results.json").read_text())["seen_in_training"] == result.seen

    clean = scored(store, table, str(named[2]), tmp_path / "clean")
    assert clean.seen == {}
    assert "Warning" not in capsys.readouterr().out + (tmp_path / "clean" / "table.md").read_text()


def test_a_figure_is_not_kept_over_another_label(store: Path, named: tuple[Path, Path, Path], tmp_path: Path) -> None:
    model, out = str(named[2]), tmp_path / "out"
    first = scored(store, table_of(tmp_path, {}, range(8, 12)), model, out)
    other = table_of(tmp_path, {n: "right" if n % 2 else "down" for n in range(8, 12)}, range(8, 12))
    with pytest.raises(ValueError, match=r"is of other test recordings or labels, .*; choose another out="):
        scored(store, other, model, out)
    again = scored(store, other, model, tmp_path / "again")
    assert again.rows[0]["top1"] == pytest.approx(1 - first.rows[0]["top1"])
    with pytest.raises(ValueError, match="is of other test recordings or labels"):
        scored(store, table_of(tmp_path, {}, range(9, 12)), model, out)


def test_labels_are_numbered_as_the_model_numbers_them(
    store: Path, named: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """A table of the second class alone, which is then the first one of its own."""
    whole = scored(store, table_of(tmp_path, {}, range(8, 12)), str(named[2]), tmp_path / "whole")
    alone = [f"r{n:02d},{'down' if n % 2 else 'right'},test" for n in (8, 10)], [9, 11]
    (tmp_path / "right.csv").write_text("\n".join(["path,label,split", *alone[0]]) + "\n")
    (tmp_path / "down.csv").write_text(
        "\n".join(["path,label,split", *(f"r{n:02d},down,test" for n in alone[1])]) + "\n"
    )
    parts = [scored(store, tmp_path / f"{name}.csv", str(named[2]), tmp_path / name) for name in ("right", "down")]
    mean = sum(part.rows[0]["top1"] for part in parts) / 2
    assert mean == pytest.approx(whole.rows[0]["top1"])


def test_what_cannot_be_scored_is_refused_before_anything_is(
    store: Path,
    table: Path,
    worlds: Path,
    flow_model: FinetuneResult,
    named: tuple[Path, Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from eventfm.api import disturbing

    def never(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("something was scored")

    monkeypatch.setattr(disturbing, "score_task", never)
    model = str(named[2])
    with pytest.raises(ValueError, match="expected models of one task, got flow, recognition"):
        scored(store, table, f"{model},{flow_model.out}", tmp_path)
    with pytest.raises(ValueError, match="no recording is for test"):
        scored(store, table_of(tmp_path, {}, range(0)), model, tmp_path)
    with pytest.raises(ValueError, match=r"1 of 4 test recordings are of classes .* 'r09' of 'up'; it has down, right"):
        scored(store, table_of(tmp_path, {9: "up"}, range(8, 12)), model, tmp_path)
    with pytest.raises(ValueError, match="expected a severity from 0"):
        scored(store, table, model, tmp_path, severities=(0, 6))
    for key, value in (("window", {"duration_us": 20_000}), ("image_size", 64)):
        data = {"path": str(store), "labels": str(table), key: value}
        with pytest.raises(ConfigError, match=rf"leave data\.{key} out"):
            evaluate("robustness", models=model, data=data, out=str(tmp_path))


def test_mistakes_are_named(worlds: Path, flow_model: FinetuneResult, trained: RunResult, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown perturbation 'nois'; did you mean 'noise'"):
        suite(worlds, flow_model.out, tmp_path, perturbations=("nois",))
    with pytest.raises(ValueError, match="eventfm finetune"):
        suite(worlds, trained.encoder, tmp_path)
