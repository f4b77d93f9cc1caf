"""Folders as public data sets come: as many small files as they have, in folders of classes, hard links to a few."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventfm.data.datasets.registry import DATASETS
from eventfm.events import Events, Sensor
from eventfm.random import generator

ORIGINALS = 64
"""Files that the others are links to; file systems allow some tens of thousands of links to one."""
_DURATION_US = 300_000
_EDGES = 6


class Kind(NamedTuple):
    """How a data set names its files, what is in one, and how a plain program reads it."""

    num_events: int
    """Of a sample, unless another number is asked for."""
    paths: Callable[[], Iterator[str]]
    write: Callable[[Path, Events], None]
    load: Callable[[Path], Any]


def make_folder(kind: Kind, sensor: Sensor, root: Path, count: int, num_events: int) -> list[Path]:
    """Return `count` files of samples below `root`, of which `ORIGINALS` are different, in the order of their names."""
    originals = root.with_name(f"{root.name}-originals")
    originals.mkdir(parents=True)
    for number in range(min(ORIGINALS, count)):
        kind.write(originals / str(number), drawn(number, sensor, num_events))
    files = []
    for number, path in enumerate(itertools.islice(kind.paths(), count)):
        file, original = root / path, originals / str(number % ORIGINALS)
        if not file.parent.exists():
            file.parent.mkdir(parents=True)
        try:
            os.link(original, file)
        except OSError:  # a file system without links
            shutil.copy(original, file)
        files.append(file)
    return sorted(files)


def drawn(number: int, sensor: Sensor, num_events: int) -> Events:
    """Return events on edges that drift over the sensor, half to one and a half times `num_events` of them."""
    rng = generator(0, "dataset throughput", number)
    count = max(1, int(num_events * rng.uniform(0.5, 1.5)))
    t = np.sort(rng.integers(0, _DURATION_US, count))
    edge = rng.integers(0, _EDGES, count)
    start, speed = (rng.uniform(0, sensor.width, _EDGES) for _ in range(2))
    x = (start[edge] + speed[edge] * t / _DURATION_US + rng.normal(0, 1, count)) % sensor.width
    y = rng.integers(0, sensor.height, count)
    return Events.checked(x.astype(np.uint16), y.astype(np.uint16), t, edge % 2, sensor)


def _write_atis(path: Path, events: Events) -> None:
    """Write rows of 40 bits: x, y, then polarity and 23 bits of time, big-endian."""
    last = (events.p.astype(np.uint32) << 23) | events.t.astype(np.uint32)
    rows = np.stack([events.x, events.y, last >> 16, (last >> 8) & 255, last & 255], axis=1).astype(np.uint8)
    path.write_bytes(rows.tobytes())


def _load_atis(path: Path) -> NDArray[np.uint8]:
    return np.fromfile(path, np.uint8)


def _write_npz(path: Path, events: Events) -> None:
    """Write a compressed archive with the one array `event_data`, as N-ImageNet has them."""
    table = np.empty(len(events), [("x", "<u2"), ("y", "<u2"), ("t", "<i8"), ("p", "?")])
    for name in "xytp":
        table[name] = getattr(events, name)
    with path.open("wb") as file:
        np.savez_compressed(file, event_data=table)


def _load_npz(path: Path) -> NDArray[np.void]:
    with np.load(path) as archive:
        return np.asarray(archive["event_data"])


def _nmnist_paths() -> Iterator[str]:
    for number in range(1, 60_001):
        yield f"Train/{number % 10}/{number:05d}.bin"
    for number in range(1, 10_001):
        yield f"Test/{number % 10}/{number:05d}.bin"


def _ncaltech101_paths() -> Iterator[str]:
    """Every class in turn; beyond the size of the smallest, classes are larger than they are."""
    kinds = DATASETS.get("n-caltech101").card.classes
    for number, kind in itertools.product(range(1, 10_000), kinds):
        yield f"Caltech101/{kind}/image_{number:04d}.bin"


def _nimagenet_paths() -> Iterator[str]:
    """Folders of training and validation, 26 to 1 as in the data set, with a folder for each class."""
    kinds = DATASETS.get("n-imagenet").card.classes
    for number in range(1, 1301):
        split = "val" if number % 27 == 0 else "train"
        for kind in kinds:
            yield f"extracted_{split}/{kind}/{kind}_{number}.npz"


KINDS = {
    "n-mnist": Kind(4_000, _nmnist_paths, _write_atis, _load_atis),
    "n-caltech101": Kind(100_000, _ncaltech101_paths, _write_atis, _load_atis),
    "n-imagenet": Kind(100_000, _nimagenet_paths, _write_npz, _load_npz),
}
"""By the name of the data set."""
