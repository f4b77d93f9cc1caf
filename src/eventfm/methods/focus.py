"""How much each position counts in the contrast. None of this is in EventPretrain's release, which weighs all alike.

Every weight is a constant for the gradient, and the weights of a sample have mean 1, so that they move attention
within a sample and not between samples.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SHARPNESS = 10.0
"""Factor of the cosine in the attention between teacher tokens."""


@torch.no_grad()
def density_weights(x: Tensor, stride: int) -> Tensor:
    """Return weights (B, L) by the events at each position of `x` (B, C, H, W), L units of `stride` pixels a side.

    a = mean of |x| over channels and pixels of a unit; s = mean of a over the unit and its up to eight neighbours;
    w = s / mean over positions of s. A sample without events weighs the same everywhere. `x` has to be 0 where
    nothing happened, as grids of signed or counted events are.
    """
    activity = functional.avg_pool2d(x.float().abs().mean(dim=1, keepdim=True), stride)
    smooth = functional.avg_pool2d(activity, 3, stride=1, padding=1, count_include_pad=False).flatten(1)
    mean = smooth.mean(dim=1, keepdim=True)
    return torch.where(mean > 0, smooth / mean, 1.0)


@torch.no_grad()
def attention_weights(tokens: Tensor) -> Tensor:
    """Return weights (B, L): how much the other tokens of the teacher's `tokens` (B, L, D) attend to each.

    A_ij = softmax over j != i of `SHARPNESS` * cos(t_i, t_j); w_j = L * mean over i of A_ij. Positions that look like
    many others weigh more. A single position weighs 1.
    """
    num_positions = tokens.shape[1]
    if num_positions == 1:
        return tokens.new_ones(tokens.shape[:2], dtype=torch.float32)
    with torch.autocast(tokens.device.type, enabled=False):
        directions = functional.normalize(tokens.float(), dim=2)
        scores = SHARPNESS * directions @ directions.transpose(1, 2)
    itself = torch.eye(num_positions, dtype=torch.bool, device=tokens.device)
    return num_positions * scores.masked_fill(itself, -torch.inf).softmax(dim=2).mean(dim=1)
