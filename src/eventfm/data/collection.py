"""Collections: a file, a folder or a table of recordings, with labels, splits, folds and still pictures."""

from __future__ import annotations

import csv
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from eventfm.events import OnError, Sensor
from eventfm.io import FormatError, list_recordings, open_recording
from eventfm.protocols import Recording
from eventfm.registry import did_you_mean

PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
_SIDE_FILES = PICTURES | {".csv", ".md", ".yaml", ".yml", ".json", ".py", ".html"}


class CollectionError(ValueError):
    """Raised when a collection holds nothing to read, or its table does not fit it."""


@dataclass(frozen=True)
class Entry:
    """One recording of a collection; `name` is its path relative to the collection."""

    name: str
    recording: Recording
    label: int | None = None
    split: str = ""
    fold: int | None = None
    picture: Path | None = None
    """The one still picture that the recording shows, where there is one."""


@dataclass(frozen=True)
class Collection:
    """Recordings of one sensor size."""

    entries: tuple[Entry, ...]
    classes: tuple[str, ...] = ()
    """Name of each label, by number."""

    @property
    def sensor(self) -> Sensor:
        """The sensor that all recordings share."""
        return self.entries[0].recording.sensor

    def select(self, split: str | None = None, fold: int | None = None, exclude_fold: int | None = None) -> Collection:
        """Return the entries of `split`, of `fold`, or of every fold but `exclude_fold`.

        Raises:
            CollectionError: Nothing is left; the message says which splits and folds there are.
        """
        entries = tuple(
            entry
            for entry in self.entries
            if (split is None or entry.split == split)
            and (fold is None or entry.fold == fold)
            and (exclude_fold is None or entry.fold != exclude_fold)
        )
        if not entries:
            splits = sorted({entry.split for entry in self.entries if entry.split})
            folds = sorted({entry.fold for entry in self.entries if entry.fold is not None})
            raise CollectionError(
                f"no recording is left with split={split}, fold={fold}, exclude_fold={exclude_fold}; "
                f"there are splits {splits or 'none'} and folds {folds or 'none'}"
            )
        return replace(self, entries=entries)


def open_collection(
    path: str | Path,
    *,
    labels: str | Path | None = None,
    pictures: str | Path | None = None,
    format: str | None = None,
    sensor: Sensor | tuple[int, int] | None = None,
    on_error: OnError = "raise",
) -> Collection:
    """Return the recordings at `path`: one file, a store of many, or a folder (searched through).

    `labels` is a CSV with the columns `path` (relative to `path`) and, each if wanted, `label`, `split`, `fold`;
    only its recordings are opened. `pictures` is a folder whose pictures are named as the recordings, or a column
    `picture` in the table says which. Where a file does not say its sensor size, the largest coordinate over the
    whole collection decides it.

    Raises:
        CollectionError: Nothing to read, or the table names what is not there.
        FormatError: A file is of no known format.
    """
    root = Path(path)
    stills = _stills(Path(pictures)) if pictures is not None else {}
    rows = _read_table(Path(labels)) if labels is not None else [{"path": name} for name in _names(root)]
    if not rows:
        raise CollectionError(f"expected recordings in {root}, found none")
    classes = _class_names(rows)
    entries = []
    for row in rows:
        name = row["path"]
        recording = open_recording(_locate(root, name), format=format, sensor=sensor, on_error=on_error)
        still = Path(row["picture"]) if row.get("picture") else stills.get(Path(name).stem)
        entries.append(
            Entry(
                name=name,
                recording=recording,
                label=classes.index(row["label"]) if row.get("label") else None,
                split=row.get("split") or "",
                fold=int(row["fold"]) if row.get("fold") else None,
                picture=still,
            )
        )
    if stills and not any(entry.picture for entry in entries):
        raise CollectionError(f"no picture in {pictures} is named as one of the recordings in {root}")
    return Collection(tuple(_one_sensor(entries, root, format, on_error)), classes)


