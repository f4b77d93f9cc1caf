"""The order of samples: an endless stream that is a pure function of the seed."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventfm.random import generator


class Draw(NamedTuple):
    """One sample of the stream: number `index` of the set, in pass `epoch`."""

    epoch: int
    index: int


def stream(seed: int, num_samples: int, start: int, stop: int) -> list[Draw]:
    """Return positions `start` to `stop` of the endless stream of shuffled passes over `num_samples`.

    Pass `e` is a permutation that depends on (seed, e) alone, so any position is found without replaying.
    """
    assert num_samples > 0
    return [
        Draw(
            position // num_samples,
            int(_permutation(seed, position // num_samples, num_samples)[position % num_samples]),
        )
        for position in range(start, stop)
    ]


def rank_slice(batch: int, batch_size: int, rank: int, world_size: int) -> tuple[int, int]:
    """Return the stream positions of batch `batch` for `rank`; `batch_size` is the batch of one rank.

    All ranks together read the stream in order, so that 2 ranks of 8 see what 1 rank of 16 sees.
    """
    start = (batch * world_size + rank) * batch_size
    return start, start + batch_size


@lru_cache(maxsize=32)  # each part of a mixture has its own
def _permutation(seed: int, epoch: int, num_samples: int) -> NDArray[np.int64]:
    return generator(seed, "order", epoch).permutation(num_samples)
