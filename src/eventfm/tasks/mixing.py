"""Blending samples of a batch while training."""

from __future__ import annotations

import torch
from torch import Tensor


def mixup(x: Tensor, targets: Tensor, known: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Return inputs and targets of which each is blended with another sample's (mixup: Zhang et al., ICLR 2018).

    The share of each sample is drawn from Beta(alpha, alpha), its partner by a permutation of the samples that have a
    label; both from PyTorch's generator, which a run seeds at every step. A sample without a label is left as it is:
    blended with one, it would leave that one's target short of what its input shows.

    Args:
        x: Inputs (B, ...).
        targets: Shares of the classes (B, K).
        known: Which samples have a label (B,), bool.
        alpha: Above 0; the larger, the more often two samples come in about equal parts.
    """
    concentration = torch.full((len(x),), alpha, device=x.device)
    share = torch.distributions.Beta(concentration, concentration, validate_args=False).sample()
    partner = _partners(known)
    of_input = share.view(-1, *[1] * (x.ndim - 1)).to(x.dtype)
    of_target = share[:, None].to(targets.dtype)
    return (
        of_input * x + (1 - of_input) * x[partner],
        of_target * targets + (1 - of_target) * targets[partner],
    )


def _partners(known: Tensor) -> Tensor:
    """Return a random permutation (B,) of the samples that are `known` (B,), in which the others stay in place."""
    order = torch.where(known, torch.rand(len(known), device=known.device), 2.0)  # the others last, in their own order
    shuffled = order.argsort(stable=True)
    own = (~known).to(torch.uint8).argsort(stable=True)
    return torch.empty_like(own).scatter_(0, own, shuffled)
