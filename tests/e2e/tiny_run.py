"""A pretraining run of seconds, whole: store, loader, ViT, checkpoints. As a script it is killed where it is told.

tiny_run.py DATA OUT NUM_WORKERS FAULT
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

import eventfm
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, save_recordings
from eventfm.random import generator

SETTINGS: dict[str, Any] = {
    "method": {
        "backbone": {"name": "vit_nano", "arguments": {"patch_size": 8}},
        "decoder": {"dim": 32, "depth": 1, "num_heads": 2},
    },
    "data.window.duration_us": 20_000,
    "data.holdout": 0.25,
    "train.num_steps": 8,
    "train.batch_size": 8,
    "train.save_every": 3,
    "train.log_every": 1,
    "train.keep_last": 1,
    "validate_every": 4,
}
OVERRIDES = [f"{key}={value}" for key, value in SETTINGS.items() if key != "method"] + [
    "method.backbone.name=vit_nano",
    "method.backbone.arguments.patch_size=8",
    "method.decoder.dim=32",
    "method.decoder.depth=1",
    "method.decoder.num_heads=2",
]


def write_data(folder: Path) -> Path:
    """Write 12 recordings of edges that drift to the right at their own speed."""
    sensor = Sensor(32, 32)

    def drifting(number: int) -> ArrayRecording:
        rng = generator(0, "drift", number)
        t = np.sort(rng.integers(0, 60_000, 3000))
        x = (rng.integers(0, 32) + rng.uniform(50, 400) * t * 1e-6 + rng.normal(0, 0.7, 3000)) % 32
        return ArrayRecording(Events.checked(x.astype(int), rng.integers(0, 32, 3000), t, t % 3 == 0, sensor))

    return save_recordings(folder / "drift.h5", [(f"r{i:02d}", drifting(i)) for i in range(12)])


def pretrain(data: Path, out: Path, num_workers: int = 0) -> Any:
    return eventfm.pretrain(
        "difference-vit-tiny", data=str(data), out=str(out), **{**SETTINGS, "data.num_workers": num_workers}
    )


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(fault: str) -> None:
    from eventfm.engine import checkpoint
    from eventfm.methods.difference import DifferenceModeling

    if fault == "in_step":
        DifferenceModeling.after_step = lambda self, progress: kill() if progress.step == 4 else None
    elif fault == "in_save":
        plain = checkpoint.write_tensors

        def write_half(path: Path, tensors: Any) -> None:
            plain(path, tensors)
            if path.name.endswith("6"):
                data = next(path.glob("*.distcp"))
                os.truncate(data, data.stat().st_size // 2)
                kill()

        checkpoint.write_tensors = write_half
    elif fault == "before_rename":
        rename = Path.rename
        Path.rename = lambda self, target: kill() if Path(target).name == "step_00000006" else rename(self, target)
    else:
        raise SystemExit(f"unknown fault {fault}")


if __name__ == "__main__":
    arm(sys.argv[4])
    pretrain(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
