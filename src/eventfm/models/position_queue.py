"""Negatives of contrastive learning: for each position of the token grid, the keys of the last pictures."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class PositionQueue(nn.Module):
    """The last `length` keys of each of `num_positions` positions (EventPretrain, stages 2 and 3).

    It starts with random directions. What it holds are buffers: no gradient reaches them, checkpoints keep them.
    """

    entries: Tensor
    pointer: Tensor

    def __init__(self, dim: int, num_positions: int, length: int) -> None:
        super().__init__()
        if length < 1:
            raise ValueError(f"expected a queue of at least one entry per position, got {length}")
        self.register_buffer("entries", functional.normalize(torch.randn(dim, num_positions, length), dim=0))
        self.register_buffer("pointer", torch.zeros(1, dtype=torch.int64))

    @property
    def num_positions(self) -> int:
        """Number of positions L."""
        return self.entries.shape[1]

    @property
    def length(self) -> int:
        """Number of entries K of each position."""
        return self.entries.shape[2]

    def check(self, count: int) -> None:
        """Do nothing if steps of `count` samples fill the queue evenly.

        Raises:
            ValueError: `count` does not divide the length.
        """
        if self.length % count:
            near = [n for n in (self.length // count * count, (self.length // count + 1) * count) if n]
            raise ValueError(
                f"expected a queue whose length is a multiple of the {count} samples of a step, got {self.length}; "
                f"{' or '.join(str(n) for n in near)} would do (queue_length), or another batch_size"
            )

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Let `keys` (N, L, dim), of length 1 and in the order of samples, take the places of the oldest entries.

        With several ranks, `keys` are those of all of them, so that every rank's queue is the same.

        Raises:
            ValueError: N does not divide the length.
        """
        self.check(len(keys))
        places = (self.pointer + torch.arange(len(keys), device=keys.device)) % self.length
        self.entries.index_copy_(2, places, keys.permute(2, 1, 0).to(self.entries.dtype))
        self.pointer.copy_((self.pointer + len(keys)) % self.length)
