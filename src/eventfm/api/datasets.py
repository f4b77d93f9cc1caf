"""`datasets` and `prepare dataset`: public data sets as their owners publish them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eventfm.api.progress import counted
from eventfm.data.datasets.card import DatasetCard, DatasetError
from eventfm.data.datasets.checking import Report, check
from eventfm.data.datasets.contract import Dataset
from eventfm.data.datasets.opening import Located, collection_of, locate
from eventfm.data.datasets.page import cards
from eventfm.data.datasets.registry import DATASETS
from eventfm.data.datasets.storing import Stored, store_dataset
from eventfm.data.pool import num_cores, run_here, run_in_processes, run_on_ray
from eventfm.data.problems import UnreadableError
from eventfm.data.targets import MAPS, NOT_LABELLED, Labelled, MapKind
from eventfm.data.windows import WindowConfig, cut, read
from eventfm.events import OnError
from eventfm.protocols import Recording
from eventfm.registry import require
from eventfm.visualization.dense import depth_map, signed_map
from eventfm.visualization.events import event_picture
from eventfm.visualization.files import save_picture
from eventfm.visualization.flow import flow_picture
from eventfm.visualization.masks import UNLABELLED_COLOUR, class_colours
from eventfm.visualization.panel import panel

log = logging.getLogger(__name__)

Picture = NDArray[np.uint8]
_PICTURED = 12
"""Samples on a contact sheet, from the first to the last."""
_BESIDE = 4
_NAMED_AT_MOST = 20


def list_datasets() -> list[DatasetCard]:
    """Return the cards of all data sets, by task and name."""
    return cards()


def show_dataset(name: str) -> DatasetCard:
    """Return the card of a data set.

    Raises:
        UnknownNameError: No such data set.
    """
    dataset: Dataset = DATASETS.get(name)
    return dataset.card


def check_dataset(
    name: str,
    path: str | os.PathLike[str],
    *,
    division: str | None = None,
    looks: int | None = 1000,
    png: str | os.PathLike[str] | None = None,
    quiet: bool = True,
) -> Report:
    """Return what is there of a data set in a folder, what is missing, and what is not as it was published.

    Args:
        name: A name of `list_datasets`.
        path: Its folder, as it was downloaded and unpacked.
        division: Whose splits; the card's first if not given.
        looks: How many samples are opened, from the first to the last; None opens all.
        png: Where to draw samples with their labels.
        quiet: Whether to show no progress.

    Raises:
        UnknownNameError: No such data set.
        DatasetError: No such division, no such folder, or no sample in it; or none that can be drawn.
    """
    located = locate(name, path, division)
    count = len(located.found.samples)
    with counted("checking", count if looks is None else min(looks, count), quiet) as progress:
        report = check(located, looks, progress)
    if png is not None:
        save_picture(Path(png), contact_sheet(located))
    return report


def prepare_dataset(
    name: str,
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    division: str | None = None,
    on_error: OnError = "raise",
    workers: int | Literal["auto"] = "auto",
    ray: str | None = None,
    quiet: bool = False,
) -> Stored:
    """Write a data set as native stores with `labels.csv`, which `data=OUT data.labels=OUT/labels.csv` then reads.

    Called again, it goes on: what was prepared is kept, what is new or failed is tried. A run that was killed loses
    the stores that its processes were writing, of 2,000 samples or 128 MiB at most. Samples of at most 262,144 events
    and without tracks lie side by side in their store (`data.datasets.storing.PACKED_EVENTS`).

    Args:
        name: A name of `list_datasets`.
        path: Its folder, as it was downloaded and unpacked.
        out: Folder to write to.
        division: Whose splits the table has; the card's first if not given.
        on_error: What to do with time that goes backwards and events outside the sensor.
        workers: Processes; 0 works in this one.
        ray: Address of a Ray cluster to work on instead, or `auto`.
        quiet: Whether to show no progress.

    Raises:
        UnknownNameError: No such data set.
        DatasetError: Nothing to prepare, the set is stored ready-made, or `out` holds something else.
        WriteError: The system refused to write; what is finished stays.
        MissingExtraError: Ray is asked for and not installed.
    """
    if ray is not None:
        require("ray", "corpora")
        run: Any = partial(run_on_ray, address=ray)
    elif workers == 0:
        run = run_here
    else:
        run = partial(run_in_processes, num_workers=num_cores() if workers == "auto" else workers)
    dataset: Dataset = DATASETS.get(name)
    dataset.opener()  # before the folder is looked through
    located = locate(name, path, division)
    with counted("preparing", len(located.found.samples), quiet) as progress:
        made = store_dataset(located, out, run, on_error, progress)
    for about, why in list(made.failed.items())[:_NAMED_AT_MOST]:
        log.error("%s: %s", about, why)
    if len(made.failed) > _NAMED_AT_MOST:
        log.error("... and %d more samples", len(made.failed) - _NAMED_AT_MOST)
    return made


def contact_sheet(located: Located) -> Picture:
    """Return samples of a data set with their labels, from the first to the last, as one picture (H, W, 3) uint8.

    Raises:
        DatasetError: Not one of them can be read.
    """
    draw = _recorded(located) if located.dataset.stored is None else _ready_made(located)
    samples = located.found.samples
    count = min(_PICTURED, len(samples))
    cells: list[list[tuple[str, Picture]]] = []
    for place in np.unique(np.linspace(0, len(samples) - 1, count).astype(int)).tolist():
        try:
            cells.append(draw(place))
        except (ValueError, OSError) as error:
            log.error("%s: %s", samples[place].name, error)
    if not cells:
        raise DatasetError(f"not one of {count} samples of {located.dataset.card.title} could be read")
    if any(len(cell) > 1 for cell in cells):
        return panel(cells)
    flat = [cell[0] for cell in cells]
    return panel([flat[start : start + _BESIDE] for start in range(0, len(flat), _BESIDE)])


def _recorded(located: Located) -> Callable[[int], list[tuple[str, Picture]]]:
    """Return what draws a recording, by number, and what it is labelled with."""
    card, entries = located.dataset.card, collection_of(located).entries

    def draw(place: int) -> list[tuple[str, Picture]]:
        entry = entries[place]
        label = entry.name if entry.label is None else f"{card.classes[entry.label]} ({entry.name})"
        return _cell(card, label, entry.recording)

    return draw


def _ready_made(located: Located) -> Callable[[int], list[tuple[str, Picture]]]:
    """Return what draws the first volume of a sample that is stored ready-made, by number, and what belongs to it."""
    dataset = located.dataset
    assert dataset.stored is not None
    assert dataset.parts is not None
    read, stored = dataset.parts, dataset.stored(located.tree.root, located.division)

    def draw(place: int) -> list[tuple[str, Picture]]:
        sample = located.found.samples[place]
        cell: dict[str, Picture] = {}
        for part in read(stored, sample):
            if part.kind in cell or part.kind == "tokens":
                break
            if isinstance(part.values, UnreadableError):
                raise part.values
            cell[part.kind] = _stored_picture(part.values)
        return [(kind if number else sample.name, picture) for number, (kind, picture) in enumerate(cell.items())]

    return draw


def _stored_picture(values: NDArray[Any]) -> Picture:
    """Return a stored picture (H, W, 3) as it is, with 8 bits, and the sum of a volume (B, H, W) over its bins."""
    if values.dtype == np.uint16:
        return (values >> 8).astype(np.uint8)
    return values if values.dtype == np.uint8 else signed_map(values.sum(axis=0))


def _cell(card: DatasetCard, label: str, recording: Recording) -> list[tuple[str, Picture]]:
    """Return the events of one window of a recording, from its middle, and what it is labelled with beside it."""
    windows = cut(recording, WindowConfig.model_validate(card.window))
    if not windows:
        raise DatasetError("no window in it")
    window = windows[len(windows) // 2]
    kind = next((kind for kind in MAPS if kind in recording.tracks), None)
    cell = [(label, event_picture(read(recording, window)))]
    if kind is not None and window.entry is not None:
        values = Labelled(kind, recording, window.entry, label).read(len(card.classes) or None)
        cell.append((kind, _picture(kind, values, card)))
    elif window.frames is not None:
        cell.append(("frame", _stored_picture(recording.tracks["frames"].read(window.frames[0]))))
    return cell


def _picture(kind: MapKind, values: NDArray[Any], card: DatasetCard) -> Picture:
    if kind == "flow":
        return flow_picture(values)
    if kind == "depth":
        return depth_map(values)
    table = np.full((NOT_LABELLED + 1, 3), UNLABELLED_COLOUR, np.uint8)
    table[: len(card.classes)] = card.colours or class_colours(card.classes)
    return np.asarray(table[values])
