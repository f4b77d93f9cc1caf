"""What is known of the stores of a data set that are finished, in a hidden folder beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eventfm.data.datasets.card import DatasetError
from eventfm.data.manifest import TABLE
from eventfm.data.shards import write_text

NOTES = ".prepared"
"""The folder."""
_HEADER = "dataset.json"


@dataclass(frozen=True)
class Note:
    """What is known of a store that is finished."""

    file: str
    num_bytes: int
    rows: list[dict[str, Any]]
    """Name, path in the table, label, split, fold, events and bytes of the source of each sample."""
    failed: dict[str, str]


def claim(out: Path, header: dict[str, str]) -> None:
    """Refuse a folder that holds something else.

    Raises:
        DatasetError: It does; the message says what.
    """
    note = out / NOTES / _HEADER
    if note.is_file():
        stored = json.loads(note.read_text(encoding="utf-8"))
        if stored != header:
            there, here = (" ".join(f"{key}={value}" for key, value in one.items()) for one in (stored, header))
            raise DatasetError(f"{out} holds {there} and not {here}; choose another folder, or delete that one")
        return
    for path in [*sorted(out.glob("samples-*.h5")), out / TABLE]:
        if path.exists():
            raise DatasetError(f"{path} is there already and was not made by this; choose another folder")
    write_text(note, [json.dumps(header)])


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


def names_made(notes: list[Note], sizes: Mapping[str, int], out: Path) -> set[str]:
    """Return the names of the samples that earlier runs made.

    Raises:
        DatasetError: A file that one was made from has another size now.
    """
    made = {row["name"]: row["num_bytes"] for note in notes for row in note.rows}
    changed = [name for name, num_bytes in made.items() if sizes.get(name, num_bytes) != num_bytes]
    if changed:
        raise DatasetError(
            f"{len(changed)} samples in {out} were prepared from files of another size, e.g. {changed[0]}; prepare "
            "into another folder"
        )
    return set(made)


def write_note(out: Path, note: Note) -> None:
    """Write what is known of a store that is finished, and forget which sample was being read."""
    write_text(out / NOTES / f"{Path(note.file).stem}.json", [json.dumps(asdict(note))])
    pointer(out, note.file).unlink(missing_ok=True)


def pointer(out: Path, file: str) -> Path:
    """Return the file that says which sample of a store is being read."""
    return out / NOTES / f"{Path(file).stem}.now"
