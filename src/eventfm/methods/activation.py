"""Which patches are active: where there were events enough to learn from (ScaleEvent, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor


def active_patches(activity: Tensor, threshold: float) -> Tensor:
    """Return where `activity` (B, rows, cols), events per 256 sensor pixels, is at least `threshold`: (B, N) bool.

    Published with 64, that is 64 events in a patch of 16x16 pixels.
    """
    return (activity >= threshold).flatten(1)


def active_share(activity: Tensor, share: float) -> Tensor:
    """Return the `share` of each sample's patches with most events, (B, N) bool, for `activity` (B, rows, cols).

    It is rounded to whole patches, at least one. Of patches with as many events the first in raster order are taken;
    one without any event never is, so that a sample may have fewer.
    """
    flat = activity.flatten(1)
    number = max(1, round(share * flat.shape[1]))
    most = flat.argsort(dim=1, descending=True, stable=True)[:, :number]
    return torch.zeros_like(flat, dtype=torch.bool).scatter_(1, most, True).logical_and_(flat > 0)
