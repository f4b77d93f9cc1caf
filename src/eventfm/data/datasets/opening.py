"""A data set as a collection, which everything that reads recordings reads too, or as what is stored ready-made."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from eventfm.data.collection import Collection, Entry
from eventfm.data.datasets.card import Division
from eventfm.data.datasets.contract import Dataset, Found, Sample
from eventfm.data.datasets.layout import Tree, doubled, nothing_found
from eventfm.data.datasets.registry import DATASETS
from eventfm.data.table import CollectionError
from eventfm.events import Events, OnError
from eventfm.io.fingerprint import fingerprint
from eventfm.protocols import Recording, Track

if TYPE_CHECKING:
    from eventfm.data.ef_imagenet import EFImageNet
    from eventfm.data.trio import TrioSet

_KEPT_OPEN = 32
"""Recordings that a process keeps open or, of small files, in memory; there may be a million."""


class LazyRecording:
    """A sample that is opened when it is first read, and let go when many others have been read since.

    Sensor and format are known before, and that samples of recognition have no tracks; the number of events and their
    times are remembered from the first opening.
    """

    def __init__(self, dataset: Dataset, root: Path, sample: Sample, on_error: OnError) -> None:
        self._key = (dataset.opener(), root, sample, on_error)
        self.format = dataset.card.name
        self.sensor = dataset.card.sensor
        self._has_tracks = dataset.card.task != "recognition"

    @cached_property
    def num_events(self) -> int:
        """Number of events; the sample is opened for it."""
        return _opened(*self._key).num_events

    @cached_property
    def t_range(self) -> tuple[int, int]:
        """First and last event time, microseconds; the sample is opened for it."""
        return _opened(*self._key).t_range

    @property
    def fingerprint(self) -> str:
        """What tells the sample from others; it is opened for it."""
        return fingerprint(_opened(*self._key))

    @property
    def tracks(self) -> Mapping[str, Track]:
        """Its labels of pixels and its frames; the sample is opened for it where it can have some."""
        return _opened(*self._key).tracks if self._has_tracks else {}

    def events(self, t0: int, t1: int) -> Events:
        """Return the events of `[t0, t1)` in microseconds."""
        return _opened(*self._key).events(t0, t1)

    def events_by_index(self, start: int, stop: int) -> Events:
        """Return events `start` to `stop` (exclusive)."""
        return _opened(*self._key).events_by_index(start, stop)


@lru_cache(maxsize=_KEPT_OPEN)
def _opened(opener: Any, root: Path, sample: Sample, on_error: OnError) -> Recording:
    recording: Recording = opener(root, sample, on_error)
    return recording


class Located(NamedTuple):
    """A data set and the folder that holds it, looked through by names alone."""

    dataset: Dataset
    division: Division
    tree: Tree
    found: Found


def locate(name: str, path: str | os.PathLike[str], division: str | None = None) -> Located:
    """Return what the folder `path` holds of the data set `name`, split as `division` says, or as the card's first.

    Raises:
        UnknownNameError: No such data set.
        DatasetError: No such division, no such folder, or no sample in it; the message says what is there instead.
    """
    _opened.cache_clear()  # files may be others than when they were opened
    dataset: Dataset = DATASETS.get(name)
    chosen = dataset.card.division(division)
    tree = Tree.of(path)
    found = dataset.find(tree, chosen)
    if not found.samples:
        others = {one.name: len(dataset.find(tree, one).samples) for one in dataset.card.divisions if one != chosen}
        raise nothing_found(tree, dataset.card, {name: count for name, count in others.items() if count})
    by_name = {sample.name: sample for sample in reversed(found.samples)}
    twice = doubled((sample.name, sample.files[0]) for sample in found.samples)
    found = Found(tuple(by_name[name] for name in sorted(by_name)), (*found.problems, *twice))
    return Located(dataset, chosen, tree, found)


def open_dataset(
    name: str, path: str | os.PathLike[str], *, division: str | None = None, on_error: OnError = "raise"
) -> Collection:
    """Return the samples of a data set in the folder `path`, as it was downloaded, without opening them.

    A folder that holds a part of the set makes a collection of that part, with a warning.

    Args:
        name: A name of `registry.DATASETS`.
        path: Its folder.
        division: Who says which samples are for training, choosing and testing; the card's first if not given.
        on_error: As for `open_recording`.

    Raises:
        UnknownNameError: No such data set.
        DatasetError: It holds no recordings, or there is no such division, no such folder, or no sample in it.
    """
    dataset: Dataset = DATASETS.get(name)
    dataset.opener()  # before the folder is looked through
    located = locate(name, path, division)
    _, _, tree, found = located
    if found.problems:
        count = sum(problem.count for problem in found.problems)
        warnings.warn(
            f"{tree.root}: {count:,} problems with {dataset.card.title}, first {found.problems[0]}; "
            f"`eventfm datasets check {name} {tree.root}` lists them",
            stacklevel=2,
        )
    return collection_of(located, on_error)


def open_stored(name: str, path: str | os.PathLike[str], *, division: str | None = None) -> EFImageNet | TrioSet:
    """Return the data set `name`, which is stored ready-made, from the folder `path`.

    What is not whole is left out, with a warning.

    Raises:
        UnknownNameError: No such data set.
        DatasetError: No such division, no such folder, or no sample in it; the message says what is there instead.
        CollectionError: No sample is whole, or none can be read.
    """
    dataset: Dataset = DATASETS.get(name)
    assert dataset.stored is not None
    try:
        return dataset.stored(Path(path), dataset.card.division(division))
    except (CollectionError, OSError):
        locate(name, path, division)  # it says better than a reader what is wrong with another folder
        raise


def collection_of(located: Located, on_error: OnError = "raise") -> Collection:
    """Return the samples of a data set that was located, not opened."""
    dataset, _, tree, found = located
    entries = []
    for sample in found.samples:
        recording: Any = LazyRecording(dataset, tree.root, sample, on_error)
        entries.append(Entry(sample.name, recording, sample.label, sample.split, sample.fold))
    return Collection(tuple(entries), dataset.card.classes if dataset.card.task == "recognition" else ())