def _one_sensor(entries: list[Entry], root: Path, format: str | None, on_error: OnError) -> list[Entry]:
    """Give recordings with an inferred sensor the size of the whole collection; refuse two known sizes."""
    known = {(e.recording.sensor.width, e.recording.sensor.height) for e in entries if not e.recording.sensor.inferred}
    if len(known) > 1:
        raise CollectionError(f"expected recordings of one sensor size in {root}, got {sorted(known)}; read them apart")
    guessed = [entry for entry in entries if entry.recording.sensor.inferred]
    if not guessed:
        return entries
    if known:
        width, height = next(iter(known))
        size = Sensor(width, height)
    else:
        size = Sensor(
            max(entry.recording.sensor.width for entry in guessed),
            max(entry.recording.sensor.height for entry in guessed),
            inferred=True,
        )
    return [
        replace(entry, recording=open_recording(_locate(root, entry.name), format=format, sensor=size, on_error=on_error))
        if entry.recording.sensor.inferred and (entry.recording.sensor.width, entry.recording.sensor.height) != (size.width, size.height)
        else entry
        for entry in entries
    ]  # fmt: skip


def _names(root: Path) -> list[str]:
    if not root.exists() and "::" not in str(root):
        raise CollectionError(f"{root} does not exist")
    if root.is_dir():
        return _names_in_folder(root)
    ids = list_recordings(root) if "::" not in str(root) else []
    return [f"::{name}" for name in ids] or [""]


def _names_in_folder(root: Path) -> list[str]:
    if (root / "events.txt").exists():
        return [""]
    names, passed_over = [], []
    for file in sorted(root.rglob("*")):
        relative = file.relative_to(root)
        if file.is_dir():
            if (file / "events.txt").exists():
                names.append(str(relative))
            continue
        inside_recording = any((parent / "events.txt").exists() for parent in file.parents if parent != root.parent)
        if inside_recording or file.name.startswith(".") or file.suffix.lower() in _SIDE_FILES:
            continue
        names.append(str(relative))
    readable = []
    for name in names:
        if (root / name).is_dir() or _opens(root / name):
            readable.append(name)
        else:
            passed_over.append(name)
    if passed_over:
        warnings.warn(
            f"{len(passed_over)} files of no known format were passed over, e.g. {passed_over[0]}", stacklevel=4
        )
    return readable


def _opens(file: Path) -> bool:
    from eventfm.io import detect_format

    try:
        detect_format(file)
    except FormatError:
        return False
    return True


def _locate(root: Path, name: str) -> Path | str:
    if name.startswith("::"):
        return f"{root}{name}"
    if root.is_file() and name:
        return f"{root}::{name}"
    return root / name if name else root


def _read_table(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise CollectionError(f"cannot read the table {path}: {error}") from error
    if not rows or "path" not in rows[0]:
        found = ", ".join(rows[0]) if rows else "no rows"
        raise CollectionError(f"expected {path} to have the columns path,label,split,fold; found {found}")
    unknown = sorted(set(rows[0]) - {"path", "label", "split", "fold", "picture"})
    if unknown:
        raise CollectionError(
            f"{path}: unknown column {unknown[0]!r}{did_you_mean(unknown[0], ['path', 'label', 'split', 'fold', 'picture'])}"
        )
    for number, row in enumerate(rows, start=2):
        if row.get("fold") and not row["fold"].lstrip("-").isdigit():
            raise CollectionError(f"{path}, line {number}: expected a whole number as fold, got {row['fold']!r}")
    return rows


def _class_names(rows: list[dict[str, str]]) -> tuple[str, ...]:
    names = {row["label"] for row in rows if row.get("label")}
    numeric = all(name.lstrip("-").isdigit() for name in names)
    return tuple(sorted(names, key=int if numeric else None))


def _stills(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise CollectionError(f"expected a folder of pictures, got {folder}")
    return {file.stem: file for file in sorted(folder.rglob("*")) if file.suffix.lower() in PICTURES}


def labels_of(collection: Collection) -> np.ndarray:
    """Return the labels (N,) int64.

    Raises:
        CollectionError: Some recording has none.
    """
    missing = [entry.name for entry in collection.entries if entry.label is None]
    if missing:
        raise CollectionError(
            f"{len(missing)} of {len(collection.entries)} recordings have no label, e.g. {missing[0]!r}; "
            "give data.labels=TABLE.csv with the columns path,label"
        )
    return np.array([entry.label for entry in collection.entries], np.int64)
