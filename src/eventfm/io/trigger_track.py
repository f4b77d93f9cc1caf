"""The signals at a camera's trigger inputs, among the words of its events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventfm.events import OnError
from eventfm.io.blocks import Block
from eventfm.io.contract import DamagedFileError
from eventfm.io.recording import as_track_times

Rows = NDArray[np.int64]
"""Time (microseconds), edge and channel, (N, 3)."""


class TriggerTrack:
    """A track of triggers, read when first asked for; entry `i` is (edge, channel), edge 1 rising and 0 falling.

    `blocks` say in `state[count_at]` how many triggers they hold, and `decode` returns those of a block.
    """

    def __init__(
        self,
        path: Path,
        blocks: Sequence[Block],
        count_at: int,
        decode: Callable[[NDArray[np.uint8], tuple[int, ...]], Rows],
        on_error: OnError,
    ) -> None:
        self._path, self._decode, self._on_error = path, decode, on_error
        self._blocks = [block for block in blocks if block.state[count_at]]
        self._length = sum(block.state[count_at] for block in blocks)

    def __len__(self) -> int:
        return self._length

    def read(self, i: int) -> NDArray[Any]:
        """Return entry `i`, (2,) int64."""
        return self._rows[i, 1:]

    @property
    def times(self) -> NDArray[np.int64]:
        """Times in microseconds, (N,).

        Raises:
            FormatError: They decrease and may not be mended, or the file is another one than when it was opened.
        """
        return self._rows[:, 0]

    @cached_property
    def _rows(self) -> Rows:
        parts = [self._decode(self._data(block), block.state) for block in self._blocks]
        rows = np.concatenate(parts)
        if len(rows) != len(self):
            raise DamagedFileError(f"{self._path}: expected {len(self)} triggers, got {len(rows)}; open it again")
        if self._on_error != "raise":
            return rows[np.argsort(rows[:, 0], kind="stable")]
        as_track_times(rows[:, 0])
        return rows

    def _data(self, block: Block) -> NDArray[np.uint8]:
        return np.fromfile(self._path, np.uint8, block.size, offset=block.offset)
