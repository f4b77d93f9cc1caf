"""Asking a teacher once about every picture of a data source, and keeping what it says."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eventfm.data.problems import UnreadableError
from eventfm.data.scenes import Scenes
from eventfm.data.token_cache import CacheError
from eventfm.data.token_writer import SHARD_BYTES, TokenWriter, open_writer
from eventfm.engine.distributed import RankError, from_main, is_main
from eventfm.protocols import Teacher

LARGEST = float(np.finfo(np.float16).max)
_BUSY = "busy"


@dataclass(frozen=True)
class CacheBuilt:
    """What became of the pictures of a data source."""

    num_tokens_written: int
    """Pictures whose tokens were made."""
    num_kept: int
    """Pictures whose tokens were there, or are those of an equal picture."""
    failed: dict[str, str]
    """Why the others could not be read, by name; they are tried again next time."""


class _Seen(NamedTuple):
    name: str
    key: str
    picture: NDArray[np.float32] | None
    """None where the cache has its tokens."""


def build_cache(
    folder: str | Path,
    scenes: Scenes,
    teacher: Teacher,
    batch_size: int = 64,
    progress: Callable[[int], None] = lambda num_done: None,
    *,
    device: torch.device | str = "cpu",
    num_workers: int = 4,
    shard_bytes: int = SHARD_BYTES,
) -> CacheBuilt:
    """Make the tokens of all pictures of `scenes` that the cache in `folder` does not have.

    A run that was interrupted goes on: what is in the cache is kept. Under several ranks, rank 0 does all the work
    and the others wait for it; start a large cache before the run, as one process.

    Args:
        folder: The cache; begun where there is none.
        scenes: The pictures.
        teacher: What is asked.
        batch_size: Pictures that it is asked about at once.
        progress: Is told how many pictures are done.
        device: Where the teacher works.
        num_workers: Threads that read pictures ahead of it.
        shard_bytes: Size of a shard's tokens.

    Raises:
        CacheError: The folder holds something else (the message names the fields that differ), or the teacher says
            something that half precision cannot hold; what was made before is kept.
        WriteError: The system refused to write; finished shards are kept.
        RankError: Rank 0 failed and this is another rank.
    """
    if not is_main():
        return _wait()

    def work() -> CacheBuilt:
        with open_writer(folder, teacher.identity, teacher.dim, teacher.grid, scenes.field, shard_bytes) as writer:
            asked = _Asked(writer, teacher, torch.device(device))
            for done, seen in enumerate(_look(scenes, writer, teacher.input_size, 2 * batch_size, num_workers), 1):
                asked.take(seen)
                if len(asked.waiting) == batch_size:
                    asked.answer()
                progress(done - len(asked.waiting))
                if done % batch_size == 0:
                    from_main(_BUSY)  # others wait for a word, not for ever
            asked.answer()
            progress(len(scenes))
            return asked.built()

    try:
        built = work()
    except Exception as error:
        from_main(f"{type(error).__name__}: {error}")
        raise
    return from_main(built)


class _Asked:
    """The pictures that were seen, and what became of them."""

    def __init__(self, writer: TokenWriter, teacher: Teacher, device: torch.device) -> None:
        self.waiting: dict[str, _Seen] = {}
        """Pictures for the teacher, by key."""
        self._writer = writer
        self._teacher = teacher
        self._device = device
        self._num_written = 0
        self._num_kept = 0
        self._failed: dict[str, str] = {}

    def take(self, seen: _Seen | tuple[str, str]) -> None:
        """Take a picture, or the name of one that could not be read and the reason."""
        if not isinstance(seen, _Seen):
            name, reason = seen
            self._failed[name] = self._writer.failed[name] = reason
            return
        self._writer.failed.pop(seen.name, None)
        if seen.key in self._writer or seen.key in self.waiting:
            self._num_kept += 1
        else:
            self.waiting[seen.key] = seen

    def answer(self) -> None:
        """Ask the teacher about the pictures that wait, and write what it says."""
        if not self.waiting:
            return
        pictures = torch.from_numpy(
            np.stack([cast(NDArray[np.float32], seen.picture) for seen in self.waiting.values()])
        )
        tokens = self._teacher(pictures.to(self._device))
        halves = _half(tokens, [seen.name for seen in self.waiting.values()])
        for key, row in zip(self.waiting, halves, strict=True):
            self._writer.add(key, row)
        self._num_written += len(self.waiting)
        self.waiting = {}

    def built(self) -> CacheBuilt:
        return CacheBuilt(self._num_written, self._num_kept, self._failed)


def _look(
    scenes: Scenes, writer: TokenWriter, size: tuple[int, int], ahead: int, num_workers: int
) -> Iterator[_Seen | tuple[str, str]]:
    """Yield all pictures in order, or name and reason of those that cannot be read; threads read `ahead` of them."""

    def one(i: int) -> _Seen:
        key = scenes.key(i)
        return _Seen(scenes.name(i), key, None if key in writer else scenes.read(i, size))

    with ThreadPoolExecutor(num_workers) as pool:
        pending: deque[tuple[int, Future[_Seen]]] = deque()
        numbers = iter(range(len(scenes)))
        try:
            while True:
                while len(pending) < ahead and (i := next(numbers, None)) is not None:
                    pending.append((i, pool.submit(one, i)))
                if not pending:
                    return
                i, future = pending.popleft()
                try:
                    seen = future.result()
                except UnreadableError as error:
                    yield scenes.name(i), error.reason
                except (ValueError, OSError) as error:
                    yield scenes.name(i), str(error) or type(error).__name__
                else:
                    yield seen
        finally:
            for _, future in pending:
                future.cancel()


def _half(tokens: Tensor, names: list[str]) -> NDArray[np.float16]:
    """Return `tokens` (B, N, D) of pictures called `names` in half precision.

    Raises:
        CacheError: A number of them is none, or too large.
    """
    worst = tokens.abs().amax(dim=(1, 2)).tolist()
    for name, value in zip(names, worst, strict=True):
        if not value <= LARGEST:  # nor is nan
            raise CacheError(
                f"the teacher says {value:g} of the picture {name}, and half precision holds numbers up to "
                f"{LARGEST:g}; check the teacher's weights, take the picture out, or train with the teacher live"
            )
    halves: NDArray[np.float16] = tokens.half().cpu().numpy()
    return halves


def _wait() -> CacheBuilt:
    """Return what rank 0 has made, when it has."""
    told: CacheBuilt | str = _BUSY
    while told == _BUSY:
        told = from_main(told)
    if isinstance(told, str):
        raise RankError(f"rank 0 failed: {told}")
    return told
