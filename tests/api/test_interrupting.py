"""Ctrl-C in commands that train: they end soon, keep what they have, say how to go on, and a script does not go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from eventfm.api.pretraining import RunResult

LONG = ["train.num_steps=100000", "train.batch_size=2", "train.device=cpu", "data.window.duration_us=10000"]


def interrupted(arguments: list[str], begun: Path, pattern: str) -> tuple[int, str]:
    """Return status and errors of a command to which Ctrl-C came once a file was there, as it does from a terminal."""
    with subprocess.Popen(
        [sys.executable, "-m", "eventfm.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as run:
        deadline = time.monotonic() + 120
        while not list(begun.glob(pattern)) and run.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        with suppress(ProcessLookupError):  # it ended before, and has said why
            os.killpg(run.pid, signal.SIGINT)
        try:
            return run.wait(60), run.communicate()[1]
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)


def test_finetune(worlds: Path, trained: RunResult, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ["finetune", "flow", f"encoder={trained.out}", f"data.path={worlds}", f"out={out}", *LONG]
    status, said = interrupted([*arguments, "train.save_every=2"], out, "checkpoints/step_*")
    assert status == 130, said
    (saved,) = (line for line in said.splitlines() if line.startswith("stopped; step "))
    assert saved.endswith("of 100000 is saved, and the same command resumes there")
    assert (out / "checkpoints" / f"step_{int(saved.split()[2]):08d}" / "state.json").exists()
    assert "Traceback" not in said


@pytest.mark.parametrize("workers", [1, 2])
def test_transfer(worlds: Path, trained: RunResult, tmp_path: Path, workers: int) -> None:
    out = tmp_path / "suite"
    settings = [f"encoders={trained.out}", f"data.path={worlds}", f"data.labels={worlds / 'labels.csv'}", f"out={out}"]
    command = ["evaluate", "transfer", "recipe=flow", "protocols=linear", "seeds=0", f"workers={workers}", *settings]
    status, said = interrupted([*command, *LONG, "train.save_every=2"], out, "runs/*/checkpoints/step_*")
    assert status == 130, said
    assert "stopped; 0 of 2 runs are kept, and the same command goes on" in said
    assert "Traceback" not in said
    assert list(out.glob("runs/*/checkpoints/step_*/state.json"))
