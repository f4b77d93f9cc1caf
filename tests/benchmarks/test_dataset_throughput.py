"""The benchmark of data sets: its folders are those of the sets, its files hold the events, all of it runs."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from eventfm.data.datasets.opening import locate
from eventfm.data.datasets.registry import DATASETS

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture
def folders() -> ModuleType:
    return importlib.import_module("stored.folders")


@pytest.mark.parametrize("name", ["n-mnist", "n-caltech101", "n-imagenet"])
def test_a_folder_is_one_of_the_data_set(folders: ModuleType, tmp_path: Path, name: str) -> None:
    if name not in DATASETS:
        pytest.skip(f"there is no data set {name}")
    dataset, kind = DATASETS.get(name), folders.KINDS[name]
    files = folders.make_folder(kind, dataset.card.sensor, tmp_path / "set", 150, 30)
    assert len(files) == 150
    assert files == sorted(set(files))
    assert len({file.stat().st_ino for file in files}) == folders.ORIGINALS
    found = locate(name, tmp_path / "set").found.samples
    assert sorted(tmp_path / "set" / sample.files[0] for sample in found) == files
    assert {sample.label for sample in found} <= set(range(len(dataset.card.classes)))
    numbers = {file.stat().st_ino: number for number, file in enumerate((tmp_path / "set-originals").iterdir())}
    originals = [int(file.name) for file in (tmp_path / "set-originals").iterdir()]
    for sample in found[:20]:
        file = tmp_path / "set" / sample.files[0]
        expected = folders.drawn(originals[numbers[file.stat().st_ino]], dataset.card.sensor, 30)
        events = dataset.open(tmp_path / "set", sample, "raise").events_by_index(0, 100)
        for column in "xytp":
            np.testing.assert_array_equal(getattr(events, column), getattr(expected, column))
        assert len(kind.load(file)) == len(expected) * (1 if file.suffix == ".npz" else 5)


def results(**change: Any) -> dict[str, Any]:
    row = {"seconds": 4.0, "samples": 100_000, "bytes_per_sample": 500.0}
    preparing = {"samples_per_s": 50.0, "seconds": 9.0, "files": 3, "bytes_per_event": 2.5}
    reading = {"plain": 200.0, "folder": 100.0, "store": 150.0, "folder_loader": 40.0, "store_loader": 60.0}
    cuts = {"folder_cut_s": 1.5, "store_cut_s": 0.25}
    made = {"set": "n-mnist", "events": 4000, "prepared": 10, "threads": 2, "opening_us": 30.0}
    return {**made, "listing": row, "reopening": row, "preparing": {"2": preparing}, "reading": reading | cuts} | change


def test_rates_stand_beside_their_ratio_to_numpy(tmp_path: Path) -> None:
    report = importlib.import_module("stored.report")
    report.write_report(tmp_path, results())
    text = (tmp_path / "README.md").read_text()
    assert "| 2 process(es) | 50 | 0.25 | 9.0 | 3 | 2.50 |" in text
    assert "| events of what was prepared | 150 | 0.75 |  |" in text
    assert "| loader, from the folder | 40 | 0.20 | 1.50 |" in text
    assert "| loader, from what was prepared | 60 | 0.30 | 0.25 |" in text
    assert "| folder as downloaded | 100,000 | 4.00 | 500 |" in text
    assert "All targets are met." in text
    assert json.loads((tmp_path / "results.json").read_text())["reading"]["plain"] == 200.0


def test_targets_that_are_missed_are_named() -> None:
    misses = importlib.import_module("stored.report").misses
    slow = {"seconds": 15.0, "samples": 50_000, "bytes_per_sample": 500.0}
    assert misses(results()) == []
    assert misses(results(listing=slow)) == ["listing"]
    assert misses(results(listing=slow | {"samples": 100_000})) == []
    assert misses(results(reopening=slow, opening_us=1001.0)) == ["opening what was prepared", "opening one sample"]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured as Linux shows it")
def test_all_of_it_runs(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "dataset_throughput.py"), "--set", "n-mnist", "--workers", "0"]
    command += ["--quick", "--count", "300", "--prepare", "40", "--events", "50", "--out", str(tmp_path / "out")]
    done = subprocess.run([*command, "--temp", str(tmp_path)], check=True, capture_output=True, text=True)
    assert "| loader, from what was prepared |" in done.stdout
    found = json.loads((tmp_path / "out/results.json").read_text())
    assert (found["listing"]["samples"], found["reopening"]["samples"], found["prepared"]) == (300, 40, 40)
    assert found["listing"]["seconds"] > 0
    assert all(rate > 0 for rate in found["reading"].values())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
