"""What each kind of part must offer, so that parts of one layer never need to know each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from eventfm.events import EventBatch, Events, Sensor

if TYPE_CHECKING:
    from torch import Tensor, nn

Batch = dict[str, Any]
"""One training batch. `input` (B, C, H, W) float32; `key` (B,) int64, a random key that depends on (seed, epoch,
sample) only; `index` (B,) int64; and, where the data has them, `target` (B, 1, H, W) float32 and `label` (B,) int64.

For tasks: `semantic` (B, H, W) int64, class numbers, 255 where there is none; `flow` (B, 2, H, W) float32, how far what
is at a pixel of the input at the start of the window moves until its end, pixels of the input, u right and v down, NaN
where unknown; `depth` (B, 1, H, W) float32, metres, NaN where unknown; `seen` (B, H, W) float32, 1 where the window has
an event and 0 elsewhere; `before` (B, C, H, W) float32, the window of the same length right before `input`. For
scoring, the labels and `seen` may be of the pixels of the sensor instead, and flow counts those.

For a teacher: `teacher_picture` (B, 3, h, w) float32, sRGB in [0, 1], what the whole sensor looks at; or
`teacher_tokens` (B, N, D) float32, what the teacher said of it; and `view` (B, 5) float32, the part of that picture
that `input` shows: left, top, right, bottom from 0 to 1, and 1 where it is flipped left to right.

For methods that ask where something happened: `activity` (B, rows, cols) float32, the events under each patch of
`input` per 256 pixels of the sensor; or `active` (B, rows, cols) float32, 1 where the data say that a patch is active
and 0 elsewhere."""


@runtime_checkable
class Track(Protocol):
    """Something recorded beside the events: frames, flow, depth, labels, inertial samples."""

    @property
    def times(self) -> NDArray[np.int64]:
        """Microseconds of each entry in the events' clock, increasing; a frame's is its mid-exposure."""
        ...

    def read(self, i: int) -> NDArray[Any]:
        """Return entry `i`; frames are (H, W) or (H, W, 3) as stored, uint8 or uint16."""
        ...


@runtime_checkable
class Recording(Protocol):
    """Random access to one recording. Picklable; files are opened lazily, in the process that reads."""

    format: str
    sensor: Sensor
    num_events: int
    t_range: tuple[int, int]
    """First and last event time in microseconds, inclusive; (0, -1) when there is no event."""
    tracks: Mapping[str, Track]

    def events(self, t0: int, t1: int) -> Events:
        """Return the events of the half-open range `[t0, t1)` in microseconds."""
        ...

    def events_by_index(self, start: int, stop: int) -> Events:
        """Return events `start` to `stop` (exclusive), counted from the first of the recording."""
        ...


@runtime_checkable
class Representation(Protocol):
    """A frozen config that turns events into a tensor; its fields are what a checkpoint remembers."""

    @property
    def channels(self) -> int:
        """Number of channels C of the tensors it makes."""
        ...

    def __call__(self, events: Events) -> Tensor:
        """Return (C, H, W) float32."""
        ...

    def batched(self, events: EventBatch) -> Tensor:
        """Return (B, C, H, W) float32 on the events' device, the same values as one by one."""
        ...

    def accumulate(self, events: Events, out: NDArray[np.float32]) -> None:
        """Write the tensor of `events` into the caller's `out` (C, H, W) float32, which is overwritten."""
        ...


class Features(NamedTuple):
    """What a backbone says of a batch."""

    tokens: Tensor
    """(B, N, D), one per visible patch, in raster order (or in the order of `keep`)."""
    cls: Tensor | None
    """(B, D) where the backbone has a class token."""
    grid: tuple[int, int]
    """Rows and columns of the whole patch grid."""


class Embedding(NamedTuple):
    """Features of one window of a recording; `.npz` files that `embed` writes have the same keys."""

    t_us: int
    """End of the window in microseconds."""
    cls: NDArray[np.float32]
    """(D,) summary of the window."""
    tokens: NDArray[np.float32]
    """(N, D), raster order."""
    grid: tuple[int, int]


@runtime_checkable
class Backbone(Protocol):
    """A network from a representation to features."""

    embed_dim: int
    stride: int
    """Pixels a side of one token, which is the unit of masking."""
    pyramid_dims: tuple[int, ...]
    """Channels of the maps that `pyramid` returns."""
    pyramid_strides: tuple[int, ...]
    """Pixels of the input per cell of each of those maps."""

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Features:
        """Return features of `x` (B, C, H, W); of the patches `keep` (B, K) int64 alone, in that order, if given."""
        ...

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """Return the maps (B, D_i, H_i, W_i) that dense heads read, finest first."""
        ...

    def shard_units(self) -> list[nn.Module]:
        """Return the blocks that are compiled, checkpointed and sharded one by one."""
        ...

    def layers(self) -> list[list[str]]:
        """Return prefixes of parameter names, layer by layer from the input on; what is in none comes after all."""
        ...


class Teacher(Protocol):
    """A frozen network for pictures that a student learns from. Not an `nn.Module`: no run trains or saves it."""

    dim: int
    grid: tuple[int, int]
    """Rows and columns of its tokens."""
    input_size: tuple[int, int]
    """Height and width of its pictures, pixels."""
    identity: Mapping[str, Any]
    """What tells it from every other teacher: name, class, hash of the weights; plain JSON values."""

    def __call__(self, pictures: Tensor) -> Tensor:
        """Return patch tokens (B, rows * cols, dim) of `pictures` (B, 3, H, W), sRGB in [0, 1], without gradient."""
        ...


class Progress(NamedTuple):
    """Where a run stands when a step is taken."""

    step: int
    """Optimiser steps already done."""
    num_steps: int
    """Optimiser steps of the whole run."""


class ParameterRule(NamedTuple):
    """Learning-rate factor and weight decay for the parameters whose name matches `pattern` (`re.search`).

    The first rule that matches holds. `weight_decay=None` keeps the run's own decay.
    """

    pattern: str
    lr_scale: float = 1.0
    weight_decay: float | None = None


@runtime_checkable
class Objective(Protocol):
    """What one run optimises: networks, teacher, heads and loss in one `nn.Module`."""

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return `loss` and further scalars to log, all 0-d tensors."""
        ...

    def after_step(self, progress: Progress) -> None:
        """Update what is not trained by gradient: moving averages, queues."""
        ...

    def encoder(self) -> nn.Module:
        """Return the backbone that is exported."""
        ...

    def parameter_rules(self) -> list[ParameterRule]:
        """Return learning-rate and decay rules; parameters that no rule names follow the run's settings."""
        ...

    def shard_units(self) -> list[nn.Module]:
        """Return the blocks that are compiled, checkpointed and sharded one by one."""
        ...


class BatchSource(Protocol):
    """Training batches of one rank, addressed by number so that a run can resume anywhere."""

    batches_per_epoch: int
    """Batches of this rank in one pass over the data."""

    def __call__(self, start: int) -> Iterator[Batch]:
        """Yield batch `start`, `start + 1`, ... without end, CPU tensors; a pure function of the number."""
        ...
