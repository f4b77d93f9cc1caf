"""The same grids for a whole batch at once, in torch, on any device.

Samples of different lengths lie end to end. Every weight equals the compiled kernel's to the last bit. On the CPU so
do the sums; on a GPU atomic additions come in any order, which may move a sum of N terms by about N float32 roundings.
Order and bounds are not checked again here: `EventBatch` holds events that were checked, and a look at the values
would stall a GPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

from eventfm.events import EventBatch


def voxels_torch(batch: EventBatch, first: Tensor, last: Tensor, num_bins: int) -> Tensor:
    """Return signed bilinear voxel grids (B, num_bins, H, W) float32; `first` and `last` are (B,) microseconds."""
    sample = _sample_of(batch)
    length = (last - first).clamp(min=1)[sample]
    position = (num_bins - 1) * (batch.t - first[sample])
    i = torch.div(position, length, rounding_mode="floor")
    sign = torch.where(batch.p == 0, -1.0, 1.0)
    right = sign * ((position - i * length).float() / length.float())
    out = torch.zeros(len(batch) * num_bins * batch.sensor.height * batch.sensor.width, device=batch.t.device)
    # The right-hand weight of an event on the last instant is zero, so where it is added does not matter.
    out.index_add_(0, _cell(batch, sample, (i + 1).clamp(max=num_bins - 1), num_bins), right)
    out.index_add_(0, _cell(batch, sample, i, num_bins), sign - right)
    return out.view(len(batch), num_bins, batch.sensor.height, batch.sensor.width)


def counts_torch(batch: EventBatch, first: Tensor, last: Tensor, num_bins: int, ceiling: float) -> Tensor:
    """Return counts (B, 2 num_bins, H, W) float32, ON before OFF, none above `ceiling`."""
    sample = _sample_of(batch)
    length = (last - first).clamp(min=1)[sample]
    position = num_bins * (batch.t - first[sample])
    i = torch.div(position, length, rounding_mode="floor").clamp(max=num_bins - 1)
    channel = i + num_bins * (batch.p == 0)
    out = torch.zeros(len(batch) * 2 * num_bins * batch.sensor.height * batch.sensor.width, device=batch.t.device)
    out.index_add_(0, _cell(batch, sample, channel, 2 * num_bins), torch.ones_like(sample, dtype=torch.float32))
    return out.clamp_(max=ceiling).view(len(batch), 2 * num_bins, batch.sensor.height, batch.sensor.width)


def evrep_torch(batch: EventBatch, longest: float) -> Tensor:
    """Return EvRep (B, 3, H, W) float32, the spread of intervals in microseconds and none above `longest`."""
    num_cells = len(batch) * batch.sensor.height * batch.sensor.width
    # By pixel, and by time within a pixel; where two neighbours share a pixel lies an interval of that pixel.
    cell, order = torch.sort(_cell(batch, _sample_of(batch), torch.zeros_like(batch.t), 1), stable=True)
    t = batch.t[order]
    inside = cell[1:] == cell[:-1]
    interval = (t[1:] - t[:-1]) * inside
    is_first = inside.clone()
    is_first[1:] &= ~inside[:-1]
    first = torch.zeros(num_cells, dtype=torch.int64, device=t.device).index_add_(0, cell[1:], interval * is_first)
    beyond = ((interval - first[cell[1:]]) * inside).double()

    def added(at: Tensor, values: Tensor) -> Tensor:
        return torch.zeros(num_cells, dtype=torch.float64, device=t.device).index_add_(0, at, values)

    count = added(cell, torch.ones_like(cell, dtype=torch.float64))
    polarity = added(cell, torch.where(batch.p[order] == 0, -1.0, 1.0).double())
    intervals = (count - 1).clamp(min=1)
    mean = added(cell[1:], beyond) / intervals
    variance = (added(cell[1:], beyond.square()) / intervals - mean * mean).clamp(min=0)
    out = torch.stack([count, polarity, variance.sqrt().clamp(max=longest)]).float()
    return out.view(3, len(batch), batch.sensor.height, batch.sensor.width).transpose(0, 1).contiguous()


def event_span(batch: EventBatch) -> tuple[Tensor, Tensor]:
    """Return the time of the first and the last event of each sample, (B,) int64; zeros for a sample without events."""
    start, stop = batch.offsets[:-1], batch.offsets[1:]
    if len(batch.t) == 0:
        return torch.zeros_like(start), torch.zeros_like(start)
    end = len(batch.t) - 1
    some = stop > start
    return batch.t[start.clamp(max=end)] * some, batch.t[(stop - 1).clamp(min=0)] * some


def _sample_of(batch: EventBatch) -> Tensor:
    """Return the sample that each event belongs to, (N,) int64."""
    numbers = torch.arange(len(batch), device=batch.t.device)
    return torch.repeat_interleave(numbers, batch.offsets.diff(), output_size=len(batch.t))


def _cell(batch: EventBatch, sample: Tensor, channel: Tensor, channels: int) -> Tensor:
    """Return the position of each event in the flattened (B, C, H, W) tensor, (N,) int64."""
    return ((sample * channels + channel) * batch.sensor.height + batch.y) * batch.sensor.width + batch.x
