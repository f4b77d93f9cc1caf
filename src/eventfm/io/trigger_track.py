"""The signals at a camera's trigger inputs, among the words of its events.

All readers give triggers in one form: a track `triggers` whose entries are (edge, channel), int64; edge 1 rises and 0
falls, and a channel is one of the camera's inputs, or what else `docs/formats.md` says of the format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from types import ModuleType
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
    """A track of triggers, read when first asked for; entry `i` is (edge, channel).

    `blocks` say in `state[count_at]` how many triggers they hold, and `decode` returns those of a block; `name` is what
    messages call the file.
    """

    def __init__(
        self, name: str, blocks: Sequence[Block], count_at: int, decode: Callable[[Block], Rows], on_error: OnError
    ) -> None:
        self._name, self._decode, self._on_error = name, decode, on_error
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
        rows = np.concatenate([self._decode(block) for block in self._blocks])
        if len(rows) != len(self):
            raise DamagedFileError(f"{self._name}: expected {len(self)} triggers, got {len(rows)}; open it again")
        if self._on_error != "raise":
            return rows[np.argsort(rows[:, 0], kind="stable")]
        as_track_times(rows[:, 0])
        return rows


def triggers_of(words: NDArray[Any], state: tuple[int, ...], coding: ModuleType) -> Rows:
    """Return the triggers among `words` of a coding, the module of its decoder; `state` is its own before them."""
    chosen = words if coding.is_trigger(words).any() else words[:0]
    (channel, _, t, edge), _ = coding.decode(coding.triggers_as_events(chosen), state)
    return np.stack((t, edge.astype(np.int64), channel.astype(np.int64)), 1)
