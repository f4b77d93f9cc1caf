"""What two ranks do with contrasts and batch norms: `contrast_checks.py OUT CHECK...`, run by torchrun."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from contrast_toy import TaughtBatches, batch_of, contrast_of, joint_of
from engine_toy import settings_of
from torch import nn

from eventfm.engine import train
from eventfm.models.batch_norm import BatchNorm
from eventfm.models.ranks import gather
from eventfm.protocols import Progress

MAKERS: dict[str, Any] = {
    "transition": (contrast_of, {"train_backbone": "norm"}, {}),
    "contrast": (contrast_of, {"focus": "density"}, {}),
    "contrast_parts": (contrast_of, {}, {"accumulate": 2}),
    "in_batch": (contrast_of, {"queue_length": 0, "patch": 2, "grid": (4, 6)}, {}),
    "joint": (joint_of, {}, {}),
    "transition_sharded": (contrast_of, {"train_backbone": "norm"}, {"parallel": "fsdp2"}),
    "contrast_sharded": (contrast_of, {}, {"parallel": "fsdp2", "activation_checkpointing": True, "accumulate": 2}),
    "joint_sharded": (joint_of, {}, {"parallel": "fsdp2"}),
}
"""Name of a run, what makes its objective, with which options, and its settings."""


def run(name: str, out: Path, **changes: Any) -> nn.Module:
    """Do the run `name` in the folder `out / name`; return the objective."""
    maker, options, settings = MAKERS[name]
    objective = maker(**options)
    plan = settings_of(num_steps=6, clip_norm=1.0, lr=3e-3, **{**settings, **changes})
    train(objective, lambda rank, size: TaughtBatches(plan.per_rank(size), rank, size), plan, out / name)
    return objective


def norm_result(norm: nn.Module, x: torch.Tensor, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return outputs, gradients of the sum of `weight * outputs`, state, and outputs in evaluation mode."""
    x = x.clone().requires_grad_()
    out = norm(x)
    (out * weight).sum().backward()
    grads = {f"grad.{name}": parameter.grad for name, parameter in norm.named_parameters()}
    state = {f"state.{name}": value.clone() for name, value in norm.state_dict().items()}
    return {"out": out.detach(), "grad.x": x.grad, **grads, **state, "eval": norm.eval()(x).detach()}


def norm_case(affine: bool, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    """Return rows (10, 6), a weight for each output, and the state of the norm."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(10, 6, generator=generator, dtype=dtype) * 2 + 100
    rows[7:] += 5
    weight = torch.randn(10, 6, generator=generator, dtype=dtype)
    norm = nn.BatchNorm1d(6, affine=affine).to(dtype)
    if affine:
        nn.init.normal_(norm.weight, generator=generator)
        nn.init.normal_(norm.bias, generator=generator)
    return rows, weight, norm.state_dict()


def norms(out: Path) -> None:
    """Normalise unequal parts of the rows of `norm_case`, and the same in half precision."""
    parts = [slice(0, 7), slice(7, 10)]
    for affine in (True, False):
        rows, weight, state = norm_case(affine)
        norm = BatchNorm(6, affine).double()
        norm.load_state_dict(state)
        result = norm_result(norm, rows[parts[RANK]], weight[parts[RANK]])
        torch.save(result, out / f"norm_{affine}_{RANK}.pt")
    rows, weight, state = norm_case(True, torch.float32)
    norm = BatchNorm(6)
    norm.load_state_dict(state)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        part = rows[parts[RANK]].bfloat16()
        torch.save({"in": part, **norm_result(norm, part, weight[parts[RANK]])}, out / f"norm_half_{RANK}.pt")


def gathered(out: Path) -> None:
    """The gradient of what is gathered is the sum of what all ranks ask for."""
    x = torch.arange(4.0).view(2, 2).add(10 * RANK).requires_grad_()
    everything = gather(x.t()).t()  # not contiguous
    (everything * torch.arange(8.0).view(2, 4) * (RANK + 1)).sum().backward()
    torch.save({"out": everything.detach(), "grad": x.grad}, out / f"gathered_{RANK}.pt")


def queues(out: Path) -> None:
    """Keep each rank's queue after a run, and evaluate on one rank alone."""
    objective = run("contrast_parts", out / "queues")
    torch.save(objective.queue.state_dict(), out / f"queue_{RANK}.pt")
    if RANK == 0:
        for each in (objective, contrast_of(queue_length=0)):
            each.eval()(batch_of(range(2)), Progress(0, 1))  # would wait for the other rank if it asked for it


def runs(out: Path) -> None:
    for name in MAKERS:
        run(name, out)


if __name__ == "__main__":
    RANK = int(os.environ["RANK"])
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    for check in sys.argv[2:]:
        globals()[check](Path(sys.argv[1]))
    dist.barrier()
    dist.destroy_process_group()
