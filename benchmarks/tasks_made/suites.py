"""The four tasks, each one `eventfm evaluate transfer`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eventfm.api.transferring import TransferResult, transfer
from tasks_made.encoders import DISTILLED, STAGE1
from tasks_made.settings import Settings
from tasks_made.worlds import LABELLED, WIDE


def compare(task: str, out: Path, settings: Settings) -> TransferResult:
    """Return what the encoders and the network without pretraining come to on one task.

    Raises:
        SystemExit: It was stopped.
    """
    worlds = out / (WIDE if task == "depth" else LABELLED)
    result = transfer(
        recipe=task,
        encoders=[str(out / name) for name in (STAGE1, DISTILLED)],
        data={"path": str(worlds), "labels": str(worlds / "labels.csv"), "num_workers": 1},
        protocols=("full",),
        shares=settings.shares,
        seeds=settings.seeds,
        task=_task(task, settings),
        train={
            "epochs": None,
            "num_steps": settings.steps[task],
            "batch_size": settings.batch[task],
            "lr": settings.lr,
            "device": "cpu",
        },
        workers=settings.workers,
        out=str(out / task),
    )
    if len(result.cells) < 3 * len(settings.shares) * len(settings.seeds):
        raise SystemExit("stopped; the same command goes on from here")
    return result


def _task(task: str, settings: Settings) -> dict[str, Any]:
    out: dict[str, Any] = {"layer_decay": settings.layer_decay[task]}
    if task != "recognition":
        out["head"] = {"name": "upernet", "dim": settings.head_dim}
    if task in ("segmentation", "flow"):
        out["auxiliary"] = 0
    if task == "depth":
        out["scale"] = "log"
    return out
