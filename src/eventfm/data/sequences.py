"""Recordings wherever they are: sequences of DSEC and M3ED as they were published, or files of any known format."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from eventfm.data import dsec_sequence, m3ed_sequence
from eventfm.data.collection import Collection, Entry, open_collection
from eventfm.data.table import CollectionError, class_names, read_table
from eventfm.events import OnError, Sensor
from eventfm.io import open_recording
from eventfm.protocols import Recording


class _Kind(NamedTuple):
    """A data set whose sequences are more than a file of events."""

    find: Callable[[Path], tuple[str, ...]]
    open: Callable[[Path, OnError], Recording]


_KINDS = {
    "DSEC": _Kind(dsec_sequence.find_sequences, dsec_sequence.open_sequence),
    "M3ED": _Kind(m3ed_sequence.find_sequences, m3ed_sequence.open_sequence),
}


class Sequences(NamedTuple):
    """Sequences of one data set, not opened yet."""

    data_set: str
    root: Path
    names: tuple[str, ...]
    """Relative to `root`; it may be one sequence itself, whose name is empty."""

    def open(self, name: str, on_error: OnError) -> Recording:
        """Return a sequence, its frames warped to the event camera.

        Raises:
            CalibrationError: A calibration is missing, or does not fit.
            FormatError: Times are missing or do not fit the frames, or the events are damaged.
        """
        return _KINDS[self.data_set].open(self.root / name, on_error)


def find_sequences(path: str | os.PathLike[str]) -> Sequences | None:
    """Return the sequences of DSEC or M3ED at `path`: it may be one, or a folder of them.

    Raises:
        CollectionError: There are some of both.
    """
    root = Path(path)
    found = [Sequences(name, root, names) for name, kind in _KINDS.items() if (names := kind.find(root))]
    if len(found) > 1:
        raise CollectionError(
            f"{root} holds sequences of {' and of '.join(f.data_set for f in found)}; read them apart"
        )
    return found[0] if found else None


def open_recordings(
    path: str | os.PathLike[str],
    *,
    labels: str | Path | None = None,
    pictures: str | Path | None = None,
    format: str | None = None,
    sensor: Sensor | tuple[int, int] | None = None,
    on_error: OnError = "raise",
) -> Collection:
    """Return the recordings at `path`: sequences of DSEC or M3ED, or whatever `open_collection` finds.

    Of sequences, `labels` names those that are opened, and `pictures`, `format` and `sensor` are refused.

    Raises:
        CollectionError: Nothing to read, or a table or hints that do not fit what is there.
        CalibrationError: A sequence lacks what its frames are warped by; the message says what to download.
        FormatError: A file is damaged, or frames have no times or such as do not fit.
    """
    found = find_sequences(path)
    if found is None:
        return open_collection(
            Path(path), labels=labels, pictures=pictures, format=format, sensor=sensor, on_error=on_error
        )
    _refuse(found, images=pictures, format=format, sensor=sensor)
    rows = read_table(Path(labels)) if labels is not None else [{"path": name} for name in found.names]
    if strangers := [row["path"] for row in rows if row["path"] not in found.names]:
        raise CollectionError(
            f"the table {labels} names {strangers[0]!r}, and the sequences of {found.data_set} in {path} are "
            f"{', '.join(found.names)}"
        )
    if any(row.get("picture") for row in rows):
        raise CollectionError(f"{labels}: sequences of {found.data_set} have frames; leave the column picture out")
    classes = class_names(rows)
    entries = tuple(
        Entry(
            row["path"],
            found.open(row["path"], on_error),
            classes.index(row["label"]) if row.get("label") else None,
            row.get("split") or "",
            int(row["fold"]) if row.get("fold") else None,
        )
        for row in rows
    )
    if len(sizes := sorted({(e.recording.sensor.width, e.recording.sensor.height) for e in entries})) > 1:
        raise CollectionError(f"expected sequences of one sensor size in {path}, got {sizes}; read them apart")
    return Collection(entries, classes)


def open_one(
    path: str | os.PathLike[str],
    format: str | None = None,
    sensor: Sensor | tuple[int, int] | None = None,
    on_error: OnError = "raise",
) -> Recording:
    """Return the one recording at `path`: a sequence of DSEC or M3ED, or whatever `open_recording` reads.

    Raises:
        CollectionError: There are several sequences, or hints for one.
        CalibrationError: A sequence lacks what its frames are warped by.
        FormatError: The file is of no known format, or damaged.
    """
    found = find_sequences(path)
    if found is None:
        return open_recording(path, format, sensor, on_error)
    _refuse(found, format=format, sensor=sensor)
    if len(found.names) > 1:
        raise CollectionError(
            f"{path} holds {len(found.names)} sequences of {found.data_set}; give one, e.g. "
            f"{found.root / found.names[0]}"
        )
    return found.open(found.names[0], on_error)


def _refuse(found: Sequences, **hints: object) -> None:
    for name, value in hints.items():
        if value is not None:
            raise CollectionError(
                f"{found.root} holds sequences of {found.data_set}, which say that themselves; leave {name} out"
            )
