"""What is known of the stores of a data set that are finished, in a hidden folder beside them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eventfm.data.datasets.card import DatasetError
from eventfm.data.manifest import TABLE
from eventfm.data.shards import write_text

NOTES = ".prepared"
"""The folder."""
_HEADER = "dataset.json"
_CALLED = {
    "num_bytes": "size of its files",
    "label": "label",
    "split": "split",
    "fold": "fold",
    "span": "stretch of its file",
}
"""What a row says of the source of a sample, in words."""


@dataclass(frozen=True)
class Note:
    """What is known of a store that is finished."""

    file: str
    num_bytes: int
    rows: list[dict[str, Any]]
    """Of each sample name, path in the table and number of events, and what `names_made` compares."""
    failed: dict[str, str]


def claim(out: Path, header: dict[str, str]) -> None:
    """Refuse a folder that holds something else.

    Raises:
        DatasetError: It does; the message says what.
    """
    note = out / NOTES / _HEADER
    if note.is_file():
        stored = _header_of(note, out)
        if stored != header:
            there, here = (" ".join(f"{key}={value}" for key, value in one.items()) for one in (stored, header))
            raise DatasetError(f"{out} holds {there} and not {here}; choose another folder, or delete that one")
        return
    for path in [*sorted(out.glob("samples-*.h5")), out / TABLE]:
        if path.exists():
            raise DatasetError(f"{path} is there already and was not made by this; choose another folder")
    write_text(note, [json.dumps(header)])


def _header_of(note: Path, out: Path) -> dict[str, str]:
    try:
        return dict(json.loads(note.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise DatasetError(
            f"{note} is damaged: nobody can tell what {out} holds; choose another folder, or delete that one"
        ) from None


def read_notes(out: Path) -> list[Note]:
    """Return the notes of the stores that are there, whole; what is half-done is removed."""
    notes = []
    for path in sorted((out / NOTES).glob("samples-*.json")):
        try:
            note = Note(**json.loads(path.read_text(encoding="utf-8")))
            size = (out / note.file).stat().st_size if note.rows else 0
        except (OSError, ValueError, TypeError):
            continue
        if size == note.num_bytes:
            notes.append(note)
    known = {note.file for note in notes}
    for left in [*out.glob("samples-*.h5"), *out.glob(".samples-*.part"), *(out / NOTES).glob("*.now")]:
        if left.name not in known:
            left.unlink()
    return notes


def without_failures(out: Path, notes: list[Note]) -> list[Note]:
    """Return the notes of stores that hold something; those of samples that failed alone, which are tried again, go."""
    for note in notes:
        if not note.rows:
            (out / NOTES / f"{Path(note.file).stem}.json").unlink()
    return [note for note in notes if note.rows]


def names_made(notes: list[Note], now: Iterable[tuple[str, Mapping[str, Any]]], out: Path) -> set[str]:
    """Return the names of the samples that earlier runs made.

    `now` has for each sample that there is its name, and what a row would say of its source: one that says something
    else has changed.

    Raises:
        DatasetError: A sample has changed since it was made.
    """
    made = {row["name"]: row for note in notes for row in note.rows}
    changed: dict[str, list[str]] = {}
    for name, source in now:
        row = made.get(name, source)
        for key, value in source.items():
            if row.get(key, value) != value:
                changed.setdefault(key, []).append(name)
    if changed:
        said = "; ".join(f"another {_CALLED[key]}: {len(names)}, e.g. {names[0]}" for key, names in changed.items())
        raise DatasetError(f"samples in {out} are not what the source has now ({said}); prepare into another folder")
    return set(made)


def write_note(out: Path, note: Note) -> None:
    """Write what is known of a store that is finished, and forget which sample was being read."""
    write_text(out / NOTES / f"{Path(note.file).stem}.json", [json.dumps(asdict(note))])
    pointer(out, note.file).unlink(missing_ok=True)


def pointer(out: Path, file: str) -> Path:
    """Return the file that says which sample of a store is being read."""
    return out / NOTES / f"{Path(file).stem}.now"
