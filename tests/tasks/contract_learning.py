"""A batch that can only be learned by reading the input, and how well it is learned."""

from __future__ import annotations

from typing import Any

import torch
from tasks_toy import CHANNELS, CLASSES, NOW

from eventfm.tasks.metrics import SELECT, build_metrics

EDGE = 32
"""Column at which inputs and answers change, an edge of all the patches."""
BLURRED = 8
"""Columns on each side of it that no depth is asked of: half a token of 16 pixels, over which a linear head upsamples.

Its answers cannot get from 10 m to 40 m faster, and a share of a depth weighs that more than the other tasks do.
"""
BOUNDS = {"recognition": 1.0, "segmentation": 0.7, "flow": 0.5, "depth": 0.5}
"""What a learned batch has to reach: top1 and mIoU, and the share of the best constant's error that may be left."""
LOSS_SHARE = 0.5
"""Share of the first loss that may be left."""
MAX_STEPS = 300
RATES = {"dpt": 2e-3, "raft": 2e-3}
"""Learning rates of heads that are deep and have no norms; others stand five times as much."""
LOOK_EVERY = 10


def opposites(task: str, size: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Return two samples that are each other's opposites, in what they show and in what is true of them.

    An answer that depends on the place alone is wrong for one of them.
    """
    draw = torch.Generator().manual_seed(3)
    side = torch.where(torch.arange(size[1]) < EDGE, 1.0, -1.0).expand(size)
    sign = torch.stack([side, -side])
    x = torch.stack([sign, torch.tensor([1.0, -1.0]).view(2, 1, 1).expand(2, *size)], dim=1)
    assert x.shape[1] == CHANNELS
    x = x + 0.1 * torch.randn(x.shape, generator=draw)
    truth = {
        "label": torch.tensor([0, CLASSES - 1]),
        "semantic": torch.where(sign > 0, CLASSES - 1, 0),
        "flow": sign[:, None] * torch.tensor([3.0, -2.0]).view(1, 2, 1, 1),
        "depth": torch.where(sign > 0, 40.0, 10.0)[:, None],
    }
    truth["semantic"][:, :3] = 255
    truth["flow"][:, :, :3] = torch.nan
    truth["depth"][:, :, :3] = torch.nan
    truth["depth"][..., EDGE - BLURRED : EDGE + BLURRED] = torch.nan
    keys = {"recognition": "label", "segmentation": "semantic", "flow": "flow", "depth": "depth"}
    more = {"before": x.roll(-1, 3), "seen": torch.ones(2, *size)} if task == "flow" else {}
    return {"input": x, keys[task]: truth[keys[task]], **more}


def figure(task: str, answer: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> float:
    """Return the figure by which models of the task are chosen."""
    metrics = build_metrics(task, CLASSES if task in ("recognition", "segmentation") else None)
    metrics.update(answer, batch)
    return metrics.compute()[SELECT[task][0]]


def is_learned(task: str, answer: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> bool:
    """Return whether `answer` is within `BOUNDS`."""
    found = figure(task, answer, batch)
    if task in ("recognition", "segmentation"):
        return found >= BOUNDS[task]
    constant = torch.zeros_like(batch["flow"]) if task == "flow" else torch.full_like(batch["depth"], 10.0)
    return found <= BOUNDS[task] * figure(task, {task: constant}, batch)


def learn(task: str, head: str, objective: Any, batch: dict[str, torch.Tensor]) -> tuple[float, bool, int]:
    """Return what share of the first loss is left, whether the batch is learned, and after how many steps of Adam.

    It is learned when answers are right in evaluation mode: by the running statistics of norms, without dropout.
    """
    of_head = [p for name, p in objective.named_parameters() if p.requires_grad and not name.startswith("backbone.")]
    backbone = [p for p in objective.backbone.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam([{"params": of_head, "lr": RATES.get(head, 1e-2)}, {"params": backbone, "lr": 1e-3}])
    torch.manual_seed(0)
    losses: list[float] = []
    for step in range(1, MAX_STEPS + 1):
        optimizer.zero_grad()
        loss = objective(batch, NOW)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step % LOOK_EVERY == 0 and losses[-1] < LOSS_SHARE * losses[0]:
            answer = objective.eval().predict(batch)
            objective.train()
            if is_learned(task, answer, batch):
                return losses[-1] / losses[0], True, step
    return losses[-1] / losses[0], False, MAX_STEPS
