"""Tiny runs on labels, and what two ranks do of them, run by torchrun: `finetune_checks.py OUT CHECK...`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from eventfm.api import finetune
from eventfm.api.finetuning import FinetuneResult
from eventfm.engine.distributed import session, world
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, ArrayTrack, save_recordings
from eventfm.models.ranks import num_ranks
from eventfm.tasks.metrics import build_metrics

SIDE, STEP_US, STEPS, CLASSES = 32, 10_000, 4, 3
RUNS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "attentive": ("recognition", "vit_nano", {"head": {"name": "attentive"}, "label_smoothing": 0.1}),
    "upernet": ("segmentation", "convvit_nano", {"head": {"name": "upernet", "dim": 8, "arguments": {"dropout": 0.0}}}),
    "eomt": ("segmentation", "dinov3_nano", {"head": {"name": "eomt", "arguments": {"num_queries": 5}}}),
    "flow_linear": ("flow", "swin_nano", {"head": {"name": "linear"}, "adapt": {"mode": "frozen"}}),
    "raft": ("flow", "vit_nano", {"head": {"name": "raft", "dim": 16, "arguments": {"iterations": 1, "hidden": 16}}}),
    "dpt": ("depth", "dinov3_nano", {"head": {"name": "dpt", "dim": 8}, "adapt": {"mode": "lora"}}),
}
"""Task, backbone and settings of the task, which share no randomness between ranks but for what the data draws."""
RESUMED: dict[str, dict[str, Any]] = {
    "attentive": {"task.mixup": 0.8, "drop_path": 0.2},
    "upernet": {"task.auxiliary": 0.4, "task.head.arguments.dropout": 0.2},
    "eomt": {"task.layer_decay": 0.5},
    "raft": {"drop_path": 0.2},
    "dpt": {"task.adapt.mode": "frozen", "train.accumulate": 2},
}
"""Changes of these runs by which they draw at random at every step, which a resumed run has to do alike."""


def recording(number: int) -> ArrayRecording:
    """Return events and the truth of them, some of it missing, more the higher the number, all of number 9."""
    rng = np.random.default_rng(number)
    count = 300 * STEPS
    t = np.sort(rng.integers(0, STEPS * STEP_US, count))
    x, y = rng.integers(0, SIDE, count), rng.integers(0, SIDE // (1 + number % 2), count)
    times = STEP_US * np.arange(STEPS + 1)
    maps = (STEPS + 1, SIDE, SIDE)
    missing = rng.random(maps) < (1.0 if number == 9 else 0.08 * number)
    classes = np.where(missing, 255, rng.integers(0, CLASSES, maps)).astype(np.uint8)
    depth = np.where(missing, np.nan, rng.uniform(1, 60, maps)).astype(np.float32)
    flow = rng.normal(0, 3, (STEPS, 2, SIDE, SIDE)).astype(np.float32)
    return ArrayRecording(
        Events.checked(x, y, t, rng.random(count) < 0.5, Sensor(SIDE, SIDE)),
        {
            "semantic": ArrayTrack(times, classes),
            "depth": ArrayTrack(times, depth),
            "flow": ArrayTrack(times[:-1], flow),
            "valid": ArrayTrack(times[:-1], (~missing[:-1]).astype(np.uint8)),
        },
    )


def write_data(folder: Path) -> Path:
    """Write a store of recordings with their classes into `folder`."""
    names = [f"r{number:02d}" for number in range(10)]
    rows = [f"{name},{'ab'[n % 2]},{'val' if n in (2, 7) else 'train'}" for n, name in enumerate(names)]
    (folder / "labels.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")
    return save_recordings(folder / "store.h5", {name: recording(n) for n, name in enumerate(names)})


def run(name: str, data: Path, out: Path, **changes: Any) -> FinetuneResult:
    """Do the run `name` of `RUNS` in `out`, or what is left of it."""
    task, backbone, of_task = RUNS[name]
    window = {"data.window.duration_us": STEP_US} if task in ("segmentation", "depth") else {}
    without = {"TaskPictures": lambda *_: _no_picture, "write_task_report": lambda *_: None}
    train = {"num_steps": 4, "batch_size": 4, "log_every": 1, "save_every": 2, "device": "cpu", "lr": 1e-3}
    settings = {
        "data": data,
        "data.labels": data.with_name("labels.csv"),
        "data.num_workers": 0,
        "out": out,
        "validate_every": 2,
        "task.backbone": {"name": backbone, "arguments": {"patch_size": 8 if backbone == "vit_nano" else 16}},
        "representation": {"name": "voxel_grid", "num_bins": 2},
        "train": {"warmup_steps": 0, **train},
        **({"task.auxiliary": 0.0} if task == "segmentation" else {}),
        **{f"task.{key}": value for key, value in of_task.items()},
        **window,
    }
    with mock.patch.multiple("eventfm.api.finetuning", **without):
        return finetune(task, **{**settings, **changes})


def _no_picture(objective: torch.nn.Module, step: int) -> None:
    """Draw nothing: pictures take most of the time of so small a run."""


def same_points() -> None:
    """Let the loss of EoMT compare the same points of every mask, as ranks that draw by themselves never would."""
    torch.rand = lambda *size, device=None: _points(*size).to(device)


def _points(first: int, *rest: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.empty(1, *rest).uniform_(generator=draw).expand(first, *rest).contiguous()


def runs(out: Path) -> None:
    for name in RUNS:
        if name != "eomt":
            run(name, out / "data/store.h5", out / "two" / name)
    same_points()
    run("eomt", out / "data/store.h5", out / "two/eomt")


def answers(task: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return answers and truths of five samples."""
    draw = torch.Generator().manual_seed(7)
    maps = torch.rand(5, 2, 6, 8, generator=draw)
    depth, flow = 1 + 50 * maps[:, :1], 4 * maps
    label, semantic = torch.arange(5) % CLASSES, (CLASSES * maps[:, 0]).long()
    semantic[3:, :4] = 255
    flow[1] = torch.nan
    depth[2, :, 2:] = torch.nan
    said = {
        "recognition": {"logits": torch.randn(5, CLASSES, generator=draw)},
        "segmentation": {"logits": torch.randn(5, CLASSES, 6, 8, generator=draw)},
        "flow": {"flow": torch.randn(5, 2, 6, 8, generator=draw)},
        "depth": {"depth": 1 + 50 * torch.rand(5, 1, 6, 8, generator=draw)},
    }
    seen = (maps[:, 1] > 0.4).float()
    return said[task], {"label": label, "semantic": semantic, "flow": flow, "depth": depth, "seen": seen}


def figures(task: str, rank: int = 0, ranks: int = 1) -> dict[str, float]:
    """Return the metrics over the samples of all ranks, of which this one has only seen every `ranks`-th."""
    metrics = build_metrics(task, CLASSES if task in ("recognition", "segmentation") else None)
    said, truth = ({key: value[rank::ranks] for key, value in part.items()} for part in answers(task))
    metrics.update(said, truth)
    return metrics.compute()


def pooled(out: Path) -> None:
    """Let each rank measure samples of its own."""
    place = world()
    with session(place, torch.device("cpu")):
        assert num_ranks() == 2
        found = {task: figures(task, place.rank, 2) for task in ("recognition", "segmentation", "flow", "depth")}
    (out / f"pooled_{place.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    for check in sys.argv[2:]:
        globals()[check](Path(sys.argv[1]))
