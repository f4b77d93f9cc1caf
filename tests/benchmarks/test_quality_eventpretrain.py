"""The quality benchmark: what rows come to, that a stopped run goes on, and, slow, that all of it runs."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture
def results() -> ModuleType:
    return importlib.import_module("quality.results")


def write(folder: Path, name: str, correct: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({"correct": correct, "accuracy": 0.0}))


def test_what_is_kept_is_not_computed_again(results: ModuleType, tmp_path: Path) -> None:
    calls: list[int] = []

    def compute() -> dict[str, object]:
        calls.append(1)
        return {"accuracy": 0.5, "correct": results.packed(np.array([True, False]))}

    file = tmp_path / "rows" / "a.json"
    assert results.kept(file, compute) == results.kept(file, compute) == {"accuracy": 0.5, "correct": "10"}
    assert len(calls) == 1

    def stopped() -> dict[str, object]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        results.kept(tmp_path / "rows" / "b.json", stopped)
    assert [path.name for path in (tmp_path / "rows").iterdir()] == ["a.json"]


def test_a_cell_needs_every_seed_and_counts_need_one(results: ModuleType, tmp_path: Path) -> None:
    write(tmp_path, "stage1-cifar-linear-0", "1100")
    write(tmp_path, "counts-cifar-linear-0", "1000")
    assert set(results.gather(tmp_path, (0, 1))) == {("counts", "cifar", "linear")}
    write(tmp_path, "stage1-cifar-linear-1", "1010")
    cell = results.gather(tmp_path, (0, 1))["stage1", "cifar", "linear"]
    np.testing.assert_array_equal(cell.accuracies, [0.5, 0.5])
    np.testing.assert_array_equal(cell.score.correct, [1, 0.5, 0.5, 0])


def test_scratch_stands_for_what_is_fine_tuned_untrained(results: ModuleType, tmp_path: Path) -> None:
    write(tmp_path, "scratch-nmnist-few-0", "10")
    write(tmp_path, "untrained-nmnist-linear-0", "01")
    cells = results.gather(tmp_path, (0,))
    np.testing.assert_array_equal(cells["untrained", "nmnist", "few"].correct, [[1, 0]])
    np.testing.assert_array_equal(cells["scratch", "nmnist", "linear"].correct, [[0, 1]])


def test_differences_are_paired_by_sample_over_the_mean_of_seeds(results: ModuleType, tmp_path: Path) -> None:
    # The same samples are right but for 10 of 200, so that the paired interval is far narrower than an unpaired one.
    base = np.arange(200) % 2
    better = base.copy()
    better[np.flatnonzero(base == 0)[:10]] = 1
    for seed in (0, 1):
        write(tmp_path, f"stage1-cifar-linear-{seed}", "".join(map(str, base)))
        write(tmp_path, f"stages123-cifar-linear-{seed}", "".join(map(str, better)))
    found = results.differences(results.gather(tmp_path, (0, 1)))
    assert list(found) == ["stages123 - stage1 | cifar | linear"]
    middle, low, high = found["stages123 - stage1 | cifar | linear"]
    assert middle == pytest.approx(0.05)
    assert 0.02 <= low < 0.03
    assert 0.07 < high <= 0.085


def test_page_shows_rows_spread_and_what_is_apart(results: ModuleType, tmp_path: Path) -> None:
    report = importlib.import_module("quality.report")
    settings = importlib.import_module("quality.settings").Settings(seeds=(0, 1))
    for seed, correct in ((0, "1" * 60 + "0" * 40), (1, "1" * 80 + "0" * 20)):
        write(tmp_path / "rows", f"stage1-nmnist-linear-{seed}", correct)
        write(tmp_path / "rows", f"untrained-nmnist-linear-{seed}", "1" * 10 + "0" * 90)
    (tmp_path / "notes.md").write_text("What was tried.")
    report.write_report(tmp_path, settings)
    page = (tmp_path / "README.md").read_text()
    assert "| stage 1 | 70.0 ± 14.1 [" in page
    assert "| stage 1 - untrained | **+60.0 [" in page
    for said in ("Small-scale", "seeds [0, 1]", "What was tried."):
        assert said in page
    assert (tmp_path / "accuracies.png").stat().st_size > 1000
    values = json.loads((tmp_path / "results.json").read_text())
    assert values["cells"]["stage1 | nmnist | linear"]["each_seed"] == [0.6, 0.8]


def test_few_labels_are_balanced_from_the_training_part_and_the_same_each_time() -> None:
    few = importlib.import_module("quality.tuning").few
    labels = np.repeat(np.arange(5), 20)
    among = np.flatnonzero(np.arange(100) % 2 == 0)
    chosen = few(labels, among, 3, seed=1)
    assert np.bincount(labels[chosen]).tolist() == [3] * 5
    assert set(chosen) <= set(among)
    np.testing.assert_array_equal(chosen, few(labels, among, 3, seed=1))
    assert not np.array_equal(chosen, few(labels, among, 3, seed=2))


def test_other_settings_are_another_folder() -> None:
    settings = importlib.import_module("quality.settings").Settings
    plain = settings.of("vit", False, [])
    assert settings.of("vit", False, ["seeds=[0]"]).digest == plain.digest
    assert settings.of("vit", False, ["patch=8"]).digest != plain.digest
    with pytest.raises(SystemExit, match="unknown setting 'patches'"):
        settings.of("vit", False, ["patches=4"])


def test_simclr_finds_the_other_view() -> None:
    import torch

    nt_xent = importlib.import_module("quality.teacher").nt_xent
    features = torch.eye(4)
    assert nt_xent(torch.cat([features, features])) < 0.1
    assert nt_xent(torch.cat([features, features.roll(1, dims=0)])) > 3


@pytest.mark.slow
@pytest.mark.skipif("EVENTFM_TEST_DATA" not in os.environ, reason="EVENTFM_TEST_DATA is unset")
def test_all_of_it_runs_and_a_second_time_nothing_is_left_to_do(tmp_path: Path) -> None:
    command = [
        sys.executable, str(BENCHMARKS / "quality_eventpretrain.py"), "--backbone", "vit", "--quick",
        "--data", os.environ["EVENTFM_TEST_DATA"], "--out", str(tmp_path),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    rows = {path: path.read_bytes() for path in (tmp_path / "rows").iterdir()}
    assert len(rows) == 2 * (2 + 5 + 5) + 2
    page = (tmp_path / "README.md").read_text()
    assert page.count("] |") >= 30
    (tmp_path / "rows" / "joint-cifar-few-0.json").unlink()
    subprocess.run(command, check=True, capture_output=True)
    assert {path: path.read_bytes() for path in (tmp_path / "rows").iterdir()} == rows
