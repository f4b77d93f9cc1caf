"""Grids of pixels by time: signed voxel grids, polarity counts and stacked histograms.

All are frozen: their fields are what an encoder file remembers. Time is scaled by `span`. `"events"` runs from the
first event to the last one, as published; `"window"` runs from the first instant of the window to its last,
`events.window = [t0, t1)` giving `t0` and `t1 - 1`, so that the same event lands in the same place whatever else
happened. Without events a tensor is zero. With one timestamp only (`"events"`) every event is at the first instant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eventfm.events import EventBatch, EventError, Events
from eventfm.representations import kernels, ragged
from eventfm.representations.output import Span, check_added, event_span, filled, prepare

EXACT = 2.0**24
"""The largest count up to which float32 holds every whole number; counts stop here and never wrap."""


@dataclass(frozen=True, slots=True)
class VoxelGrid:
    """Signed voxel grid with bilinear weights in time (Zhu et al., CVPR 2019, section 3.1; as in EventPretrain).

    The B channels are instants that divide the span evenly, the first and last of them on its ends. An event of
    polarity s = +1 (ON) or -1 (OFF) at tau = (B - 1) (t - t_first) / (t_last - t_first) adds s (1 - f) to channel
    floor(tau) and s f to the one after, with f the fraction of tau. The last event is wholly in the last channel, one
    channel (B = 1) holds the plain sum of polarities, and for every B the grid sums to the sum of polarities.
    Nothing is normalised.
    """

    num_bins: int
    span: Span = "events"

    def __post_init__(self) -> None:
        _check_bins(self.num_bins)
        _check_span(self.span)

    @property
    def channels(self) -> int:
        """Return the number of channels, `num_bins`."""
        return self.num_bins

    def __call__(self, events: Events) -> Tensor:
        """Return (num_bins, H, W) float32."""
        return torch.from_numpy(filled(self, events))

    def batched(self, events: EventBatch) -> Tensor:
        """Return (B, num_bins, H, W) float32 on the events' device."""
        first, last = _batch_span(events, self.span)
        return ragged.voxels_torch(events, first, last, self.num_bins)

    def accumulate(self, events: Events, out: NDArray[np.float32]) -> None:
        """Overwrite `out` (num_bins, H, W) float32 with the grid of `events`."""
        prepare(out, self.num_bins, events)
        first, last = event_span(events, self.span)
        check_added(kernels.add_voxels(events.x, events.y, events.t, events.p, first, last, out), events, first, last)


@dataclass(frozen=True, slots=True)
class PolarityCounts:
    """Number of events of each pixel: channel 0 counts ON, channel 1 counts OFF. Time is not used."""

    @property
    def channels(self) -> int:
        """Return the number of channels, 2."""
        return 2

    def __call__(self, events: Events) -> Tensor:
        """Return (2, H, W) float32."""
        return torch.from_numpy(filled(self, events))

    def batched(self, events: EventBatch) -> Tensor:
        """Return (B, 2, H, W) float32 on the events' device."""
        first, last = ragged.event_span(events)
        return ragged.counts_torch(events, first, last, 1, EXACT)

    def accumulate(self, events: Events, out: NDArray[np.float32]) -> None:
        """Overwrite `out` (2, H, W) float32 with the counts of `events`."""
        prepare(out, 2, events)
        first, last = event_span(events, "events")
        added = kernels.add_counts(events.x, events.y, events.t, events.p, first, last, EXACT, out)
        check_added(added, events, first, last)


@dataclass(frozen=True, slots=True)
class StackedHistogram:
    """Number of events of each pixel, polarity and part of the span (as in RVT, Gehrig and Scaramuzza, CVPR 2023).

    Channels are polarity major: `0 ... num_bins - 1` count ON and `num_bins ... 2 num_bins - 1` count OFF, earliest
    part first. The parts are equal and half-open; the last event belongs to the last part. A count that reaches
    `max_count` stays there and never wraps; 255 is what fits a byte, 10 is the cut-off that RVT trains with.
    """

    num_bins: int
    span: Span = "events"
    max_count: int = 255

    def __post_init__(self) -> None:
        _check_bins(self.num_bins)
        _check_span(self.span)
        if not 1 <= self.max_count <= EXACT:
            raise ValueError(f"expected max_count between 1 and 2**24, got {self.max_count}")

    @property
    def channels(self) -> int:
        """Return the number of channels, `2 * num_bins`."""
        return 2 * self.num_bins

    def __call__(self, events: Events) -> Tensor:
        """Return (2 * num_bins, H, W) float32."""
        return torch.from_numpy(filled(self, events))

    def batched(self, events: EventBatch) -> Tensor:
        """Return (B, 2 * num_bins, H, W) float32 on the events' device."""
        first, last = _batch_span(events, self.span)
        return ragged.counts_torch(events, first, last, self.num_bins, self.max_count)

    def accumulate(self, events: Events, out: NDArray[np.float32]) -> None:
        """Overwrite `out` (2 * num_bins, H, W) float32 with the counts of `events`."""
        prepare(out, self.channels, events)
        first, last = event_span(events, self.span)
        added = kernels.add_counts(events.x, events.y, events.t, events.p, first, last, float(self.max_count), out)
        check_added(added, events, first, last)


def _batch_span(events: EventBatch, span: Span) -> tuple[Tensor, Tensor]:
    if span == "window":
        if events.windows is None:
            raise EventError("span='window' needs a batch whose samples all have a window; use span='events' otherwise")
        return events.windows[:, 0], events.windows[:, 1] - 1
    return ragged.event_span(events)


def _check_bins(num_bins: int) -> None:
    if type(num_bins) is not int or num_bins < 1:
        raise ValueError(f"expected num_bins to be a whole number of at least 1, got {num_bins!r}")


def _check_span(span: str) -> None:
    if span not in ("events", "window"):
        raise ValueError(f"expected span to be 'events' or 'window', got {span!r}")
