"""What a data set offers: samples by the names of files, and the recording of each, or all of them ready-made."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from numpy.typing import NDArray

from eventfm.data.datasets.card import DatasetCard, DatasetError, Division
from eventfm.events import OnError
from eventfm.protocols import Recording

if TYPE_CHECKING:
    from eventfm.data.datasets.layout import Tree
    from eventfm.data.ef_imagenet import EFImageNet
    from eventfm.data.problems import UnreadableError
    from eventfm.data.trio import TrioSet

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
    picture_size: tuple[int, int] | None = None
    """Height and width of the picture that it was made from, where its pixels are placed by them."""


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


class Part(NamedTuple):
    """What one file of a sample that is stored ready-made holds."""

    kind: str
    """What it is to the sample, e.g. `volume` or `target`."""
    file: str
    """Relative to the folder of the set."""
    values: NDArray[Any] | UnreadableError
    """Its numbers, or why they are not what those who train on them demand."""


@dataclass(frozen=True)
class Dataset:
    """A data set of recordings (`open`) or of samples that are stored ready-made (`stored`, `parts`).

    Functions are of a module, so that they can be pickled.
    """

    card: DatasetCard
    find: Callable[[Tree, Division], Found]
    """Tells by names what there is and what is missing; reads nothing but small lists."""
    open: Callable[[Path, Sample, OnError], Recording] | None = None
    """Returns the recording of a sample in the folder of the set.

    Raises FormatError, EventError or OSError where a file is damaged or gone, or does not fit another one.
    """
    stored: Callable[[Path, Division], EFImageNet | TrioSet] | None = None
    """Returns all that the folder of the set holds, for training; what is not whole is left out with a warning.

    Raises CollectionError or OSError where nothing is whole, or nothing can be read.
    """
    parts: Callable[[Any, Sample], Iterator[Part]] | None = None
    """Reads all files of a sample of what `stored` returned, the kinds by turns."""

    def __post_init__(self) -> None:
        if (self.open is None) == (self.stored is None) or (self.stored is None) != (self.parts is None):
            raise ValueError(f"expected open, or stored and parts, of the data set {self.card.name}")

    def opener(self) -> Callable[[Path, Sample, OnError], Recording]:
        """Return `open`.

        Raises:
            DatasetError: There are no recordings.
        """
        if self.open is None:
            raise DatasetError(
                f"{self.card.title} is stored ready-made and holds no recordings: nothing is to be prepared, and "
                f"pretraining reads it as it is, with data=FOLDER data.dataset={self.card.name}"
            )
        return self.open


def list_digest(samples: Iterable[tuple[str, str]]) -> str:
    """Return the SHA-256 of a list of (split, name), in whatever order, as 64 hexadecimal digits."""
    lines = sorted(f"{split} {name}\n" for split, name in samples)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
