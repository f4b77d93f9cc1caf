"""EvRep: statistics of each pixel's events in space, polarity and time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eventfm.events import EventBatch, Events
from eventfm.representations import intervals, ragged
from eventfm.representations.output import check_added, event_span, filled, prepare

LONGEST = 1000.0
"""Largest standard deviation of a pixel's intervals, microseconds (as in EventPretrain)."""


@dataclass(frozen=True, slots=True)
class EvRep:
    """Event count, sum of signed polarities and spread of intervals of each pixel (EvRepSL, Qu et al., TIP 2024).

    The spread is the standard deviation of the times between consecutive events of the pixel, of either polarity, in
    microseconds, cut off at 1000; with n intervals it is divided by n, and it is zero where n is below two. Callers in
    EventPretrain's code, where the cut-off comes from, do not agree on a unit; microseconds are N-Caltech101's there.

    The released code differs: it counts a pixel's first event as an interval too, of zero for the first pixel and
    otherwise of the time from the last event of the pixel before. Two pixels with one gap of 10 each get 5 and 12.5
    there, and zero here.
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
        return ragged.evrep_torch(events, LONGEST)

    def accumulate(self, events: Events, out: NDArray[np.float32]) -> None:
        """Overwrite `out` (3, H, W) float32 with the statistics of `events`."""
        prepare(out, 3, events)
        added = intervals.add_evrep(events.x, events.y, events.t, events.p, LONGEST, out)
        check_added(added, events, *event_span(events, "events"))
