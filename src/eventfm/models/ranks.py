"""What networks exchange between the ranks of a run while they compute; nothing where there is only one."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


def num_ranks() -> int:
    """Return the number of ranks, 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this rank, 0 without a process group."""
    return dist.get_rank() if num_ranks() > 1 else 0


def add_up(x: Tensor) -> Tensor:
    """Return the sum of `x` over the ranks, without gradient."""
    if num_ranks() == 1:
        return x
    total = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def gather(x: Tensor) -> Tensor:
    """Return `x` (B, ...), of equal shape on all ranks, joined in the order of ranks, (ranks * B, ...).

    Differentiable: each rank gets the sum over ranks of the gradients of its part, which is what a loss that is the
    sum of all ranks' losses asks for.
    """
    return x if num_ranks() == 1 else _Gather.apply(x)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous()
        parts = [torch.empty_like(x) for _ in range(num_ranks())]
        dist.all_gather(parts, x)
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return add_up(grad).chunk(num_ranks())[rank()]
