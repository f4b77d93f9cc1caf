"""Batch normalisation whose batch is that of all ranks together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from eventfm.models.ranks import add_up, gather, num_ranks


class BatchNorm(nn.Module):
    """`nn.BatchNorm1d` over the last axis of (..., dim), with the statistics of the joined batch of all ranks.

    Works between CPUs too, where PyTorch's `SyncBatchNorm` refuses. Statistics are float32 whatever the input is, and
    the state dict has the keys of `nn.BatchNorm1d`. In evaluation mode nothing is exchanged.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, dim: int, affine: bool = True, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(dim)) if affine else None
        self.bias = nn.Parameter(torch.zeros(dim)) if affine else None
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` (..., dim) normalised, in its own precision."""
        rows = x.reshape(-1, x.shape[-1])
        if self.training:
            self.num_batches_tracked.add_(1)
        if not self.training or num_ranks() == 1:
            stored = (self.running_mean, self.running_var)
            out = functional.batch_norm(rows, *stored, self.weight, self.bias, self.training, self.momentum, self.eps)
        else:
            out, mean, variance, count = _JoinedNorm.apply(rows, self.weight, self.bias, self.eps)
            unbiased = variance * (count / (count - 1))
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
        return out.view(x.shape)


class _JoinedNorm(torch.autograd.Function):
    """Normalise rows (N, C) by mean and variance over all ranks' rows; also return those and the number of rows.

    One exchange each way. Ranks may have different numbers of rows.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        own_variance, own_mean = torch.var_mean(wide, dim=0, correction=0)
        own = torch.cat([own_mean, own_variance, wide.new_full((1,), len(x))])
        means, variances, counts = gather(own[None]).split([len(own_mean), len(own_mean), 1], dim=1)
        # Joined from the parts' own means (Chan et al., 1979): a sum of squares would cancel.
        count = counts.sum()
        mean = (counts * means).sum(dim=0) / count
        variance = (counts * (variances + (means - mean).square())).sum(dim=0) / count
        inverse = (variance + eps).rsqrt()
        out = (wide - mean) * inverse
        if weight is not None and bias is not None:
            out = out * weight + bias
        ctx.save_for_backward(x, weight, mean, inverse, count)
        ctx.mark_non_differentiable(mean, variance, count)
        return out.to(x.dtype), mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        x, weight, mean, inverse, count = ctx.saved_tensors
        normalised = (x.to(mean.dtype) - mean) * inverse
        grad = grad.to(mean.dtype)
        along_bias, along_weight = grad.sum(dim=0), (grad * normalised).sum(dim=0)
        offset, slope = (add_up(torch.cat([along_bias, along_weight])) / count).chunk(2)
        scale = inverse if weight is None else inverse * weight
        own = ((grad - offset - normalised * slope) * scale).to(x.dtype)
        return (own, None, None, None) if weight is None else (own, along_weight, along_bias, None)
