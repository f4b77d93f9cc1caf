"""The event volume that ScaleEvent reads: a signed voxel grid of three bins, scaled by what it holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eventfm.events import EventBatch, Events
from eventfm.representations.grids import VoxelGrid
from eventfm.representations.output import Span, filled

Coding = Literal["signed", "imagenet"]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class EventVolume:
    """Signed voxel grid, scaled sample by sample (ScaleEvent, section 3.1; the scaling is eventfm's).

    The grid is `VoxelGrid`'s. It is divided by the `percentile` of the absolute values of its cells that are not zero
    (linear between ranks, as numpy has it) and cut off at -1 and 1. `coding="signed"` leaves it so, 0 where nothing
    happened. `coding="imagenet"` is for networks that were trained on pictures: -1 to 1 become 0 to 1, with 0.5 where
    nothing happened, and the mean of ImageNet is taken off and its deviation divided out, channel by channel.

    How the released ScaleEvent scales its volumes, which are stored as pictures, is not public.
    """

    num_bins: int = 3
    span: Span = "events"
    percentile: float = 98.0
    coding: Coding = "signed"

    def __post_init__(self) -> None:
        VoxelGrid(self.num_bins, self.span)  # refuses what it cannot be
        if not 0 < self.percentile <= 100:
            raise ValueError(f"expected percentile above 0 and up to 100, got {self.percentile}")
        if self.coding not in ("signed", "imagenet"):
            raise ValueError(f"expected coding to be 'signed' or 'imagenet', got {self.coding!r}")
        if self.coding == "imagenet" and self.num_bins != 3:
            raise ValueError(f"expected 3 bins with coding='imagenet', which has 3 colours, got {self.num_bins}")

    @property
    def channels(self) -> int:
        """Return the number of channels, `num_bins`."""
        return self.num_bins

    def __call__(self, events: Events) -> Tensor:
        """Return (num_bins, H, W) float32."""
        return torch.from_numpy(filled(self, events))

    def batched(self, events: EventBatch) -> Tensor:
        """Return (B, num_bins, H, W) float32 on the events' device."""
        grids = VoxelGrid(self.num_bins, self.span).batched(events)
        for grid in grids:
            sizes = grid[grid != 0].abs()
            if sizes.numel():
                grid /= _percentile(sizes.sort().values, self.percentile)
        grids.clamp_(-1, 1)
        if self.coding == "imagenet":
            mean, std = (grids.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
            grids.mul_(0.5).add_(0.5).sub_(mean).div_(std)
        return grids

    def accumulate(self, events: Events, out: NDArray[np.float32]) -> None:
        """Overwrite `out` (num_bins, H, W) float32 with the volume of `events`."""
        VoxelGrid(self.num_bins, self.span).accumulate(events, out)
        sizes = np.abs(out[out != 0])
        if len(sizes):
            out /= _percentile(np.sort(sizes), self.percentile)
        np.clip(out, -1, 1, out=out)
        if self.coding == "imagenet":
            mean, std = (np.array(values, np.float32)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
            out *= np.float32(0.5)
            out += np.float32(0.5)
            out -= mean
            out /= std


def _percentile(ranked: Any, percentile: float) -> Any:
    """Return the percentile of `ranked` (N,), sorted numbers of numpy or torch, linear between ranks.

    One formula for both, all of it in float32, so that they agree to the last bit.
    """
    place = (len(ranked) - 1) * percentile / 100
    low = int(place)
    high = min(low + 1, len(ranked) - 1)
    return ranked[low] + (ranked[high] - ranked[low]) * np.float32(place - low)
