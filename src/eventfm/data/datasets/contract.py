"""What a data set offers: samples by the names of files, and the recording of each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from eventfm.data.datasets.card import DatasetCard, Division
from eventfm.events import OnError
from eventfm.protocols import Recording

if TYPE_CHECKING:
    from eventfm.data.datasets.layout import Tree

Kind = Literal["missing", "damaged", "doubled", "label", "list", "unexpected"]


class Sample(NamedTuple):
    """One sample of a data set: a recording, or a part of one. Hashable and small; there may be a million."""

    name: str
    """Unique in the set, with `/` between its parts, the same wherever the files lie."""
    files: tuple[str, ...]
    """What it is read from, relative to the folder of the set; the events first."""
    label: int | None = None
    split: str = ""
    span: tuple[int, int] | None = None
    """Where the sample is a stretch of its file: `[t0, t1)` microseconds."""
    entries: range | tuple[int, ...] | None = None
    """Which frames or maps of its sequence belong to it, by number; None for all."""
    fold: int | None = None
    """Its fold, where the owners made folds."""


class Problem(NamedTuple):
    """Something that is not as it should be, and what to do about it."""

    kind: Kind
    path: str
    what: str
    remedy: str
    count: int = 1
    """How many files or samples it is about."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.path}: {self.what}; {self.remedy}"


class Found(NamedTuple):
    """What a folder holds of a data set."""

    samples: tuple[Sample, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class Dataset:
    """A data set; functions are of a module, so that they can be pickled."""

    card: DatasetCard
    find: Callable[[Tree, Division], Found]
    """Tells by names what there is and what is missing; reads nothing but small lists."""
    open: Callable[[Path, Sample, OnError], Recording]
    """Returns the recording of a sample in the folder of the set.

    Raises FormatError, EventError or OSError where a file is damaged or gone, or does not fit another one.
    """


def list_digest(samples: Iterable[tuple[str, str]]) -> str:
    """Return the SHA-256 of a list of (split, name), in whatever order, as 64 hexadecimal digits."""
    lines = sorted(f"{split} {name}\n" for split, name in samples)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
