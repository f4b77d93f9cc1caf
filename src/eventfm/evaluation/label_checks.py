"""Labels that are tested on: told from others, read before anything is scored, numbered as a model numbers them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from eventfm.data.collection import Collection, Entry
from eventfm.data.table import CollectionError
from eventfm.data.targets import MAPS, VALID, labelled
from eventfm.data.windows import FLOW, FLOW_END, Window
from eventfm.protocols import Track

Windows = Iterable[tuple[int, Window]]


def labelled_digest(collection: Collection, wanted: tuple[str, ...], windows: Windows = ()) -> str:
    """Return 16 hexadecimal digits of recordings, of windows in them, and of labels of the kinds `wanted`.

    All labels are read, whether a window has them or not. Of the events it is what fingerprints are made of. `wanted`
    is of `targets.WANTED`.
    """
    digest = hashlib.sha256(json.dumps([list(item) for item in windows], default=int).encode())
    for entry in collection.entries:
        label = collection.classes[entry.label] if "label" in wanted and entry.label is not None else None
        values = [entry.name, entry.fingerprint, label, *_tracks(entry, wanted)]
        digest.update(json.dumps(values).encode())
    return digest.hexdigest()[:16]


def read_labels(collection: Collection, wanted: tuple[str, ...], windows: Windows, num_classes: int | None) -> None:
    """Read every label of pixels that `windows` are to be scored by, so that a wrong one is found before that.

    Raises:
        LabelError: One is of another size or kind, or of a class beyond the `num_classes` that there are.
    """
    for number, window in windows:
        for kind in MAPS:
            if kind in wanted:
                labelled(kind, collection.entries[number], window).read(num_classes)


def numbered_as(collection: Collection, classes: tuple[str, ...]) -> Collection:
    """Return the collection with the labels of recordings numbered by `classes`, those of a model.

    Raises:
        CollectionError: A recording is of another class.
    """
    of = [None if entry.label is None else collection.classes[entry.label] for entry in collection.entries]
    unknown = [n for n, label in enumerate(of) if label is not None and label not in classes]
    if unknown:
        raise CollectionError(
            f"{len(unknown)} of {len(of)} test recordings are of classes that the model does not have, e.g. "
            f"{collection.entries[unknown[0]].name!r} of {of[unknown[0]]!r}; it has {', '.join(classes)}"
        )
    numbers = [None if label is None else classes.index(label) for label in of]
    entries = (replace(entry, label=number) for entry, number in zip(collection.entries, numbers, strict=True))
    return replace(collection, entries=tuple(entries), classes=classes)


def _tracks(entry: Entry, wanted: tuple[str, ...]) -> list[Any]:
    """Return what stands for each track: its times and, of labels, its values and what its classes are called."""
    values = {*MAPS} & {*wanted} | ({VALID, FLOW_END} if FLOW in wanted else set())
    return [
        [name, _hash(track.times), list(getattr(track, "classes", ())), _values(track) if name in values else None]
        for name, track in sorted(entry.recording.tracks.items())
    ]


def _values(track: Track) -> list[str]:
    return [_hash(track.read(number)) for number in range(len(track.times))]


def _hash(values: Any) -> str:
    array = np.ascontiguousarray(values)
    return hashlib.sha256(f"{array.dtype} {array.shape}".encode() + array.tobytes()).hexdigest()
