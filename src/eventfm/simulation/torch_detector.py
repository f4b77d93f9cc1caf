"""The pixels of many clips at once as torch tensors: the same integers as the compiled loops, on any device.

One Python loop over frames, none over events. Clips share a size and nothing else: each has its own sensor, its own
random maps and its own times, and gives the events that it would give alone. Random numbers are drawn on the host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eventfm.simulation.detector import LARGEST_DRIFT, MODES
from eventfm.simulation.kernels import DROP
from eventfm.simulation.maps import initial_distance, leak_map, threshold_maps
from eventfm.simulation.noise import NoiseClocks
from eventfm.simulation.response import NUM_LIGHTS, NUM_VALUES, brightness_table, keep_table, low_pass
from eventfm.simulation.sensor import SensorConfig
from eventfm.simulation.torch_crossings import Sent, Walkers, at, closed_form, follow

_HALF = 1 << 29


class _Noise(NamedTuple):
    """Noise events of some intervals, in raster order interval by interval."""

    place: Tensor
    """(N,) int64, in (B, H * W)."""
    offset: Tensor
    """(N,) int64, microseconds after the start of the interval."""
    polarity: Tensor
    """(N,) int64, 0 or 1."""
    bounds: list[int]
    """Interval k has events `bounds[k]` to `bounds[k + 1]` (exclusive)."""

    def of(self, interval: int) -> _Noise:
        """Return the events of one interval."""
        first, stop = self.bounds[interval : interval + 2]
        part = slice(first, stop)
        return _Noise(self.place[part], self.offset[part], self.polarity[part], [0, stop - first])


class TorchPixels:
    """Pixels (B, H * W) of B clips, stepped over frames together.

    Where some clip has refractory time or noise, a step waits for the device a few times per frame, otherwise twice in
    all: give it many frames.

    Args:
        configs: B sensors.
        height: Rows.
        width: Columns.
        clip_ids: B numbers; each says which random maps of its sensor's seed.
        device: Where everything lies.
    """

    def __init__(
        self, configs: Sequence[SensorConfig], height: int, width: int, clip_ids: Sequence[int], device: Any = "cpu"
    ) -> None:
        self.configs = list(configs)
        self.device = checked_device(device)
        self.num_pixels = height * width
        maps = [threshold_maps(c, height, width, clip) for c, clip in zip(configs, clip_ids, strict=True)]
        self._c_pos, self._c_neg = (self._uploaded([m[i].reshape(-1) for m in maps]) for i in (0, 1))
        # c_pos + (-1 or 0) * lean is the OFF or ON threshold: cheaper over all pixels than a choice.
        self._lean = self._c_pos - self._c_neg
        self._distance = self._uploaded(
            [initial_distance(c, *m, clip).reshape(-1) for c, m, clip in zip(configs, maps, clip_ids, strict=True)]
        )
        kinds = list(dict.fromkeys(self.configs))
        self._table = self._uploaded([brightness_table(kind) for kind in kinds]).reshape(-1)
        self._keep = self._uploaded([keep_table(kind) for kind in kinds]).reshape(-1)
        kind = torch.tensor([[kinds.index(c)] for c in self.configs], dtype=torch.int32, device=self.device)
        self._values_at, self._lights_at = kind * NUM_VALUES, kind.long() * NUM_LIGHTS
        self._leak = None
        self._strongest_leak = [0] * len(maps)
        if any(c.leak_hz for c in configs):
            leaks = [leak_map(c, m[0], clip).reshape(-1) for c, m, clip in zip(configs, maps, clip_ids, strict=True)]
            self._leak = self._uploaded([leak.astype(np.int64) for leak in leaks])
            self._strongest_leak = [int(leak.max()) for leak in leaks]
        self._poles = max(c.poles if c.cutoff_hz else 0 for c in configs)
        self.clocks = [
            NoiseClocks(c, *m, clip) if c.has_noise else None
            for c, m, clip in zip(configs, maps, clip_ids, strict=True)
        ]
        refractory = [c.refractory_us for c in configs]
        modes = [MODES[c.refractory] if c.refractory_us else DROP for c in configs]
        self._refractory, self._mode = (torch.tensor(v, device=self.device) for v in (refractory, modes))
        self._resets = torch.tensor([c.noise_resets for c in configs], device=self.device)
        self._by_steps = any(refractory) or any(c.has_noise for c in configs)

    def start(self, frames: Tensor) -> None:
        """Take `frames` (B, H * W) int32, 16-bit values, for the first ones."""
        level = self._levels(frames[None])[0]
        self.reference = level - self._distance
        self.states = [level.long() for _ in range(self._poles)]
        for clocks in self.clocks:
            if clocks is not None:
                clocks.reset()
        self.hold = self._held = None
        if self._by_steps:
            self.hold = torch.zeros_like(level, dtype=torch.int64)
            self._held = torch.zeros_like(level, dtype=torch.bool)

    def step(self, frames: Tensor, elapsed: NDArray[np.int64]) -> Sent:
        """Step over F intervals and return their events.

        Args:
            frames: (F + 1, B, H * W) int32, 16-bit values; the first ones are the last ones of the step before.
            elapsed: (F + 1, B) int64, microseconds since the first frame of each clip.

        Returns:
            Events in raster order, interval by interval: `spot` is the place in (F, B, H * W).
        """
        since = self._uploaded(elapsed)
        levels = self._levels(frames)
        if self._poles:
            levels = self._filtered(levels, frames, np.diff(elapsed, axis=0))
        if self._leak is not None:
            for level, tau in zip(levels, since[..., None], strict=True):
                # Only the lower 32 bits count: those of the product, which may wrap, and of the sum.
                level += (self._leak * tau).bitwise_right_shift_(18).int()
        away, count = torch.empty_like(levels[1:]), torch.empty_like(levels[1:])
        noise = self._noise(frames, elapsed) if any(self.clocks) else _no_noise(len(away), self.device)
        followed = []
        for k in range(len(away)):
            torch.sub(levels[k + 1], self.reference, out=away[k])
            threshold = torch.addcmul(self._c_pos, away[k] >> 31, self._lean)
            torch.div(away[k], threshold, rounding_mode="trunc", out=count[k])
            if self._by_steps:
                sent = self._follow(levels[k : k + 2], away[k], count[k], since[k : k + 2], noise.of(k))
                followed.append(sent._replace(spot=sent.spot + k * self.reference.numel()))
            self.reference.addcmul_(count[k], threshold)
        sent = self._crossings(levels, away, count, since[1:] - since[:-1])
        if not followed:
            return sent
        columns = [torch.cat(column) for column in zip(sent, *followed, strict=True)]
        order = torch.sort(columns[0], stable=True).indices
        return Sent(*(at(column, order) for column in columns))

    def load(self, reference: Tensor, states: Sequence[Tensor], hold: Tensor | None, elapsed: int) -> None:
        """Go on from `reference`, `states` and `hold`, each (B, H * W), as they were `elapsed` microseconds on."""
        self.reference.copy_(reference)
        for mine, theirs in zip(self.states, states, strict=True):
            mine.copy_(theirs)
        if self.hold is not None and self._held is not None and hold is not None:
            self.hold.copy_(hold)
            self._held.copy_((hold > elapsed) & (self._mode != DROP)[:, None])

    def longest_interval_us(self) -> list[int]:
        """Return how far apart two frames of each clip may be for the leak to stay in bounds."""
        return [(LARGEST_DRIFT << 18) // leak if leak else 2**62 for leak in self._strongest_leak]

    def _uploaded(self, arrays: Any) -> Tensor:
        return torch.from_numpy(np.array(arrays, order="C")).to(self.device)

    def _levels(self, frames: Tensor) -> Tensor:
        """Return the brightness (F, B, H * W) int32 of frames of this shape."""
        return self._table.index_select(0, (frames + self._values_at).view(-1)).view(frames.shape)

    def _filtered(self, levels: Tensor, frames: Tensor, durations: NDArray[np.int64]) -> Tensor:
        """Return brightness behind the photoreceptors; see `response.LowPass`. Clips without one get it back as is."""
        table = self._uploaded([list(map(_coefficients, self.configs, row.tolist())) for row in durations])
        table = table.transpose(1, 2).reshape(len(durations), 4, -1).long()
        start = torch.arange(len(self.configs), device=self.device, dtype=torch.int32)[:, None] * NUM_LIGHTS
        out = torch.empty_like(levels)
        out[0] = self.states[-1]
        before = levels[0].long()
        for k in range(len(durations)):
            light = ((frames[k] + frames[k + 1] >> 9) + start).view(-1)
            e, g, *second = (c.index_select(0, light).view(before.shape) for c in table[k][: 2 * self._poles])
            after = levels[k + 1].long()
            rise, lags = after - before, [state - before for state in self.states]
            changes = [e * lags[0] - g.mul_(rise)]
            if second:
                changes.append(e.mul_(lags[1]).add_(second[0].mul_(lags[0])).sub_(second[1].mul_(rise)))
            self.states = [change.add_(_HALF).bitwise_right_shift_(30).add_(after) for change in changes]
            out[k + 1] = self.states[-1]
            before = after
        return out

    def _noise(self, frames: Tensor, elapsed: NDArray[np.int64]) -> _Noise:
        """Return the noise events of all intervals: drawn on the host, thinned where the frames are."""
        columns = []
        for clip, clocks in enumerate(self.clocks):
            if clocks is not None:
                found = clocks.take(int(elapsed[-1, clip]))
                interval = np.searchsorted(elapsed[1:, clip], found.elapsed)
                place = clip * self.num_pixels + found.pixel
                offset = found.elapsed - elapsed[interval, clip]
                columns.append((interval, place, offset, found.polarity.astype(np.int64), found.draw))
        host = np.stack([np.concatenate(column) for column in zip(*columns, strict=True)])
        # Candidates of a clip come in raster order already, those of a pixel in order of time.
        interval, place, offset, polarity, draw = self._uploaded(host[:, np.argsort(host[0], kind="stable")])
        before = at(frames, interval * self.reference.numel() + place)
        after = at(frames, (interval + 1) * self.reference.numel() + place)
        light = at(self._lights_at, place // self.num_pixels) + (before + after >> 9)
        kept = (draw < at(self._keep, light)).nonzero().squeeze(1)
        bounds = torch.searchsorted(at(interval, kept), torch.arange(len(elapsed), device=self.device))
        return _Noise(at(place, kept), at(offset, kept), at(polarity, kept), bounds.tolist())

    def _follow(self, levels: Tensor, away: Tensor, count: Tensor, since: Tensor, noise: _Noise) -> Sent:
        """Return the events of pixels that are held or have noise or refractory time, and take them out of `count`.

        `levels` (2, B, H * W) and `since` (2, B) are brightness and elapsed time at both ends of the interval.
        """
        assert self.hold is not None
        assert self._held is not None
        wanted = self._held | ((count != 0) & (self._refractory > 0)[:, None])
        spot = wanted.view(-1).index_fill_(0, noise.place, True).nonzero().squeeze(1)
        clip = spot // self.num_pixels
        count.view(-1).index_fill_(0, spot, 0)
        end = at(away, spot)
        start = (end - (at(levels[1], spot) - at(levels[0], spot))).long()
        begin = since[0, clip]
        columns = Walkers(
            spot=spot,
            slot=torch.arange(len(spot), device=self.device),
            start=start,
            rise=end - start,
            c_pos=at(self._c_pos, spot).long(),
            c_neg=at(self._c_neg, spot).long(),
            duration=since[1, clip] - begin,
            now=torch.zeros_like(spot),
            hold=at(self.hold, spot) - begin,
            refractory=self._refractory[clip],
            mode=self._mode[clip],
            resets=self._resets[clip],
            noise=torch.searchsorted(noise.place, spot),
            last_noise=torch.searchsorted(noise.place, spot, right=True),
        )
        sent, moved, hold = follow(columns, noise.offset, noise.polarity)
        self.reference.view(-1).index_add_(0, spot, (start - moved).int())
        self.hold.view(-1).index_copy_(0, spot, hold + begin)
        self._held.view(-1).index_copy_(0, spot, (hold > columns.duration) & (columns.mode != DROP))
        return sent

    def _crossings(self, levels: Tensor, away: Tensor, count: Tensor, duration: Tensor) -> Sent:
        """Return the events that `count` (F, B, H * W) tells of."""
        spot = count.view(-1).nonzero().squeeze(1)
        place = spot % self.reference.numel()
        count, end = at(count, spot).long(), at(away, spot)
        rise = at(levels, spot + self.reference.numel()) - at(levels, spot)
        threshold = torch.where(count > 0, at(self._c_pos, place), at(self._c_neg, place)).long()
        interval = at(duration, spot // self.num_pixels)
        return closed_form(spot, (end - rise).long(), end.long(), threshold, count, interval)


class TorchDetector:
    """Pixels (H, W) of one clip on a device, with the methods and the state of `detector.CompiledDetector`.

    Args:
        config: The sensor.
        height: Rows.
        width: Columns.
        clip_id: Which random maps of `config.seed`.
        device: Where the pixels lie.
    """

    def __init__(self, config: SensorConfig, height: int, width: int, clip_id: int, device: Any = "cpu") -> None:
        self._shape = (height, width)
        self._pixels = TorchPixels([config], height, width, [clip_id], device)

    def start(self, frame: NDArray[np.uint16]) -> None:
        """Take `frame` (H, W) for the first one."""
        self._pixels.start(self._values(frame)[0])

    def longest_interval_us(self) -> int:
        """Return how far apart two frames may be for the leak to stay in bounds."""
        return self._pixels.longest_interval_us()[0]

    def advance(
        self, first: NDArray[np.uint16], last: NDArray[np.uint16], elapsed: int, duration: int
    ) -> NDArray[np.uint64]:
        """Step over the interval between two frames and return its events in raster order, as keys on the host."""
        times = np.array([[elapsed], [elapsed + duration]])
        spot, offset, flags = self._pixels.step(self._values(first, last), times)
        width = self._shape[1]
        keys = (offset << 34) | (spot // width << 18) | (spot % width << 2) | flags
        return keys.cpu().numpy().view(np.uint64)

    def state(self) -> dict[str, Any]:
        """Return what differs from the start, as copies: reference, level, hold, noise."""
        pixels = self._pixels
        states, clocks = pixels.states, pixels.clocks[0]
        return {
            "reference": self._map(pixels.reference),
            "level": np.stack([self._map(state.int()) for state in states]) if states else None,
            "hold": None if pixels.hold is None else self._map(pixels.hold),
            "noise": None if clocks is None else clocks.state(),
        }

    def load(self, state: Mapping[str, Any], frame: NDArray[np.uint16], elapsed: int) -> None:
        """Go on from a `state` that was taken at `frame`, `elapsed` microseconds after the first one."""
        self.start(frame)
        states = [] if state["level"] is None else [self._uploaded(level, np.int32) for level in state["level"]]
        hold = None if state["hold"] is None else self._uploaded(state["hold"], np.int64)
        self._pixels.load(self._uploaded(state["reference"], np.int32), states, hold, elapsed)
        if self._pixels.clocks[0] is not None:
            self._pixels.clocks[0].load(state["noise"])

    def _values(self, *frames: NDArray[np.uint16]) -> Tensor:
        return torch.cat([self._uploaded(frame, np.int32) for frame in frames])[:, None]

    def _uploaded(self, values: Any, dtype: Any) -> Tensor:
        return torch.from_numpy(np.array(values, dtype).reshape(1, -1)).to(self._pixels.device)

    def _map(self, values: Tensor) -> NDArray[Any]:
        return np.array(values.cpu().numpy().reshape(self._shape))


def checked_device(device: Any) -> torch.device:
    """Return the device of that name.

    Raises:
        ValueError: There is none that torch could use here.
    """
    try:
        return torch.zeros(1, device=device).device
    except (AssertionError, RuntimeError, TypeError) as error:
        raise ValueError(f"expected a device that torch can use here, got {device!r}: {error}") from None


def _coefficients(config: SensorConfig, duration_us: int) -> NDArray[np.int32]:
    """Return the photoreceptor's coefficients (4, 256) of an interval, made so that clips with other poles can join in.

    The second of two poles follows the first for h = 0 and w = g; without a low-pass brightness is its own state.
    """
    if not config.cutoff_hz:
        return np.zeros((4, NUM_LIGHTS), np.int32)
    e, g, h, w = low_pass(config, duration_us)
    return np.stack([e, g, h, w] if config.poles == 2 else [e, g, 0 * h, g])


def _no_noise(num_intervals: int, device: torch.device) -> _Noise:
    none = torch.zeros(0, dtype=torch.int64, device=device)
    return _Noise(none, none, none, [0] * (num_intervals + 1))
