"""Blending samples of a batch while training."""

from __future__ import annotations

import torch
from torch import Tensor


def mixup(x: Tensor, targets: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Return inputs and targets of which each is blended with another sample's (mixup: Zhang et al., ICLR 2018).

    The share of each sample is drawn from Beta(alpha, alpha), its partner by a permutation of the batch; both from
    PyTorch's generator, which a run seeds at every step.

    Args:
        x: Inputs (B, ...).
        targets: Shares of the classes (B, K).
        alpha: Above 0; the larger, the more often two samples come in about equal parts.
    """
    size = len(x)
    concentration = torch.full((size,), alpha, device=x.device)
    share = torch.distributions.Beta(concentration, concentration, validate_args=False).sample()
    partner = torch.randperm(size, device=x.device)
    of_input = share.view(-1, *[1] * (x.ndim - 1)).to(x.dtype)
    of_target = share[:, None].to(targets.dtype)
    return (
        of_input * x + (1 - of_input) * x[partner],
        of_target * targets + (1 - of_target) * targets[partner],
    )
