"""Train the toy and kill the process at a chosen place: `fault_run.py OUT FAULT`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from engine_toy import ToyObjective, run

from eventfm.engine import checkpoint


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_step() -> None:
    plain = ToyObjective.after_step

    def after_step(self, progress):
        plain(self, progress)
        if progress.step == 6:
            kill()

    ToyObjective.after_step = after_step


def in_save() -> None:
    plain = checkpoint.write_tensors

    def write_tensors(path, tensors):
        plain(path, tensors)
        if path.name.endswith("8"):
            (path / ".metadata").unlink()
            data = next(path.glob("*.distcp"))
            os.truncate(data, data.stat().st_size // 2)
            kill()

    checkpoint.write_tensors = write_tensors


def before_rename() -> None:
    plain = Path.rename

    def rename(self, target):
        if Path(target).name == "step_00000008":
            kill()
        return plain(self, target)

    Path.rename = rename


def in_prune() -> None:
    plain = checkpoint.shutil.rmtree

    def rmtree(path, *args, **kwargs):
        if "old_" in Path(path).name:
            next(Path(path).glob("*.distcp")).unlink()
            kill()
        return plain(path, *args, **kwargs)

    checkpoint.shutil.rmtree = rmtree


def ask(number: signal.Signals) -> None:
    plain = ToyObjective.forward

    def forward(self, batch, progress):
        if progress.step == 5:
            os.kill(os.getpid(), number)
        return plain(self, batch, progress)

    ToyObjective.forward = forward


if __name__ == "__main__":
    out, fault = Path(sys.argv[1]), sys.argv[2]
    {
        "in_step": in_step,
        "in_save": in_save,
        "before_rename": before_rename,
        "in_prune": in_prune,
        "terminate": lambda: ask(signal.SIGTERM),
        "interrupt": lambda: ask(signal.SIGINT),
    }[fault]()
    _, result = run(out, dropout=0.1, keep_last=1)
    print("interrupted" if result.interrupted else "complete", result.step)
