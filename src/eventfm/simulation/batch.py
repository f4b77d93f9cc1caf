"""Many clips at once, where the frames are: events or voxel grids of a whole batch in a few large tensor operations.

Every clip gives what `pixel.simulate` gives for it alone, to the last bit, whatever else is in the batch. A GPU wants
millions of pixels at a time (clips x rows x columns).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eventfm.events import Events, Sensor
from eventfm.simulation.pixel import LONGEST_INTERVAL_US
from eventfm.simulation.readout import Readout
from eventfm.simulation.sensor import SensorConfig, checked
from eventfm.simulation.torch_crossings import Sent, at
from eventfm.simulation.torch_detector import TorchPixels, checked_device

PIXELS_AT_ONCE = 1 << 25
"""Pixels times frames of one step on a device: more wait less often, and need more memory, from 20 bytes each."""
PIXELS_AT_ONCE_ON_CPU = 1 << 20
"""The same on the CPU, whose caches are small."""


def simulate_batch(
    frames: Any,
    t_us: Any,
    configs: SensorConfig | Sequence[SensorConfig],
    clip_ids: Sequence[int] | None = None,
    device: Any = None,
) -> list[Events]:
    """Return the events of B clips of one size; those of clip b equal `simulate(frames[b], t_us[b], ...)`.

    Args:
        frames: (B, F, H, W) uint8, uint16 or float in [0, 1], numpy or torch.
        t_us: (F,) or (B, F) integer microseconds, strictly increasing.
        configs: One sensor for all clips, or B.
        clip_ids: B numbers, which random maps of its sensor's seed each clip has; 0 to B - 1 by default.
        device: Where to work; None = where `frames` is.

    Raises:
        ValueError: Wrong shapes, dtypes, values or times; the message names the clip.
    """
    batch = _Batch.checked(frames, t_us, configs, clip_ids, device)
    num_clips, num_frames, height, width = batch.frames.shape
    sensor = Sensor(width, height)
    parts: list[list[_Columns]] = [[] for _ in range(num_clips)]
    for sent, first, last in _steps(batch):
        begins = batch.t_us[:, first:last].T
        for clip, columns in enumerate(_in_order(sent, begins, batch.t_us[:, last], (height, width))):
            parts[clip].append(columns)
    out = []
    for clip, config in enumerate(batch.configs):
        if num_frames < 2:
            out.append(Events.empty(sensor))
            continue
        x, y, t, flags = (np.concatenate(column) for column in zip(*parts[clip], strict=True))
        start, stop = int(batch.t_us[clip, 0]), int(batch.t_us[clip, -1])
        noise = flags & np.uint8(1) if config.has_noise else None
        events = Events(x, y, t, flags >> np.uint8(1), sensor, (start + 1, stop + 1), noise)
        readout = Readout(config, batch.clip_ids[clip]) if Readout.needed(config) else None
        out.append(events if readout is None else readout.push(events, start, stop))
    return out


def simulate_voxel_batch(
    frames: Any,
    t_us: Any,
    configs: SensorConfig | Sequence[SensorConfig],
    num_bins: int,
    t_range: tuple[int, int] | Sequence[tuple[int, int]],
    clip_ids: Sequence[int] | None = None,
    device: Any = None,
) -> Tensor:
    """Return the voxel grids (B, num_bins, H, W) float32 of B clips, on the device; no list of events is made.

    Grid b equals `simulate_voxel(frames[b], t_us[b], ...)` to the last bit on every device: each cell is summed up in
    the order of its events.

    Args:
        frames: See `simulate_batch`.
        t_us: See `simulate_batch`.
        configs: See `simulate_batch`.
        num_bins: Bins.
        t_range: Half-open window in integer microseconds, one for all clips or B.
        clip_ids: See `simulate_batch`.
        device: See `simulate_batch`.

    Raises:
        ValueError: As for `simulate_batch`, or no bins, an empty window, or a sensor with a readout.
    """
    if num_bins < 1:
        raise ValueError(f"expected at least one bin, got {num_bins}")
    batch = _Batch.checked(frames, t_us, configs, clip_ids, device)
    num_clips, _, height, width = batch.frames.shape
    windows = np.asarray(t_range)
    if windows.shape not in ((2,), (num_clips, 2)) or windows.dtype.kind not in "iu":
        raise ValueError(f"expected a window [t0, t1) of whole microseconds, or {num_clips}, got {t_range!r}")
    windows = np.broadcast_to(windows.astype(np.int64), (num_clips, 2))
    if (windows[:, 1] <= windows[:, 0]).any():
        raise ValueError(f"expected windows [t0, t1) with t0 < t1, got {windows.tolist()}")
    for clip, config in enumerate(batch.configs):
        if Readout.needed(config):
            raise ValueError(
                "expected sensors without latency, jitter, tick or rate limit: these need the list of events; make "
                f"the grid of clip {clip} from the events of `simulate_batch`"
            )
    grid = torch.zeros(num_clips * num_bins * height * width, device=batch.device)
    start, stop = (torch.from_numpy(edge.copy()).to(batch.device) for edge in windows.T)
    for sent, first, last in _steps(batch):
        interval, pixel = _split(sent.spot, height * width)
        whose = interval % num_clips
        begins = torch.from_numpy(batch.t_us.T[first:last].copy()).to(batch.device)
        t = at(begins, interval) + sent.offset
        inside = ((t >= at(start, whose)) & (t < at(stop, whose))).nonzero().squeeze(1)
        t, whose, pixel, flags = (at(column, inside) for column in (t, whose, pixel, sent.flags))
        length = at((stop - 1 - start).clamp_(min=1), whose)
        position = (t - at(start, whose)) * (num_bins - 1)
        low = torch.div(position, length, rounding_mode="trunc")
        sign = (flags & 2).float() - 1
        after = sign * ((position - low * length).float() / length.float())
        cell = (whose * num_bins + low) * (height * width) + pixel
        # Behind the last bin there is nothing, and nothing to add to it: the zero goes anywhere.
        next_cell = cell + (low + 1 < num_bins) * (height * width)
        add_in_order(grid, torch.stack([cell, next_cell], 1).view(-1), torch.stack([sign - after, after], 1).view(-1))
    return grid.view(num_clips, num_bins, height, width)


def add_in_order(total: Tensor, places: Tensor, values: Tensor) -> None:
    """Add `values` (N,) to `total` at `places` (N,) int64, one after the other at each place.

    The n-th values of all places are added together, so that none is added twice at once: no bit depends on the order
    in which a device works.
    """
    if not len(places):
        return
    places, by_place = torch.sort(places.int() if total.numel() < 2**31 else places, stable=True)
    number = torch.arange(len(places), device=places.device)
    is_first = torch.ones_like(places, dtype=torch.bool)
    is_first[1:] = places[1:] != places[:-1]
    rank = (number - (number * is_first).cummax(0).values).int()
    rank, by_rank = torch.sort(rank, stable=True)
    places, values = at(places, by_rank), at(values, at(by_place, by_rank))
    begin = 0
    for size in torch.bincount(rank).tolist():
        total.index_add_(0, places[begin : begin + size], values[begin : begin + size])
        begin += size


_Columns = tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.int64], NDArray[np.uint8]]


class _Batch(NamedTuple):
    frames: Tensor
    """(B, F, H, W) on the device."""
    t_us: NDArray[np.int64]
    """(B, F)."""
    configs: list[SensorConfig]
    clip_ids: list[int]
    device: torch.device

    @classmethod
    def checked(cls, frames: Any, t_us: Any, configs: Any, clip_ids: Any, device: Any) -> _Batch:
        if not isinstance(frames, Tensor):
            frames = torch.from_numpy(np.require(frames, requirements=["C", "W"]))
        if frames.ndim != 4 or not len(frames):
            raise ValueError(f"expected frames (B, F, H, W) of at least one clip, got shape {tuple(frames.shape)}")
        if frames.dtype not in (torch.uint8, torch.uint16) and not frames.is_floating_point():
            raise ValueError(f"expected uint8, uint16 or float frames, got {frames.dtype}")
        num_clips, num_frames = frames.shape[:2]
        one = isinstance(configs, (SensorConfig, str))  # the name of a preset is a sequence too, but no sensor
        configs = [checked(config) for config in ([configs] * num_clips if one else configs)]
        clip_ids = list(range(num_clips)) if clip_ids is None else [int(clip) for clip in clip_ids]
        if len(configs) != num_clips or len(clip_ids) != num_clips:
            raise ValueError(
                f"expected a sensor and a clip number for each of {num_clips} clips, got {len(configs)} and "
                f"{len(clip_ids)}"
            )
        times = np.asarray(t_us.cpu() if isinstance(t_us, Tensor) else t_us)
        if times.shape not in ((num_frames,), (num_clips, num_frames)):
            raise ValueError(f"expected times ({num_frames},) or ({num_clips}, {num_frames}), got {times.shape}")
        if times.size and times.dtype.kind not in "iu":
            raise ValueError(f"expected frame times in integer microseconds, got {times.dtype}")
        times = np.broadcast_to(times.astype(np.int64), (num_clips, num_frames))
        wrong = np.argwhere(np.diff(times, axis=1) <= 0)
        if len(wrong):
            clip, k = wrong[0]
            before, after = times[clip, k : k + 2]
            raise ValueError(
                f"expected frame times that increase, got {after} us after {before} us at frame {k + 1} of clip {clip}"
            )
        frames = frames if device is None else frames.to(checked_device(device))
        if frames.is_floating_point():
            _check_range(frames)
        return cls(frames, times, configs, clip_ids, frames.device)

    def values(self, first: int, stop: int) -> Tensor:
        """Return frames `first` to `stop` (exclusive) as 16-bit values (stop - first, B, H * W) int32."""
        part = self.frames[:, first:stop].transpose(0, 1)
        if part.is_floating_point():
            # As on the host: in double precision where the frames are, and not in half.
            part = torch.round((part if part.dtype == torch.float64 else part.float()) * 65535.0)
        values = part.to(torch.int32)
        if self.frames.dtype == torch.uint8:
            values = values * 257
        return values.reshape(stop - first, len(self.frames), -1).contiguous()


def _check_range(frames: Tensor) -> None:
    inside = ((frames >= 0) & (frames <= 1)).flatten(2).all(2)
    if not inside.all():
        clip, k = (~inside).nonzero()[0].tolist()
        wrong = frames[clip, k]
        raise ValueError(
            f"expected float frames in [0, 1] without NaN, got values from {wrong.min().item()} to "
            f"{wrong.max().item()} in frame {k} of clip {clip}; divide by the full scale, or pass uint8 or uint16"
        )


def _steps(batch: _Batch) -> Iterator[tuple[Sent, int, int]]:
    """Yield (events, first frame, last frame) of as many intervals at a time as are good for the device."""
    num_clips, num_frames, height, width = batch.frames.shape
    if num_frames < 2:
        return
    pixels = TorchPixels(batch.configs, height, width, batch.clip_ids, batch.device)
    for clip, longest in enumerate(pixels.longest_interval_us()):
        longest = min(longest, LONGEST_INTERVAL_US)
        found = int(np.diff(batch.t_us[clip]).max())
        if found > longest:
            raise ValueError(f"expected at most {longest} us between two frames of clip {clip}, got {found} us")
    pixels.start(batch.values(0, 1)[0])
    most = PIXELS_AT_ONCE_ON_CPU if batch.device.type == "cpu" else PIXELS_AT_ONCE
    num = max(most // (num_clips * height * width), 1)
    for first in range(0, num_frames - 1, num):
        last = min(first + num, num_frames - 1)
        elapsed = (batch.t_us[:, first : last + 1] - batch.t_us[:, :1]).T
        yield pixels.step(batch.values(first, last + 1), elapsed), first, last


def _in_order(
    sent: Sent, begins: NDArray[np.int64], stop: NDArray[np.int64], size: tuple[int, int]
) -> Iterator[_Columns]:
    """Yield the columns of each clip, ordered by time, on the host.

    Args:
        sent: Events of F intervals of B clips.
        begins: (F, B) times at which the intervals begin.
        stop: (B,) times at which the last ones end.
        size: Rows and columns.
    """
    num_clips, (height, width) = begins.shape[1], size
    interval, pixel = _split(sent.spot, height * width)
    span = int((stop - begins[0]).max()) + 1
    since = torch.from_numpy(np.ascontiguousarray(begins - begins[0] + np.arange(num_clips) * span)).to(
        sent.spot.device
    )
    key = at(since, interval) + sent.offset
    key, order = torch.sort(key.int() if num_clips * span < 2**31 else key, stable=True)
    edges = torch.arange(num_clips + 1, device=key.device) * span
    bounds = torch.searchsorted(key.long(), edges).tolist()
    rows_columns = _split(at(pixel, order), width)
    y, x = (values.to(torch.int16).cpu().numpy().view(np.uint16) for values in rows_columns)
    flags = at(sent.flags, order).to(torch.uint8).cpu().numpy()
    t = key.cpu().numpy().astype(np.int64)
    for clip, (first, last) in enumerate(pairwise(bounds)):
        part = slice(first, last)
        yield x[part], y[part], t[part] + (begins[0, clip] - clip * span), flags[part]


def _split(spot: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return (spot // size, spot % size) of whole numbers >= 0."""
    row = torch.div(spot, size, rounding_mode="trunc")
    return row, spot - row * size
