"""Figures that show whether features have collapsed."""

from __future__ import annotations

import torch
from torch import Tensor


def effective_rank(features: Tensor) -> Tensor:
    """Return the effective rank of `features` (N, D), a 0-d tensor between 0 and min(N - 1, D).

    It is the exponential of the entropy of the normalised singular values of the centred features (Roy and
    Vetterli, "The effective rank", EUSIPCO 2007, section 2). Features that do not vary have rank 0.

    Raises:
        ValueError: `features` is not (N, D) with N of at least 2.
    """
    x = _checked(features)
    values = torch.linalg.svdvals(x - x.mean(dim=0))
    # Rounding leaves noise in the directions that do not vary; it must not count as rank.
    noise = torch.finfo(x.dtype).eps * max(x.shape) * torch.linalg.matrix_norm(x)
    values = torch.where(values > noise, values, torch.zeros_like(values))
    share = values / values.sum().clamp_min(torch.finfo(x.dtype).tiny)
    return torch.exp(-torch.special.xlogy(share, share).sum()) * (values.sum() > 0)


def mean_cosine(features: Tensor) -> Tensor:
    """Return the mean cosine of two different rows of `features` (N, D), a 0-d tensor, in O(N D).

    With unit rows z the sum over all pairs is |sum z|^2, of which the sum of |z|^2 is the diagonal. A row of zeros
    has cosine 0 with every other.

    Raises:
        ValueError: `features` is not (N, D) with N of at least 2.
    """
    x = _checked(features)
    unit = torch.nn.functional.normalize(x, dim=1)
    pairs = unit.sum(dim=0).square().sum() - unit.square().sum()
    return pairs / (len(x) * (len(x) - 1))


def dead_share(features: Tensor, tolerance: float = 1e-4) -> Tensor:
    """Return the share of dimensions of `features` (N, D) that do not vary, a 0-d tensor in [0, 1].

    A dimension is dead when its standard deviation is at most `tolerance` times the root mean square of all values.

    Raises:
        ValueError: `features` is not (N, D) with N of at least 2.
    """
    x = _checked(features)
    scale = x.square().mean().sqrt()
    return (x.std(dim=0, correction=0) <= tolerance * scale).to(x.dtype).mean()


def _checked(features: Tensor) -> Tensor:
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"expected features (N, D) with N of at least 2, got shape {tuple(features.shape)}")
    return features.detach().to(torch.float32 if features.device.type == "mps" else torch.float64)
