"""What a teacher said of pictures, kept on disk in half precision and read where it lies.

A cache is a folder: `cache.json` says which teacher, what its pictures showed and which shards belong to it; a shard
`tokens-00000.safetensors` holds `tokens` (n, N, D) float16 and, as metadata, the keys of its n pictures as JSON.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt
from safetensors import SafetensorError, safe_open

from eventfm.config import Config, ConfigError

CARD = "cache.json"
TENSOR = "tokens"
KEYS = "keys"
MAKE = "eventfm prepare teacher"
_WEIGHTS = "weights_sha256"
_LABELS = {"name", "revision"}
"""Fields of a teacher's identity that say where it came from: of no account where the weights are the same."""


class CacheError(ValueError):
    """Raised when a cache is not there, is damaged, or is not the one that is needed."""


class CacheCard(Config):
    """What `cache.json` says."""

    format: Literal[1] = 1
    teacher: dict[str, Any]
    """The teacher's identity."""
    dim: PositiveInt
    grid: tuple[PositiveInt, PositiveInt]
    """Rows and columns of tokens."""
    field: tuple[PositiveInt, PositiveInt]
    """Width and height of the sensor; its shape decides how much of a picture the teacher saw."""
    dtype: Literal["float16"] = "float16"
    shards: dict[Annotated[str, Field(pattern=r"^tokens-\d{5,}\.safetensors$")], PositiveInt] = Field(
        default_factory=dict
    )
    """File and number of pictures, in the order of writing."""
    failed: dict[str, str] = Field(default_factory=dict)
    """Pictures that could not be read, and why."""

    @property
    def shape(self) -> tuple[int, int]:
        """Number and dimension of the tokens of one picture."""
        return self.grid[0] * self.grid[1], self.dim


class TokenCache:
    """The tokens in a folder, by the keys of their pictures.

    Shards are mapped into memory when they are first read, and may be read from any thread. Another process opens
    the folder again.
    """

    def __init__(self, folder: Path, card: CacheCard, keys: list[list[str]]) -> None:
        self.folder = folder
        self.teacher: dict[str, Any] = card.teacher
        self.dim = card.dim
        self.grid = card.grid
        self.field = card.field
        self.failed = card.failed
        self._shape = card.shape
        self._files = [folder / name for name in card.shards]
        self._maps: dict[int, NDArray[np.float16]] = {}
        self._starts = list(np.cumsum([0, *(len(part) for part in keys)]))
        self._rows = {key: row for row, key in enumerate(key for part in keys for key in part)}

    @classmethod
    def open(cls, folder: str | Path) -> TokenCache:
        """Return the cache in `folder`; its tokens are not read yet.

        Raises:
            CacheError: There is none, or it is damaged.
        """
        folder = Path(folder)
        card = read_card(folder)
        return cls(folder, card, [read_keys(folder / name, count, card) for name, count in card.shards.items()])

    def __reduce__(self) -> tuple[Any, ...]:
        return TokenCache.open, (self.folder,)

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, key: str) -> NDArray[np.float16]:
        """Return the tokens (N, D) of one picture, a view that cannot be written to.

        Raises:
            CacheError: The cache does not have it, or a shard is gone.
        """
        row = self._rows.get(key)
        if row is None:
            raise CacheError(f"{self.folder} has no tokens of the picture {key}; {MAKE} adds what is missing")
        shard = bisect_right(self._starts, row) - 1
        return self._map(shard)[row - self._starts[shard]]

    def check(
        self,
        identity: Mapping[str, Any] | None = None,
        field: tuple[int, int] | None = None,
        keys: Iterable[str] | Mapping[str, str] | None = None,
    ) -> None:
        """Do nothing if the cache is what is needed.

        Args:
            identity: Of the teacher that the tokens must be of.
            field: Width and height of the sensor.
            keys: Pictures that must be there; a mapping gives their names, for the message.

        Raises:
            CacheError: It is not; the message says what differs and what to do.
        """
        if lines := [*differences(self.teacher, identity or self.teacher), *_other_field(self.field, field)]:
            raise CacheError(
                "\n".join([f"the tokens in {self.folder} are not those that are needed:", *lines])
                + f"\nchoose the cache that was made for this, or make one: {MAKE}"
            )
        names = keys if isinstance(keys, Mapping) else {key: key for key in keys or ()}
        if missing := [name for key, name in names.items() if key not in self]:
            first = ", ".join(f"{name} ({self.failed[name]})" if name in self.failed else name for name in missing[:3])
            raise CacheError(
                f"{self.folder} lacks the tokens of {len(missing)} of {len(names)} pictures, first {first}; run {MAKE} "
                "with this data and this folder: it adds what is missing"
            )

    def _map(self, shard: int) -> NDArray[np.float16]:
        found = self._maps.get(shard)
        if found is None:
            path, shape = self._files[shard], (self._starts[shard + 1] - self._starts[shard], *self._shape)
            try:
                # The tensor is the last thing in its file. Two threads may both map it, which does no harm.
                offset = path.stat().st_size - 2 * int(np.prod(shape))
                found = np.asarray(np.memmap(path, np.float16, "r", offset, shape))
            except (OSError, ValueError) as error:
                raise CacheError(f"{path} cannot be read any more: {error}; {MAKE} makes it again") from error
            self._maps[shard] = found
        return found


def read_card(folder: Path) -> CacheCard:
    """Return what `cache.json` in `folder` says.

    Raises:
        CacheError: There is none, or it is damaged.
    """
    path = folder / CARD
    try:
        return CacheCard.parse(json.loads(path.read_text(encoding="utf-8")), str(path))
    except OSError as error:
        raise CacheError(f"no cache of a teacher's tokens in {folder} ({error}); make one: {MAKE}") from error
    except (ValueError, ConfigError) as error:
        raise CacheError(
            f"{path} is damaged, or of another version of eventfm: {error}; delete the folder and make it again: {MAKE}"
        ) from error


def read_keys(path: Path, count: int, card: CacheCard) -> list[str]:
    """Return the keys of the `count` pictures of a shard, in the order of its rows.

    Raises:
        CacheError: It is not there, or not whole, or not of this cache.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            tensor = file.get_slice(TENSOR)
            held = tensor.get_dtype(), tensor.get_shape()
            keys: list[str] = json.loads(file.metadata()[KEYS])
        if held == ("F16", [count, *card.shape]) and len(keys) == count:
            return keys
        reason = f"expected {count} pictures of {card.shape[0]} tokens of {card.dim} numbers, got {held}"
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
        reason = str(error)
    raise CacheError(f"{path} is not there or is damaged ({reason}); {MAKE} with this folder makes it again")


def differences(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Return one line for each field in which two teachers' identities differ; none if their tokens are the same."""
    there, wanted = json.loads(json.dumps([dict(there), dict(wanted)]))
    fields = there.keys() | wanted.keys()
    if there.get(_WEIGHTS) is not None and there.get(_WEIGHTS) == wanted.get(_WEIGHTS):
        fields -= _LABELS
    return [
        f"  teacher's {field}: {there.get(field)!r} there, {wanted.get(field)!r} needed"
        for field in sorted(fields)
        if there.get(field) != wanted.get(field)
    ]


def _other_field(there: tuple[int, int], wanted: tuple[int, int] | None) -> list[str]:
    if wanted is None or there == tuple(wanted):
        return []
    return [f"  sensor: {there[0]}x{there[1]} pixels there, {wanted[0]}x{wanted[1]} needed"]
