"""The transfer suite: every row under one budget, resumable by row, with what pretraining adds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eventfm.api import evaluate
from eventfm.api.pretraining import RunResult
from eventfm.api.transfer_cells import CellResult, Labels, Row, cells_of
from eventfm.api.transfer_report import class_tables, label_plots, lines_of
from eventfm.api.transferring import TransferResult
from eventfm.config import ConfigError
from eventfm.evaluation.scoring import Scored
from eventfm.simulation.scene import CLASS_NAMES
from eventfm.tasks.metrics import build_metrics
from eventfm.visualization.intervals_plot import Mark

TINY: dict[str, Any] = {
    "recipe": "segmentation",
    "seeds": (0, 1),
    "task": {"head": {"name": "upernet", "dim": 16}},
    "train": {"num_steps": 2, "batch_size": 4, "device": "cpu"},
}


def suite(worlds: Path, encoder: Path, out: Path, **changes: Any) -> TransferResult:
    data = {"path": str(worlds), "labels": str(worlds / "labels.csv"), "window": {"duration_us": 10_000}}
    result = evaluate("transfer", **{**TINY, "encoders": str(encoder), "data": data, "out": str(out), **changes})
    assert isinstance(result, TransferResult)
    return result


@pytest.fixture(scope="module")
def result(worlds: Path, trained: RunResult, tmp_path_factory: pytest.TempPathFactory) -> TransferResult:
    return suite(worlds, trained.out, tmp_path_factory.mktemp("suites") / "out")


def test_every_row_has_its_control_and_all_seeds(result: TransferResult) -> None:
    cells = [(c.cell.row.name, c.cell.protocol, c.cell.seed) for c in result.cells]
    assert cells == [
        (row, protocol, seed)
        for seed in (0, 1)
        for protocol in ("linear", "full")
        for row in ("ours", "without pretraining")
    ]
    values = json.loads((result.out / "results.json").read_text())
    assert values["runs"][0]["figures"] == result.cells[0].figures
    assert {key.partition(" - ")[2] for key in values["differences"]} == {"without pretraining"}
    assert len(values["differences"]) == 2
    table = (result.out / "table.md").read_text()
    assert table.count("\n| ours |") == table.count("\n| without pretraining |") == 2
    assert "trivial (does not look)" in table
    report = (result.out / "report.html").read_text()
    assert "Best and worst test windows" in report
    assert not (result.out / "runs" / result.cells[0].cell.slug / "checkpoints").exists()


def test_figures_are_those_of_the_sums(result: TransferResult) -> None:
    metrics = build_metrics("segmentation", len(result.classes))
    for cell in result.cells:
        assert cell.sums.shape[0] == len(result.groups)
        assert metrics.from_sums(cell.sums.sum(0)) == pytest.approx(cell.figures)


def test_every_class_is_told_in_all_places(result: TransferResult) -> None:
    values = json.loads((result.out / "results.json").read_text())
    assert tuple(values["classes"]) == result.classes == CLASS_NAMES
    for run, cell in zip(values["runs"], result.cells, strict=True):
        assert run["iou_by_class"] == list(cell.by_class)
        assert np.mean([v for v in cell.by_class if v is not None]) == pytest.approx(cell.figures["miou"])
    assert len(values["trivial"]["iou_by_class"]) == len(CLASS_NAMES)

    (table,) = class_tables(result, lines_of(result))
    assert table.columns == ["class", "ours", "without pretraining", "difference", "trivial"]
    assert [row[0] for row in table.rows] == list(CLASS_NAMES)
    best = max(("linear", "full"), key=lambda p: np.mean([c.figures["miou"] for c in of(result, "ours", p)]))
    assert f"ours, {best}, labels 1" in table.caption
    wall = [np.mean([c.by_class[0] for c in of(result, row, best)]) for row in ("ours", "without pretraining")]
    assert table.rows[0][1:4] == [f"{wall[0]:.4f}", f"{wall[1]:.4f}", f"{wall[0] - wall[1]:+.4f}"]
    text = "| " + " | ".join(table.rows[0]) + " |"
    assert text in (result.out / "table.md").read_text()
    assert f"<td>{table.rows[0][3]}</td>" in (result.out / "report.html").read_text()


def of(result: TransferResult, row: str, protocol: str) -> list[CellResult]:
    return [c for c in result.cells if (c.cell.row.name, c.cell.protocol) == (row, protocol)]


def made_up(labels: list[Labels]) -> TransferResult:
    """Return results of two classes of three: the encoder is better with `full`, and with more labels."""
    rows = [Row("a", "ours", "pretrained", "control"), Row("a", "control", "scratch")]
    cells = []
    for cell in cells_of(rows, ("linear", "full"), labels, (0, 1)):
        amount = cell.labels.share or (cell.labels.shots or 0) / 100
        iou = 0.5 + 0.2 * amount + 0.1 * (cell.protocol == "full") - 0.05 * (cell.row.name == "control")
        figures = {"miou": iou, "class_accuracy": iou, "pixel_accuracy": iou}
        by_class = (iou - 0.1, iou + 0.1, None if cell.seed else 0.0)
        cells.append(CellResult(cell, figures, np.ones((4, 9)), 1, by_class))
    trivial = Scored({"miou": 0.1, "class_accuracy": 0.1, "pixel_accuracy": 0.1}, np.ones((4, 9)), (0.1, 0.0, None))
    return TransferResult(Path(), "segmentation", tuple(cells), trivial, np.arange(4), {}, ("a", "b", "c"))


def test_classes_of_the_best_protocol_with_the_most_labels() -> None:
    result = made_up([Labels(0.1), Labels(1.0), Labels(None, 4)])
    (table,) = class_tables(result, lines_of(result))
    assert "ours, full, labels 1, seeds: 2" in table.caption
    assert table.rows == [
        ["a", "0.7000", "0.6500", "+0.0500", "0.1000"],
        ["b", "0.9000", "0.8500", "+0.0500", "0.0000"],
        ["c", "0.0000", "0.0000", "+0.0000", "-"],
    ]


def test_curves_over_shares_and_over_shots_for_each_protocol() -> None:
    result = made_up([Labels(0.1), Labels(1.0), Labels(None, 1), Labels(None, 4)])
    plots = label_plots(lines_of(result), "miou", Mark("trivial", 0.1))
    assert [caption for caption, _ in plots] == [
        f"{protocol}, over the {counted}"
        for protocol in ("linear", "full")
        for counted in ("share of the training labels", "number of labels of each class")
    ]
    for _, figure in plots:
        names = [text.get_text() for text in figure.legends[0].get_texts()]
        assert names == ["ours", "control", "trivial"]
    one = made_up([Labels(1.0), Labels(None, 4)])
    assert label_plots(lines_of(one), "miou", Mark("trivial", 0.1)) == [], "a point is no curve"


def test_what_is_done_is_not_done_again(
    result: TransferResult, worlds: Path, trained: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eventfm.api import transferring

    def never(config: Any) -> Any:
        raise AssertionError("nothing is left to do")

    with monkeypatch.context() as patch:
        patch.setattr(transferring, "run_finetune", never)
        again = suite(worlds, trained.out, result.out)
    assert [c.figures for c in again.cells] == [c.figures for c in result.cells]
    assert all(np.array_equal(a.sums, b.sums) for a, b in zip(again.cells, result.cells, strict=True))
    assert [c.by_class for c in again.cells] == [c.by_class for c in result.cells]

    with pytest.raises(ValueError, match="of a run with other settings; choose another out="):
        suite(worlds, trained.out, result.out, train={**TINY["train"], "num_steps": 3})


def test_a_suite_that_is_stopped_keeps_what_is_done(
    worlds: Path, trained: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eventfm.api import transferring

    run, done = transferring.run_finetune, []

    def stopped(config: Any) -> Any:
        result = run(config)
        done.append(config.out)
        return result if len(done) < 3 else type(result)(
            result.out, result.model, result.step, True, {}, result.step
        )  # fmt: skip

    monkeypatch.setattr(transferring, "run_finetune", stopped)
    result = suite(worlds, trained.out, tmp_path / "out", protocols=("linear",), seeds=(0, 1))
    assert len(result.cells) == 2
    assert (tmp_path / "out" / "table.md").exists()
    monkeypatch.setattr(transferring, "run_finetune", run)
    whole = suite(worlds, trained.out, tmp_path / "out", protocols=("linear",), seeds=(0, 1))
    assert len(whole.cells) == 4


def test_several_runs_at_a_time_give_what_one_after_the_other_gives(
    result: TransferResult, worlds: Path, trained: RunResult, tmp_path: Path
) -> None:
    beside = suite(worlds, trained.out, tmp_path / "out", protocols=("linear",), workers=2)
    alone = [cell for cell in result.cells if cell.cell.protocol == "linear"]
    assert [cell.cell for cell in beside.cells] == [cell.cell for cell in alone]
    for one, other in zip(beside.cells, alone, strict=True):
        assert one.figures == pytest.approx(other.figures, abs=1e-3)
        assert "step" in (tmp_path / "out" / "runs" / f"{one.cell.slug}.log").read_text()


def test_rows_are_scored_on_the_test_recordings_alone(result: TransferResult) -> None:
    assert len(np.unique(result.groups)) == 4, "of twenty recordings a fifth is for testing"


def test_mistakes_are_named(worlds: Path, trained: RunResult, store: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown suite 'transfr'; did you mean 'transfer'"):
        evaluate("transfr")
    with pytest.raises(ConfigError, match="expected encoders=FOLDER"):
        suite(worlds, Path(), tmp_path / "a", encoders="")
    with pytest.raises(ValueError, match="no recording is for test"):
        evaluate(
            "transfer", **{**TINY, "recipe": "recognition", "task": {}}, encoders=str(trained.out),
            data={"path": str(store), "labels": str(_unsplit(store, tmp_path))}, out=str(tmp_path / "a"),
        )  # fmt: skip


def _unsplit(store: Path, folder: Path) -> Path:
    rows = [f"r{n:02d},{'down' if n % 2 else 'right'}" for n in range(12)]
    (folder / "labels.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    return folder / "labels.csv"
