"""The table of a collection, and the still pictures that belong to its recordings."""

from __future__ import annotations

import csv
from pathlib import Path

from eventfm.registry import did_you_mean
from eventfm.simulation import frame_folder

PICTURES = frame_folder.PICTURES
COLUMNS = ("path", "label", "split", "fold", "picture")


class CollectionError(ValueError):
    """Raised when a collection holds nothing to read, or its table does not fit it."""


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV with the columns `path` and, each if wanted, `label`, `split`, `fold`, `picture`.

    Raises:
        CollectionError: It cannot be read, has other columns, or a row that makes no sense; the message names the line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restkey="", restval="")
            found = list(reader.fieldnames or [])
            rows = [{key: str(value).strip() for key, value in row.items()} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CollectionError(f"cannot read the table {path}: {error}") from error
    if not rows or "path" not in found:
        raise CollectionError(
            f"expected {path} to have the columns path,label,split,fold and a row for every recording; "
            f"found {len(rows)} rows, columns {', '.join(found) or 'none'}"
        )
    if unknown := sorted(set(found) - set(COLUMNS)):
        raise CollectionError(f"{path}: unknown column {unknown[0]!r}{did_you_mean(unknown[0], list(COLUMNS))}")
    lines: dict[str, int] = {}
    for line, row in enumerate(rows, start=2):
        if "" in row or not row["path"]:
            raise CollectionError(f"{path}, line {line}: expected a path and no more than {len(found)} cells")
        if row["path"] in lines:
            raise CollectionError(f"{path}, line {line}: {row['path']!r} is on line {lines[row['path']]} already")
        lines[row["path"]] = line
        if row.get("fold") and not _is_whole(row["fold"]):
            raise CollectionError(f"{path}, line {line}: expected a whole number as fold, got {row['fold']!r}")
    return rows


def class_names(rows: list[dict[str, str]]) -> tuple[str, ...]:
    """Return the labels that occur, in order: by value where all are whole numbers, else by name."""
    names = {row["label"] for row in rows if row.get("label")}
    if all(map(_is_whole, names)):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def find_stills(
    rows: list[dict[str, str]], root: Path, folder: Path | None, table: str | Path | None
) -> list[Path | None]:
    """Return the still of each recording: the one that its row names, else the one of its name in `folder`.

    Raises:
        CollectionError: A still is not there, or several pictures have its name.
    """
    if folder is not None and not folder.is_dir():
        raise CollectionError(f"expected a folder of pictures, got {folder}")
    named: dict[str, list[Path]] = {}
    for file in sorted(folder.rglob("*")) if folder is not None else []:
        if file.suffix.lower() in PICTURES:
            # By its path in the folder, and by its bare name where that is enough to tell it.
            for key in {str(file.relative_to(folder or "").with_suffix("")), file.stem}:
                named.setdefault(key, []).append(file)
    stills: list[Path | None] = []
    for row in rows:
        if row.get("picture"):
            base = folder or Path(table or "").parent
            still = base / row["picture"]
            if not still.is_file():
                raise CollectionError(f"the table {table} names the picture {row['picture']!r}, not found in {base}")
            stills.append(still)
            continue
        if folder is None:
            stills.append(None)
            continue
        inner = row["path"].rpartition("::")[2] or root.name
        keys = (inner, str(Path(inner).with_suffix("")), Path(inner).name, Path(inner).stem)
        fits = next((named[key] for key in keys if key in named), [])
        if len(fits) != 1:
            raise CollectionError(
                f"expected one picture in {folder} of the name of {inner!r}, got {[str(f) for f in fits] or 'none'}"
            )
        stills.append(fits[0])
    return stills


def _is_whole(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit()
