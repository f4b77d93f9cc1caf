"""The manifest of a corpus: a text file from which every clip can be made again, bit for bit."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from eventfm import __version__
from eventfm.data.clips import CorpusConfig, Entry
from eventfm.data.table import COLUMNS, CollectionError

MANIFEST = "manifest.jsonl"
TABLE = "labels.csv"
_HEADER = "corpus"


@dataclass(frozen=True)
class Header:
    """What holds for all clips of a corpus: the first line of its manifest."""

    eventfm: str
    kind: str
    root: str
    """Folder that the sources were in; they may have moved since."""
    num_clips: int
    entries: str
    """Hash of the names and sources of all clips."""
    config: dict[str, Any]
    made_with: dict[str, str]
    """Versions of the libraries whose arithmetic a clip depends on."""

    @property
    def digest(self) -> str:
        """Hash of all that decides what the clips are."""
        decisive = {k: v for k, v in asdict(self).items() if k not in ("root", "made_with")}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def header_of(kind: str, root: Path, entries: list[Entry], config: CorpusConfig) -> Header:
    """Return the header of a corpus that is to be made."""
    listed = hashlib.sha256()
    for e in entries:
        listed.update(json.dumps([e.name, e.source, e.clip, e.label, e.split]).encode())
    return Header(
        eventfm=__version__,
        kind=kind,
        root=str(root.resolve()),
        num_clips=len(entries),
        entries=listed.hexdigest(),
        config=config.model_dump(mode="json"),
        made_with=_versions(),
    )


def other_versions(header: Header) -> list[str]:
    """Return in words what was of another version when a corpus was made: its clips may differ in a few bits."""
    then, now = ({"eventfm": v, **w} for v, w in ((header.eventfm, header.made_with), (__version__, _versions())))
    return [f"{name} {then[name]} then, {now.get(name)} now" for name in then if then[name] != now.get(name)]


def difference(stored: Header, wanted: Header) -> str:
    """Return in words in what two headers differ."""
    for name in ("eventfm", "kind"):
        if getattr(stored, name) != getattr(wanted, name):
            return f"{name} is {getattr(stored, name)} there and {getattr(wanted, name)} here"
    there, here = _flat(stored.config), _flat(wanted.config)
    parts = [f"{key} is {there.get(key)} there and {here.get(key)} here" for key in {**there, **here}]
    differing = [part for part, key in zip(parts, {**there, **here}, strict=True) if there.get(key) != here.get(key)]
    if differing:
        return "; ".join(differing[:3])
    return f"the sources are others: {stored.num_clips} clips there, {wanted.num_clips} here, or other names"


def manifest_lines(header: Header, clips: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of a manifest: the header, then one for each clip."""
    yield json.dumps({_HEADER: asdict(header)}) + "\n"
    for clip in clips:
        yield json.dumps(clip) + "\n"


def is_manifest(path: Path) -> bool:
    """Return whether a file begins as a manifest does."""
    with path.open("rb") as file:
        return file.read(len(_HEADER) + 4).startswith(f'{{"{_HEADER}"'.encode())


def read_manifest(path: Path) -> tuple[Header, CorpusConfig, list[Entry]]:
    """Return header, config and clips of a manifest; each clip knows the hash that its source must have.

    Raises:
        CollectionError: It is no manifest, or damaged; the message names the line.
    """
    with path.open(encoding="utf-8") as file:
        lines = file.read().splitlines()
    entries: list[Entry] = []
    try:
        header = Header(**json.loads(lines[0])[_HEADER])
        for line in lines[1:]:
            values = json.loads(line)
            names = ("name", "source", "clip", "label", "split")
            entries.append(Entry(**{name: values[name] for name in names}, sha256=values.get("sha256", "")))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        line_number = len(entries) + 2 if entries else "1 or 2"
        raise CollectionError(f"{path}, line {line_number}: expected a manifest of simulated clips: {error}") from None
    return header, CorpusConfig.parse(header.config, str(path)), entries


def table_lines(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of a CSV of labels with the columns `path`, `label`, `split`, `fold`."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, COLUMNS[:4], lineterminator="\n", restval="")
    table.writeheader()
    for row in rows:
        table.writerow(row)
        yield text.getvalue()
        text.seek(0)
        text.truncate()
    yield text.getvalue()


def _versions() -> dict[str, str]:
    import cv2

    found = {"numpy": np.__version__, "opencv": cv2.__version__}
    with suppress(PackageNotFoundError):
        found["av"] = version("av")
    return found


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in values.items():
        out |= _flat(value, f"{before}{key}.") if isinstance(value, Mapping) else {f"{before}{key}": value}
    return out
