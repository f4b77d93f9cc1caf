"""Count images with the normalisation of the methods they come from: ECDP and MEM.

The released code normalises after cropping and resizing the counts. Here the counts are gathered on the cropped grid
at once, so that normalising within the representation is the same thing, up to the order of resizing: a maximum is
taken before pixels are repeated, and pixels that fall together are added up rather than interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eventfm.events import EventBatch, Events
from eventfm.representations.grids import PolarityCounts
from eventfm.representations.output import filled, prepare

HOT_STDS = 10
"""MEM: a pixel is hot where a count lies more than so many standard deviations above the mean count."""


@dataclass(frozen=True, slots=True)
class ECDPImage:
    """Counts of ON and of OFF events, each brought to [-1, 1) (ECDP, Yang et al., ICCV 2023).

    A count v of a channel with the largest count m becomes 2 (v / (m + 1) - 1/2): -1 where nothing happened, and
    everywhere without events. Time is not used.
    """

    @property
    def channels(self) -> int:
        """Return the number of channels, 2."""
        return 2

    def __call__(self, events: Events) -> Tensor:
        """Return (2, H, W) float32."""
        return torch.from_numpy(filled(self, events))

    def batched(self, events: EventBatch) -> Tensor:
        """Return (B, 2, H, W) float32 on the events' device."""
        counts = PolarityCounts().batched(events)
        return counts.div_(counts.amax(dim=(2, 3), keepdim=True) + 1).sub_(0.5).mul_(2)

    def accumulate(self, events: Events, out: NDArray[np.float32]) -> None:
        """Overwrite `out` (2, H, W) float32 with the image of `events`."""
        PolarityCounts().accumulate(events, out)
        out /= out.max(axis=(1, 2), keepdims=True) + 1
        out -= 0.5
        out *= 2


@dataclass(frozen=True, slots=True)
class MEMImage:
    """Counts of ON events, zeros, counts of OFF events, divided by their largest (MEM, Klenk et al., WACV 2024).

    Hot pixels are zeroed first: those where a count is above the mean plus 10 standard deviations (with n - 1) of all
    counts, ON and OFF together; both counts of such a pixel go. The published division by 255 before that cancels
    and is left out. Where no event is left the image is zero; by this rule an event that is alone on a grid of 51
    pixels or more is a hot pixel. Time is not used.
    """

    @property
    def channels(self) -> int:
        """Return the number of channels, 3."""
        return 3

    def __call__(self, events: Events) -> Tensor:
        """Return (3, H, W) float32."""
        return torch.from_numpy(filled(self, events))

    def batched(self, events: EventBatch) -> Tensor:
        """Return (B, 3, H, W) float32 on the events' device."""
        counts = PolarityCounts().batched(events)
        exact = counts.double()  # sums of whole numbers, in which no order of adding up makes a difference
        number = exact.shape[1:].numel()
        total = exact.sum(dim=(1, 2, 3), keepdim=True)
        mean = total / number
        variance = (exact.square().sum(dim=(1, 2, 3), keepdim=True) - total * mean) / (number - 1)
        hot = (exact > mean + HOT_STDS * variance.clamp(min=0).sqrt()).any(dim=1, keepdim=True)
        counts.masked_fill_(hot, 0)
        counts.div_(counts.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1))
        return torch.stack([counts[:, 0], torch.zeros_like(counts[:, 0]), counts[:, 1]], dim=1)

    def accumulate(self, events: Events, out: NDArray[np.float32]) -> None:
        """Overwrite `out` (3, H, W) float32 with the image of `events`."""
        prepare(out, 3, events)
        counts = out[:2]
        PolarityCounts().accumulate(events, counts)
        exact = counts.astype(np.float64)
        total = exact.sum()
        mean = total / exact.size
        variance = (np.square(exact).sum() - total * mean) / (exact.size - 1)
        hot = (exact > mean + HOT_STDS * np.sqrt(max(variance, 0.0))).any(axis=0)
        counts[:, hot] = 0
        counts /= max(counts.max(), np.float32(1))
        out[2] = out[1]
        out[1] = 0
