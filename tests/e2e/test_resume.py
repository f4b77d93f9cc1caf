"""Whole runs that are killed with SIGKILL and go on: the end is the same, bit for bit, for any number of workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_run
import torch

# Sums depend in their last bit on how many threads share them: both halves of a run must have as many.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
SCRIPT = Path(tiny_run.__file__)


def lines(out: Path) -> list[dict]:
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in record.items() if k not in ("samples_per_s", "memory_gib")} for record in records]


def weights(out: Path) -> bytes:
    return (out / "encoder" / "encoder.safetensors").read_bytes()


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("fault", ["in_step", "in_save", "before_rename"])
def test_killed_and_resumed(drift: Path, straight: Path, tmp_path: Path, fault: str, num_workers: int) -> None:
    out = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(drift), str(out), str(num_workers), fault],
        capture_output=True,
        text=True,
        timeout=120,
        env=ENVIRONMENT,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    kept = sorted(path.name for path in (out / "checkpoints").glob("step_*"))
    assert kept == ["step_00000003"]
    result = tiny_run.pretrain(drift, out, num_workers)
    assert result.step == 8
    assert weights(out) == weights(straight)
    assert lines(out) == lines(straight)
    assert not [path for path in (out / "checkpoints").iterdir() if path.name.startswith(".tmp")]


def test_workers_do_not_change_a_run(drift: Path, straight: Path, tmp_path: Path) -> None:
    tiny_run.pretrain(drift, tmp_path / "run", num_workers=2)
    assert weights(tmp_path / "run") == weights(straight)


def test_a_finished_run_left_everything(straight: Path) -> None:
    assert sorted(path.name for path in straight.iterdir()) == [
        "checkpoints",
        "config.yaml",
        "encoder",
        "metrics.jsonl",
        "pictures",
        "report.html",
    ]
    assert sorted(path.name for path in (straight / "encoder").iterdir()) == ["config.json", "encoder.safetensors"]
    assert [record["step"] for record in lines(straight)] == list(range(9))
    assert "http" not in (straight / "report.html").read_text()
