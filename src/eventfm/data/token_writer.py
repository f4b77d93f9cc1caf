"""Adding to a cache of a teacher's tokens: shard by shard, each a whole file or none, by one process at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file

from eventfm.data.locks import only_one
from eventfm.data.token_cache import CARD, KEYS, TENSOR, CacheCard, CacheError, differences, read_card, read_keys
from eventfm.io import WriteError
from eventfm.io.atomic import atomic_file

SHARD_BYTES = 128 << 20
"""Tokens per file: what a run that is killed has to do again, at most."""
_LOCK = ".lock"


class TokenWriter:
    """Adds tokens to one cache; made by `open_writer`."""

    def __init__(self, folder: Path, card: CacheCard, keys: set[str], shard_bytes: int) -> None:
        self._folder = folder
        self._card = card
        self.failed = dict(card.failed)
        """Pictures that could not be read, and why: of earlier runs and of this one; written with the next shard."""
        self._keys = keys
        self._pending: list[str] = []
        self._buffer = np.empty((max(1, shard_bytes // (2 * int(np.prod(card.shape)))), *card.shape), np.float16)

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def add(self, key: str, tokens: NDArray[np.float16]) -> None:
        """Take the tokens (N, D) of one picture; those of a key that is there already are left out.

        Raises:
            WriteError: The system refused to write a full shard; those before it stay.
        """
        assert (tokens.dtype, tokens.shape) == (np.float16, self._card.shape), (tokens.dtype, tokens.shape)
        if key in self._keys:
            return
        self._buffer[len(self._pending)] = tokens
        self._pending.append(key)
        self._keys.add(key)
        if len(self._pending) == len(self._buffer):
            self.flush()

    def flush(self) -> None:
        """Write what has been taken as a shard, and then the card that makes it part of the cache."""
        if self._pending:
            last = max((_number(name) for name in self._card.shards), default=-1)
            path = self._folder / f"tokens-{last + 1:05d}.safetensors"
            with _advised(), atomic_file(path, overwrite=True) as temporary:
                try:
                    tensors = {TENSOR: self._buffer[: len(self._pending)]}
                    save_file(tensors, temporary, {KEYS: json.dumps(self._pending)})
                except SafetensorError as error:
                    raise OSError(str(error)) from error
            shards = {**self._card.shards, path.name: len(self._pending)}
            self._card = self._card.model_copy(update={"shards": shards})
            self._pending = []
        self._card = self._card.model_copy(update={"failed": self.failed})
        write_card(self._folder, self._card)


@contextmanager
def open_writer(
    folder: str | Path,
    teacher: Mapping[str, Any],
    dim: int,
    grid: tuple[int, int],
    field: tuple[int, int],
    shard_bytes: int = SHARD_BYTES,
) -> Iterator[TokenWriter]:
    """Lend a writer to the cache in `folder`, which is begun where there is none; see `CacheCard` for the arguments.

    What has been taken is written when the block ends, and also when it fails.
    Shards that are gone or damaged leave the cache here, so that their pictures are made again.

    Raises:
        CacheError: The folder holds tokens of another teacher or sensor, or something else, or another process is
            writing to it.
        WriteError: The system refused to write.
    """
    folder = Path(folder)
    wanted = CacheCard(teacher=json.loads(json.dumps(dict(teacher))), dim=dim, grid=grid, field=field)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise CacheError(f"expected a folder to write to, {folder} or what it lies in is a file") from None
    except OSError as error:
        raise WriteError(f"could not make the folder {folder}: {error}") from error
    busy = CacheError(f"another process is writing to {folder}; wait for it, or choose another folder")
    with only_one(folder / _LOCK, busy):
        for left in (*folder.glob(".tokens-*.part"), *folder.glob(f".{CARD}.*.part")):
            left.unlink(missing_ok=True)
        card, keys = _take_up(folder, wanted)
        writer = TokenWriter(folder, card, keys, shard_bytes)
        try:
            yield writer
        except BaseException:
            writer.flush()
            raise
        writer.flush()


def write_card(folder: Path, card: CacheCard) -> None:
    """Write `cache.json`, as a whole or not at all."""
    with _advised(), atomic_file(folder / CARD, overwrite=True) as temporary:
        temporary.write_text(json.dumps(card.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")


def _take_up(folder: Path, wanted: CacheCard) -> tuple[CacheCard, set[str]]:
    """Return the card of the cache in `folder` with the shards that are whole, and the keys in them."""
    if not (folder / CARD).exists():
        if strangers := sorted(path.name for path in folder.iterdir() if path.name != _LOCK):
            raise CacheError(
                f"expected {folder} to be empty or to hold a cache, and it has {', '.join(strangers[:3])} but no "
                f"{CARD}; choose another folder"
            )
        write_card(folder, wanted)
        return wanted, set()
    stored = read_card(folder)
    lines = differences(stored.teacher, wanted.teacher)
    for name in ("dim", "grid", "field"):
        if (there := getattr(stored, name)) != (now := getattr(wanted, name)):
            lines.append(f"  {name}: {there} there, {now} now")
    if lines:
        raise CacheError(
            "\n".join([f"{folder} holds other tokens:", *lines, "choose another folder, or delete that one"])
        )
    keys: dict[str, list[str]] = {}
    for name, count in stored.shards.items():
        try:
            keys[name] = read_keys(folder / name, count, stored)
        except CacheError:
            continue  # made again
    lost = stored.shards.keys() - keys.keys()
    card = stored.model_copy(update={"shards": {name: stored.shards[name] for name in keys}})
    if lost:
        write_card(folder, card)
        for name in lost:
            (folder / name).unlink(missing_ok=True)
    return card, {key for part in keys.values() for key in part}


def _number(name: str) -> int:
    return int(name.removeprefix("tokens-").removesuffix(".safetensors"))


@contextmanager
def _advised() -> Iterator[None]:
    try:
        yield
    except WriteError as error:
        raise WriteError(
            f"{error}. Shards that are finished stay: make room and start the same command again to go on"
        ) from error
