"""Batches written straight into one preallocated tensor, several samples at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from eventfm.data.sampler import Draw, rank_slice, stream
from eventfm.protocols import Batch
from eventfm.random import derive

_DTYPES = {"label": np.int64, "semantic": np.int64}


class SampleSet(Protocol):
    """Samples by number, each able to write itself into arrays of the batch."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each array of a sample, e.g. `input` (C, H, W), `label` ()."""
        ...

    @property
    def problems(self) -> Mapping[str, str]:
        """What could not be read so far and was passed over, and why, by name."""
        ...

    def __len__(self) -> int: ...

    def fill(self, index: int, rng: np.random.Generator | None, out: dict[str, NDArray[np.generic]]) -> None:
        """Write sample `index` into the views `out`; `rng` draws the augmentation, None means none."""
        ...


@runtime_checkable
class OrderedSamples(Protocol):
    """A sample set with an order of its own; others come in shuffled passes (`sampler.stream`)."""

    def draws(self, seed: int, start: int, stop: int) -> list[Draw]:
        """Return positions `start` to `stop` of an endless stream that is a pure function of `seed`."""
        ...


@dataclass(frozen=True)
class Loader:
    """Training batches of one rank: batch `k` is a pure function of the seed and `k` (`protocols.BatchSource`).

    Samples are shared out over `num_workers` threads (the kernels release the interpreter lock), which also work
    ahead; the batches are the same for any number of workers.
    """

    samples: SampleSet
    batch_size: int
    seed: int
    rank: int = 0
    world_size: int = 1
    num_workers: int = 0
    ahead: int = 2

    @property
    def batches_per_epoch(self) -> int:
        """Batches of this rank in one pass, at least one."""
        return max(1, len(self.samples) // (self.batch_size * self.world_size))

    def __call__(self, start: int) -> Iterator[Batch]:
        """Yield batch `start` and all that follow, without end."""
        if not self.num_workers:
            while True:
                yield self._batch(start, None)
                start += 1
        with ThreadPoolExecutor(self.num_workers) as pool, ThreadPoolExecutor(1) as conductor:
            pending: deque[Future[Batch]] = deque()
            try:
                while True:
                    while len(pending) < self.ahead:
                        pending.append(conductor.submit(self._batch, start, pool))
                        start += 1
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()

    def _batch(self, number: int, pool: ThreadPoolExecutor | None) -> Batch:
        start, stop = rank_slice(number, self.batch_size, self.rank, self.world_size)
        if isinstance(self.samples, OrderedSamples):
            draws = self.samples.draws(self.seed, start, stop)
        else:
            draws = stream(self.seed, len(self.samples), start, stop)
        batch = _allocate(self.samples.shapes, len(draws))
        keys = np.array([derive(self.seed, "sample", draw.epoch, draw.index) for draw in draws], np.int64)
        _fill(self.samples, draws, keys, batch, pool)
        batch["key"] = torch.from_numpy(keys)
        batch["index"] = torch.tensor([draw.index for draw in draws])
        return batch


def evaluation_batches(samples: SampleSet, batch_size: int, indices: list[int] | None = None) -> Iterator[Batch]:
    """Yield every sample once, in order and without augmentation; the last batch may be smaller.

    `key` depends on the sample's number alone, so that masks in validation are the same every time.
    """
    indices = list(range(len(samples))) if indices is None else indices
    for start in range(0, len(indices), batch_size):
        draws = [Draw(0, index) for index in indices[start : start + batch_size]]
        batch = _allocate(samples.shapes, len(draws))
        _fill(samples, draws, None, batch, None)
        batch["key"] = torch.tensor([derive(0, "evaluation", draw.index) for draw in draws])
        batch["index"] = torch.tensor([draw.index for draw in draws])
        yield batch


def _allocate(shapes: dict[str, tuple[int, ...]], size: int) -> Batch:
    # numpy asks the system for huge pages, which makes a fresh batch several times cheaper to touch than torch's.
    return {
        name: torch.from_numpy(np.empty((size, *shape), _DTYPES.get(name, np.float32)))
        for name, shape in shapes.items()
    }


def _fill(
    samples: SampleSet,
    draws: list[Draw],
    keys: NDArray[np.int64] | None,
    batch: Batch,
    pool: ThreadPoolExecutor | None,
) -> None:
    views = {name: tensor.numpy() for name, tensor in batch.items()}

    def one(row: int) -> None:
        rng = None if keys is None else np.random.Generator(np.random.Philox(key=int(keys[row])))
        samples.fill(draws[row].index, rng, {name: view[row, ...] for name, view in views.items()})

    for _ in (pool.map if pool else map)(one, range(len(draws))):
        pass
