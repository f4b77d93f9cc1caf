"""What is to be known of a public data set: plain values, from which tables and the documentation are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from eventfm.data.table import CollectionError
from eventfm.events import Sensor
from eventfm.registry import did_you_mean

Task = Literal["recognition", "segmentation", "flow", "depth", "pretraining"]
Source = Literal["official", "ours", "paper"]


class DatasetError(CollectionError):
    """Raised when a folder does not hold the data set that it is said to hold."""


@dataclass(frozen=True, kw_only=True)
class Division:
    """Which samples are learnt from, chosen by and tested on."""

    name: str
    source: Source
    """Who made it: the owners, eventfm where there is none of theirs, or the authors of a paper."""
    about: str
    counts: Mapping[str, int]
    """Samples of each split, as published."""
    maps: Mapping[str, int] = field(default_factory=dict)
    """Labelled maps of each split, as published, where samples are sequences."""
    sha256: str = ""
    """`list_digest` of all its samples; empty where their names cannot be known without the data."""


@dataclass(frozen=True, kw_only=True)
class DatasetCard:
    """The card of a data set."""

    name: str
    """What it is called on the command line: lower case, words joined by hyphens."""
    title: str
    task: Task
    sensor: Sensor
    """The pixels that samples are on: events and labels as they are read, after rectification and crops."""
    camera: str
    window: Mapping[str, object]
    """Settings of `data.window` under which a sample is what the set means by one."""
    units: str
    """Units and ranges of events and labels, as they are read."""
    licence: str
    citation: str
    home_page: str
    download: str
    """Which files to download, and how they are to be unpacked."""
    size_gb: float | None = None
    """What is to be downloaded, gigabytes; None where it is not known."""
    divisions: tuple[Division, ...]
    """The first is meant where none is named."""
    classes: tuple[str, ...] = ()
    """Names of the classes, by number; of recognition in the order that `table.class_names` gives them, so that a
    prepared copy numbers them alike."""
    colours: tuple[tuple[int, int, int], ...] = ()
    """Colour of each class in pictures, where the owners have some; red, green, blue from 0 to 255."""
    traps: tuple[str, ...] = ()
    """What is easily done wrong, and how eventfm does it."""

    def division(self, name: str | None = None) -> Division:
        """Return the division called `name`, the first if none is named.

        Raises:
            DatasetError: There is none of that name.
        """
        if name is None:
            return self.divisions[0]
        known = {division.name: division for division in self.divisions}
        if name not in known:
            raise DatasetError(f"{self.name} has no division {name!r}{did_you_mean(name, list(known))}")
        return known[name]
