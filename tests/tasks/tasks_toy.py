"""Tiny tasks and batches that the tests of tasks share."""

from __future__ import annotations

import torch

from eventfm.protocols import Progress
from eventfm.tasks import build_task

CHANNELS = 2
CLASSES = 3
SIZE = (33, 50)
"""Of the inputs: no multiple of any patch."""
BUILT_FOR = (48, 64)
NOW = Progress(0, 10)
BACKBONES = ("vit_nano", "convvit_nano", "swin_nano", "dinov3_nano")
SMALL = {
    "upernet": {"dim": 16, "arguments": {"dropout": 0.0}},
    "dpt": {"dim": 16},
    "eomt": {"arguments": {"num_queries": 5}},
    "raft": {"dim": 32, "arguments": {"iterations": 2}},
}
HEADS = {
    "recognition": ("linear", "mlp", "attentive"),
    "segmentation": ("linear", "upernet", "eomt"),
    "flow": ("linear", "upernet", "dpt", "raft"),
    "depth": ("linear", "upernet", "dpt"),
}
MODES = ("full", "frozen", "partial", "lora")
EXPECTED = {
    "recognition": ("logits", CLASSES),
    "segmentation": ("logits", CLASSES),
    "flow": ("flow", 2),
    "depth": ("depth", 1),
}


def toy(task, head="linear", backbone="vit_nano", mode="full", arguments=None, **more):
    """Return a task on a tiny backbone, always with the same weights."""
    config = {
        "name": task,
        "backbone": {
            "name": backbone,
            "arguments": {"patch_size": 8 if backbone == "vit_nano" else 16, **(arguments or {})},
        },
        "head": {"name": head, **(SMALL.get(head, {}) if task != "recognition" else {})},
        "adapt": {"mode": mode},
        **more,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        classes = CLASSES if task in ("recognition", "segmentation") else None
        return build_task(config, CHANNELS, BUILT_FOR, classes).train()


def batch_of(task, size=SIZE, num=2, labelled=True):
    """Return a batch of blobs of events, and labels that follow from where they are."""
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(num, CHANNELS, *size, generator=draw)
    half = size[1] // 2
    batch = {"input": x, "before": x.roll(-1, 3), "seen": torch.ones(num, *size)}
    batch["label"] = torch.arange(num) % CLASSES
    batch["semantic"] = torch.zeros(num, *size, dtype=torch.int64)
    batch["semantic"][:, :, half:] = 2
    batch["semantic"][:, :3] = 255
    batch["flow"] = torch.ones(num, 2, *size) * torch.tensor([1.0, -2.0]).view(1, 2, 1, 1)
    batch["flow"][:, :, :3] = torch.nan
    batch["depth"] = torch.full((num, 1, *size), 30.0)
    batch["depth"][:, :, :, half:] = 50.0
    batch["depth"][:, :, :3] = torch.nan
    if not labelled:
        batch["label"][:] = -1
        batch["semantic"][:] = 255
        batch["flow"][:] = torch.nan
        batch["depth"][:] = torch.nan
    keys = {
        "recognition": ("label",),
        "segmentation": ("semantic",),
        "flow": ("flow", "seen", "before"),
        "depth": ("depth",),
    }
    return {key: batch[key] for key in ("input", *keys[task])}
