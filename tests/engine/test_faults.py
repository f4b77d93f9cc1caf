"""Processes that are really killed, and runs that go on from what they left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from engine_toy import assert_same_bits, final_tensors, metrics, run

SCRIPT = Path(__file__).with_name("fault_run.py")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    out = tmp_path_factory.mktemp("straight") / "run"
    run(out, dropout=0.1, keep_last=1)
    return out


def start(out: Path, fault: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), str(out), fault],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(SCRIPT.parent)},
    )


def assert_resumes(out: Path, uninterrupted: Path) -> None:
    run(out, dropout=0.1, keep_last=1)
    assert_same_bits(final_tensors(out), final_tensors(uninterrupted))
    names = ("step", "loss", "error", "grad_norm", "lr", "epoch")
    lines = [[record[name] for name in names] for record in metrics(out)]
    assert lines == [[record[name] for name in names] for record in metrics(uninterrupted)]
    assert not list((out / "checkpoints").glob(".tmp_*"))
    assert [path.name for path in (out / "checkpoints").glob("step_*")] == ["step_00000010"]


@pytest.mark.parametrize(
    ("fault", "left"),
    [
        ("in_step", ["step_00000004"]),
        ("in_save", [".tmp_step_00000008", "step_00000004"]),
        ("before_rename", [".tmp_step_00000008", "step_00000004"]),
        ("in_prune", [".tmp_old_00000004", "step_00000008"]),
    ],
)
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, uninterrupted, fault, left):
    out = tmp_path / "run"
    done = start(out, fault)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert sorted(path.name for path in (out / "checkpoints").iterdir() if path.is_dir()) == left
    assert_resumes(out, uninterrupted)


def test_sigterm_saves_the_step_under_way_and_exits_with_0(tmp_path, uninterrupted):
    out = tmp_path / "run"
    done = start(out, "terminate")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "interrupted 6"
    assert (out / "checkpoints" / "step_00000006" / "state.json").exists()
    assert_resumes(out, uninterrupted)


def test_ctrl_c_saves_the_step_under_way_and_says_so(tmp_path, uninterrupted):
    out = tmp_path / "run"
    done = start(out, "interrupt")
    assert done.returncode == -signal.SIGINT, done.stderr  # what a script without a handler ends with
    assert "interrupted" not in done.stdout
    assert "stopped; step 6 of 10 is saved, and the same command resumes there" in done.stderr
    assert (out / "checkpoints" / "step_00000006" / "state.json").exists()
    assert_resumes(out, uninterrupted)
