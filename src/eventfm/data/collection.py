"""Collections: a file, a folder or a table of recordings, with labels, splits, folds and still pictures."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from eventfm.data.table import PICTURES, CollectionError, class_names, find_stills, read_table
from eventfm.events import OnError, Sensor
from eventfm.io import UnknownFormatError, detect_format, list_recordings, open_recording
from eventfm.io.fingerprint import fingerprint
from eventfm.io.store import opener
from eventfm.protocols import Recording

_SIDE_FILES = {".csv", ".md", ".yaml", ".yml", ".json", ".jsonl", ".py", ".html"}
"""Files that lie beside recordings: where they are none, that is not worth a warning."""
_STORES_KEPT = 32


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

    @cached_property
    def fingerprint(self) -> str:
        """What tells the recording from others (`eventfm.io.fingerprint`)."""
        return fingerprint(self.recording)


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
            CollectionError: Nothing is left, or `exclude_fold` would exclude nothing; the message says which splits
                and folds there are.
        """
        splits = sorted({entry.split for entry in self.entries if entry.split})
        folds = sorted({entry.fold for entry in self.entries if entry.fold is not None})
        there = f"there are splits {splits or 'none'} and folds {folds or 'none'}"
        # Excluding nothing by mistake would train on what is to be tested.
        if exclude_fold is not None and (exclude_fold not in folds or any(e.fold is None for e in self.entries)):
            raise CollectionError(f"cannot leave out fold {exclude_fold}: not every recording has a fold, or {there}")
        entries = tuple(
            entry
            for entry in self.entries
            if (split is None or entry.split == split)
            and (fold is None or entry.fold == fold)
            and (exclude_fold is None or entry.fold != exclude_fold)
        )
        if not entries:
            raise CollectionError(
                f"no recording is left with split={split}, fold={fold}, exclude_fold={exclude_fold}; {there}"
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
    """Return the recordings at `path`: one file, a store of many, or a folder (searched through, stores included).

    `labels` is a CSV with the columns `path` (relative to `path`, or an id where `path` is a store) and, each if
    wanted, `label`, `split`, `fold`; only its recordings are opened. `pictures` is a folder with one still for every
    recording, of the same name; or a column `picture` in the table says which, relative to that folder or else to
    the table. Where a file does not say its sensor size, the largest coordinate over the whole collection decides it.

    Raises:
        CollectionError: Nothing to read, the table names what is not there or is wrong, or a still is missing.
        FormatError: A file is damaged. In a folder, files of no known format are passed over with a warning.
    """
    root = Path(path)
    rows = read_table(Path(labels)) if labels is not None else [{"path": name} for name in _names(root, format)]
    if not rows:
        raise CollectionError(f"expected recordings in {root}, found none")
    classes = class_names(rows)
    numbers = {name: number for number, name in enumerate(classes)}
    stills = find_stills(rows, root, Path(pictures) if pictures is not None else None, labels)
    entries = []
    open_one = _opener(root, format, sensor, on_error)
    for row, still in zip(rows, stills, strict=True):
        try:
            recording = open_one(row["path"])
        except FileNotFoundError as error:
            where = f"the table {labels} names {row['path']!r}: " if labels is not None else ""
            raise CollectionError(f"{where}{error}") from error
        entries.append(
            Entry(
                name=row["path"],
                recording=recording,
                label=numbers[row["label"]] if row.get("label") else None,
                split=row.get("split") or "",
                fold=int(row["fold"]) if row.get("fold") else None,
                picture=still,
            )
        )
    return Collection(tuple(_one_sensor(entries, root, format, on_error)), classes)


def _opener(
    root: Path, format: str | None, sensor: Sensor | tuple[int, int] | None, on_error: OnError
) -> Callable[[str], Recording]:
    """Return what opens a recording by its name; a store is looked at once for all that follow each other in it."""
    size = sensor if isinstance(sensor, Sensor) or sensor is None else Sensor(*sensor)
    is_one_file = root.is_file()

    @lru_cache(maxsize=_STORES_KEPT)
    def of_store(file: str) -> Callable[[str], Recording] | None:
        path = root / file if file else root
        return opener(path, size, on_error) if path.is_file() else None

    def open_one(name: str) -> Recording:
        file, mark, identifier = name.rpartition("::")
        if is_one_file and name and not mark:
            mark = "::"
        # Topics of ROS begin with a slash, which ids of a store never have.
        in_store = mark and format in (None, "eventfm") and not identifier.startswith("/")
        open_id = of_store(file) if in_store else None
        if open_id is not None:
            return open_id(identifier)
        return open_recording(_locate(root, name), format=format, sensor=sensor, on_error=on_error)

    return open_one


def _one_sensor(entries: list[Entry], root: Path, format: str | None, on_error: OnError) -> list[Entry]:
    """Give recordings with an inferred sensor the size of the whole collection; refuse two known sizes."""
    known = {(e.recording.sensor.width, e.recording.sensor.height) for e in entries if not e.recording.sensor.inferred}
    if len(known) > 1:
        raise CollectionError(f"expected recordings of one sensor size in {root}, got {sorted(known)}; read them apart")
    guessed = [entry.recording.sensor for entry in entries if entry.recording.sensor.inferred]
    if not guessed:
        return entries
    if known:
        size = Sensor(*next(iter(known)))
    else:
        size = Sensor(max(s.width for s in guessed), max(s.height for s in guessed), inferred=True)

    def resized(entry: Entry) -> Entry:
        sensor = entry.recording.sensor
        if not sensor.inferred or (sensor.width, sensor.height) == (size.width, size.height):
            return entry
        again = open_recording(_locate(root, entry.name), format=format, sensor=size, on_error=on_error)
        return replace(entry, recording=again)

    return [resized(entry) for entry in entries]


def _names(root: Path, format: str | None) -> list[str]:
    if root.is_dir():
        return _names_in_folder(root, format)
    if not root.exists():
        if "::" not in str(root):
            raise CollectionError(f"{root} does not exist")
        return [""]
    return [f"::{name}" for name in _ids(root, format)] or [""]


def _ids(file: Path, format: str | None) -> list[str]:
    """Return the ids of the recordings in a store of many, none for any other file."""
    if (format or detect_format(file)) != "eventfm":
        return []
    return list_recordings(file)


def _names_in_folder(root: Path, format: str | None) -> list[str]:
    names, passed_over = [], []
    for path in _candidates(root):
        name = "" if path == root else str(path.relative_to(root))
        aside = path.suffix.lower() in _SIDE_FILES
        try:
            ids = [] if path.is_dir() else _ids(path, None if aside else format)
        except UnknownFormatError:
            passed_over += [] if aside else [name]
            continue
        names += [f"{name}::{inner}" for inner in ids] or [name]
    if passed_over:
        warnings.warn(
            f"{len(passed_over)} files of no known format in {root} were passed over, e.g. {passed_over[0]}",
            stacklevel=4,
        )
    return names


def _candidates(folder: Path) -> Iterator[Path]:
    """Yield, in order of name, what may be a recording: files, or folders of the Event Camera Dataset or ESS."""
    if any((folder / name).is_file() for name in ("events.txt", "events.dat.t")):
        yield folder
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() in PICTURES:
            continue
        if path.is_dir():
            yield from _candidates(path)
        else:
            yield path


def _locate(root: Path, name: str) -> Path | str:
    if name.startswith("::"):
        return f"{root}{name}"
    if root.is_file() and name:
        return f"{root}::{name}"
    return root / name if name else root


def labels_of(collection: Collection) -> np.ndarray:
    """Return the labels (N,) int64.

    Raises:
        CollectionError: Some recording has none.
    """
    missing = [entry.name for entry in collection.entries if entry.label is None]
    if missing:
        raise CollectionError(
            f"{len(missing)} of {len(collection.entries)} recordings have no label, e.g. {missing[0]!r}; "
            "give data.labels=TABLE.csv with the columns path,label, and a label in every row"
        )
    return np.array([entry.label for entry in collection.entries], np.int64)
