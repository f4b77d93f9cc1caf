"""Losses of the tasks: pure functions, float32 whatever comes in, 0 with zero gradients where nothing is labelled.

None of them waits for the device: what is not labelled is weighed with 0 and never looked up.

On several ranks, what they return and its gradient are, in the mean over ranks, those of all ranks' samples together,
however labels are spread over the ranks. So all ranks call them, in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from eventfm.models.ranks import add_up, gather, num_ranks

NOT_LABELLED = 255
"""Class number of pixels without a label."""
MAX_FLOW = 400.0
"""Pixels; faster flow is taken for a fault of the ground truth (RAFT; EventPretrain)."""


def known_classes(labels: Tensor, num_classes: int) -> Tensor:
    """Return where integer `labels` (...) are of one of the classes; anything else counts as not labelled."""
    return (labels >= 0) & (labels < num_classes) & (labels != NOT_LABELLED)


def soft_cross_entropy(logits: Tensor, targets: Tensor, known: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy over the samples that are `known` (B,), 0-d.

    `targets` (B, K) are shares of the classes that add up to 1. `smoothing` spreads that part of them evenly over all
    classes (Szegedy et al., CVPR 2016).
    """
    targets = targets.float() * (1 - smoothing) + smoothing / logits.shape[1]
    each = -(targets * functional.log_softmax(logits.float(), dim=1)).sum(dim=1)
    return _mean(each, known)


def cross_entropy_dice(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return cross-entropy and Dice loss of `logits` (B, K, H, W) for `labels` (B, H, W) int64, 0-d each.

    Cross-entropy is the mean over labelled pixels. Dice is 1 - (2 sum pg + 1) / (sum p^2 + sum g^2 + 1) for each class,
    with its probability p and its truth g, both 0 where nothing is labelled, summed over the whole batch; then the mean
    over classes (EventPretrain, released code).
    """
    known = known_classes(labels, logits.shape[1])
    log_shares = functional.log_softmax(logits.float(), dim=1)
    picked = log_shares.gather(1, torch.where(known, labels, 0)[:, None])[:, 0]
    classes = torch.arange(logits.shape[1], device=labels.device).view(1, -1, 1, 1)
    truth = ((labels[:, None] == classes) & known[:, None]).float()
    shares = log_shares.exp() * known[:, None]
    sums = torch.stack([(a * b).sum(dim=(0, 2, 3)) for a, b in _pairs(shares, truth)])
    common, all_shares, all_truth = _over_ranks(sums)
    dice = 1 - (2 * common + 1) / (all_shares + all_truth + 1)
    return _mean(-picked, known), dice.mean()


def known_flow(target: Tensor, max_flow: float = MAX_FLOW) -> Tensor:
    """Return where the flow `target` (B, 2, H, W) is known, (B, H, W): both numbers finite, shorter than `max_flow`."""
    return target.norm(dim=1) < max_flow  # false for NaN


def flow_l1(prediction: Tensor, target: Tensor, max_flow: float = MAX_FLOW) -> Tensor:
    """Return |du| + |dv| in pixels, the mean over pixels whose flow is known, 0-d; both are (B, 2, H, W)."""
    known = known_flow(target, max_flow)
    error = torch.where(known[:, None], prediction.float() - target, 0.0)
    return _mean(error.abs().sum(dim=1), known)


def sequence_loss(
    predictions: Sequence[Tensor], target: Tensor, gamma: float = 0.8, max_flow: float = MAX_FLOW
) -> Tensor:
    """Return the sum of `flow_l1` of all iterations, the last in full, each one before by `gamma` less, 0-d.

    As in RAFT (Teed and Deng, ECCV 2020, section 3.5), but over the pixels whose flow is known.
    """
    last = len(predictions) - 1
    losses = [gamma ** (last - i) * flow_l1(each, target, max_flow) for i, each in enumerate(predictions)]
    return torch.stack(losses).sum()


def known_depth(target: Tensor, max_depth: float) -> Tensor:
    """Return where the depth `target` is known: above 0 and at most `max_depth` metres."""
    return (target > 0) & (target <= max_depth)  # false for NaN


def silog(log_prediction: Tensor, target: Tensor, known: Tensor, variance_focus: float = 0.5) -> Tensor:
    """Return the scale-invariant error of logarithms over the pixels that are `known`, 0-d.

    With d = `log_prediction` - log `target`: sqrt(mean d^2 - `variance_focus` (mean d)^2), of the whole batch. 0 is the
    plain RMSE of logarithms, 1 forgives any common scale; Eigen et al. (NeurIPS 2014) have 0.5 and no root, BTS (Lee et
    al., 2019) and AdaBins 0.85, Depth Anything V2 0.5, both with the root.
    """
    difference = torch.where(known, log_prediction.float() - torch.where(known, target, 1.0).log(), 0.0)
    sums = torch.stack([difference.sum(), difference.square().sum(), known.sum(dtype=difference.dtype)])
    total, total_square, count = _over_ranks(sums)
    mean, mean_square = total / count.clamp(min=1), total_square / count.clamp(min=1)
    squared = mean_square - variance_focus * mean.square()
    tiny = torch.finfo(squared.dtype).eps ** 2  # the root of 0 has no gradient
    return torch.where(count > 0, squared.clamp(min=tiny).sqrt(), 0.0 * squared)


def unlabelled(known: Tensor) -> Tensor:
    """Return the share of samples in which nothing of `known` (B, ...) is labelled, 0-d."""
    return 1 - known.reshape(len(known), -1).any(dim=1).float().mean()


def _mean(values: Tensor, known: Tensor) -> Tensor:
    """Return the mean of `values` where they are `known`, 0 where none is.

    All ranks divide by the mean number of known values: with each rank's own, a value would count the more the fewer
    its rank has.
    """
    return num_ranks() * torch.where(known, values, 0.0).sum() / add_up(known.sum()).clamp(min=1)


def _over_ranks(sums: Tensor) -> Tensor:
    """Return `sums` (...) added up over the ranks, for a loss that is no mean over samples; differentiable."""
    return gather(sums[None]).sum(dim=0)


def _pairs(shares: Tensor, truth: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
    return (shares, truth), (shares, shares), (truth, truth)
