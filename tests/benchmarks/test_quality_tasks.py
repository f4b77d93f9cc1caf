"""The benchmark of the tasks on simulated worlds: its teacher, its verdicts, and, slow, that all of it runs."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eventfm.api.transfer_cells import Cell, CellResult, Labels, Row
from eventfm.api.transferring import TransferResult
from eventfm.evaluation.scoring import Scored
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, ArrayTrack, save_recording
from eventfm.tasks.metrics import build_metrics

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def part(name: str) -> Any:
    return importlib.import_module(f"tasks_made.{name}")


def test_shares_of_classes_in_patches() -> None:
    classes = torch.zeros(1, 16, 24, dtype=torch.uint8)
    classes[0, :4, 8:16] = 2  # half of the second patch
    found = part("teacher").shares(classes, 3)
    assert found.shape == (1, 6, 3)
    assert found[0, 1].tolist() == [0.5, 0, 0.5]
    assert (found[0, [0, 2, 3, 4, 5]] == torch.tensor([1.0, 0, 0])).all()


def test_a_patch_of_the_teacher_is_as_large_as_its_labels_are() -> None:
    teacher = part("teacher")
    network = teacher.build()
    assert teacher.tokens(network, torch.rand(2, 1, 64, 32)).shape == (2, 8 * 4, teacher.DIM)


def suite(task: str, ours: list[float], scratch: list[float], blind: list[float]) -> TransferResult:
    """Return a suite over test recordings of which each was answered right (1) or not, or so far in every pixel."""

    def sums(values: list[float]) -> Any:
        if task == "recognition":
            return np.array([[1.0, value, 1.0] for value in values])
        flow = torch.zeros(len(values), 2, 4, 4)
        moved = flow.clone()
        moved[:, 0] = torch.tensor(values)[:, None, None]
        batch = {"flow": flow, "seen": torch.ones(len(values), 4, 4, dtype=torch.bool)}
        return build_metrics(task, None).per_sample({"flow": moved}, batch).numpy()

    cells = tuple(
        CellResult(Cell(Row("e", name, weights, control), "full", Labels(share), seed), {}, sums(values), 1)
        for name, weights, control, values in (
            ("distilled", "pretrained", "scratch", ours), ("scratch", "scratch", "", scratch),
        )
        for share in (0.05, 1.0)
        for seed in (0, 1)
    )  # fmt: skip
    return TransferResult(Path(), task, cells, Scored({}, sums(blind)), np.arange(len(blind)), {}, ("a", "b"))


def test_rows_say_how_much_less_error_they_have_than_who_does_not_look(tmp_path: Path) -> None:
    settings = part("settings").Settings(seeds=(0, 1))
    suites = {
        "recognition": suite("recognition", [1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]),
        "flow": suite("flow", [1, 1], [1, 2], [4, 4]),
    }
    part("report").write_report(tmp_path, suites, settings)
    found = json.loads((tmp_path / "results.json").read_text())["tasks"]
    row = found["recognition"]["scratch | full | all"]
    assert row["mean"] == 0.5
    assert row["less_error"] == pytest.approx(1 - 0.5 / 0.75)
    row = found["flow"]["distilled | full | 0.05"]
    assert row["mean"] == pytest.approx(1)
    assert row["less_error"] == pytest.approx(0.75)
    assert row["difference"][0] == pytest.approx(-0.5)
    page = (tmp_path / "README.md").read_text()
    for text in (
        "| scratch | 5 % |",
        "| distilled | all | 100.0 ± 0.0 [100.0, 100.0] |",
        "| 33% |",
        "| 75% |",
        "does not look",
    ):
        assert text in page
    assert (tmp_path / "flow.png").stat().st_size > 1000


def test_who_knows_the_layout_alone_says_each_pixels_median(tmp_path: Path) -> None:
    near, far, test = (np.full((3, 4), depth, np.float32) for depth in (2, 4, 4))
    near[2], far[2], test[2] = 1, 1, 1
    test[0, 0] = np.nan
    worlds = [("a", "train", near), ("b", "train", far), ("c", "test", test), ("d", "val", 9 * near)]
    lines = ["path,label,split,fold"]
    for name, split, depth in worlds:
        events = Events.checked([0, 1], [0, 1], [0, 99_999], [0, 1], Sensor(4, 3))
        track = ArrayTrack(np.array([50_000, 100_000]), np.stack([depth, depth]))
        save_recording(tmp_path / f"{name}.h5", ArrayRecording(events, {"depth": track}))
        lines.append(f"{name}.h5,x,{split},")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    # Floor rows are known; elsewhere 3 is said of 4, in seven of the eleven known pixels.
    assert part("layout").layout_error(tmp_path) == pytest.approx(0.25 * 7 / 11)


@pytest.mark.slow
def test_all_of_it_runs_and_a_second_time_nothing_is_left_to_do(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "quality_tasks.py"), "--quick", "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    cells = {path: path.read_bytes() for path in tmp_path.glob("*/cells/*.json")}
    assert len(cells) == 4 * 3 * 2
    next(iter(cells)).unlink()
    subprocess.run(command, check=True, capture_output=True)
    assert {path: path.read_bytes() for path in cells} == cells
