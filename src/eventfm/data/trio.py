"""Pairs as ScaleEvent publishes them: for every frame a volume and a picture of its events, all stored as JPEG.

    root/zurich_city_00_a/image/00001.jpg    the frame, RGB
                          voxel/00001.jpg    volume of events, its three time bins as three channels of bytes
                          evimg/00001.jpg    picture of the same events on white ground, for the mask only

Beside them may lie lists: `dsec.txt` with a sequence a line, and `dsec_seqlen.txt` with its number of frames, counted
from 1. How the numbers of a volume became bytes is not published: they are taken as they are.
"""

from __future__ import annotations

import hashlib
import os
import sys
import warnings
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from eventfm.data.pictures import decode
from eventfm.data.problems import UnreadableError
from eventfm.data.table import PICTURES, CollectionError
from eventfm.events import Sensor

KINDS = ("image", "voxel", "evimg")
CODING = "as stored: byte/255, ImageNet statistics"
"""What is done to a volume, for the card of an encoder; its scaling before that is unknown."""
_LENGTHS = "_seqlen"
_LOOKED_AT = 8
_DIGITS = 5
_Files = dict[int, str]
"""File name by number."""


class Trio(NamedTuple):
    """One frame of a sequence with its volume and picture of events; the names of their files."""

    sequence: str
    number: int
    image: str
    voxel: str
    evimg: str


@dataclass(frozen=True)
class TrioSet:
    """All trios below a root that are whole."""

    root: Path
    trios: tuple[Trio, ...]
    """By sequence, and by number in each."""
    digests: dict[str, str]
    """Hash of the numbers and sizes of its volumes, by sequence."""
    sensor: Sensor
    """Size of the first volume; other sequences may have others."""
    problems: dict[str, str]
    """Files that are missing, and sequences that are not as their list says, and why, by name."""

    def file(self, trio: Trio, kind: str) -> Path:
        """Return the path of one of its files: `image`, `voxel` or `evimg`."""
        return _path(self.root, trio, kind)

    def without(self, sequences: Container[str]) -> TrioSet:
        """Return the set without some sequences.

        Raises:
            CollectionError: No sequence is left.
        """
        digests = {name: digest for name, digest in self.digests.items() if name not in sequences}
        if not digests:
            raise CollectionError(f"none of the {len(self.digests)} sequences of {self.root} is left")
        return replace(self, trios=tuple(t for t in self.trios if t.sequence in digests), digests=digests)


def is_trio(path: Path) -> bool:
    """Return whether a folder is laid out as ScaleEvent's data are; the first few folders of each level tell."""
    return path.is_dir() and any(
        all((path / name / kind).is_dir() for kind in KINDS) for name in _found(path, _LOOKED_AT)
    )


def open_trio(root: Path, lists: Path | None = None) -> TrioSet:
    """Return the trios below `root`; every folder is listed, and one volume read.

    `lists` is the list of sequences or that of their lengths, the other being found beside it; where it is not given,
    the one in `root`, if there is one, and else every sequence there is. With lengths, exactly the frames from 1 to the
    length belong to a sequence; else those that any of its folders has. Whatever is missing is named file by file.

    Raises:
        CollectionError: A list cannot be read or is not alone, or no trio is whole.
    """
    lengths = _listed(lists or _list_in(root)) or dict.fromkeys(_found(root))
    trios: list[Trio] = []
    digests: dict[str, str] = {}
    problems: dict[str, str] = {}
    for sequence, length in lengths.items():
        whole, digest = _whole(root, sequence, length, problems)
        trios += whole
        digests |= {sequence: digest} if whole else {}
    if not trios:
        example = next((f"; e.g. {name} {reason}" for name, reason in problems.items()), "")
        raise CollectionError(
            f"no frame in {root} has all its files, expected SEQUENCE/{{{','.join(KINDS)}}}/00001.jpg{example}"
        )
    if problems:
        name, reason = next(iter(problems.items()))
        warnings.warn(
            f"{len(problems)} files or sequences of {root} are missing or not as listed, e.g. {name} {reason}",
            stacklevel=3,
        )
    return TrioSet(root, tuple(trios), digests, _sensor(root, trios), problems)


def _found(root: Path, at_most: int | None = None) -> Iterator[str]:
    """Yield the names of sequences, in order: folders in `root` or in its folders that have volumes or pictures."""
    for outer in islice(_folders(root), at_most):
        if _is_sequence(root / outer):
            yield outer
        else:
            yield from (
                f"{outer}/{inner}"
                for inner in islice(_folders(root / outer), at_most)
                if _is_sequence(root / outer / inner)
            )


def _is_sequence(folder: Path) -> bool:
    return any((folder / kind).is_dir() for kind in ("voxel", "evimg"))


def _folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _list_in(root: Path) -> Path | None:
    found = sorted(root.glob(f"*{_LENGTHS}*.txt"))
    if len(found) > 1:
        raise CollectionError(
            f"expected one list of lengths in {root}, got {[file.name for file in found]}; give data.labels=LIST.txt"
        )
    return found[0] if found else None


def _listed(file: Path | None) -> dict[str, int | None]:
    """Return the number of frames of each listed sequence, None where there is no list of lengths; {} without a list.

    Raises:
        CollectionError: A list is missing or cannot be read, they do not fit each other, or a line makes no sense.
    """
    if file is None:
        return {}
    names_file = file.with_name(file.name.replace(_LENGTHS, ""))
    lengths_files = [
        f for f in file.parent.glob(f"*{_LENGTHS}*.txt") if f.name.replace(_LENGTHS, "") == names_file.name
    ]
    names = _lines(names_file)
    if not names or len(set(names)) < len(names):
        raise CollectionError(f"expected a sequence a line in {names_file}, each once, got {len(names)} lines")
    if not lengths_files:
        return dict.fromkeys(names)
    lengths = _lines(lengths_files[0])
    if len(lengths) != len(names):
        raise CollectionError(
            f"expected as many lengths in {lengths_files[0]} as {names_file.name} has sequences, {len(names)}; got "
            f"{len(lengths)}"
        )
    for line, length in enumerate(lengths, start=1):
        if not (length.isascii() and length.isdecimal()):
            raise CollectionError(f"{lengths_files[0]}, line {line}: expected a number of frames, got {length!r}")
    return dict(zip(names, map(int, lengths), strict=True))


def _lines(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CollectionError(f"cannot read the list {file}: {error}") from error
    return [line.strip() for line in lines if line.strip()]


def _whole(root: Path, sequence: str, length: int | None, problems: dict[str, str]) -> tuple[list[Trio], str]:
    """Return the trios of a sequence that are whole and a hash of its volumes; note in `problems` what is missing."""
    folder = root / sequence
    if not folder.is_dir():
        problems[sequence] = f"is listed and not in {root}"
        return [], ""
    files: dict[str, _Files] = {}
    sizes: dict[int, int] = {}
    for kind in KINDS:
        files[kind] = {}
        for name, number, size in _numbered(folder / kind):
            if number in files[kind]:
                problems[f"{sequence}/{kind}/{name}"] = f"has the number of {files[kind][number]} too, and is not read"
                continue
            files[kind][number] = name
            if kind == "voxel":
                sizes[number] = size
    there = sorted(set().union(*files.values()))
    numbers = there if length is None else range(1, length + 1)
    if length is not None and there and there[-1] > length:
        problems[sequence] = f"has frames up to {there[-1]}, and its list says {length}; those after are left out"
    trios = []
    for number in numbers:
        missing = [kind for kind in KINDS if number not in files[kind]]
        for kind in missing:
            problems[f"{sequence}/{kind}/{_name_of(number, files)}"] = "is missing"
        if not missing:
            trios.append(Trio(sequence, number, *(files[kind][number] for kind in KINDS)))
    kept = [(trio.number, sizes[trio.number]) for trio in trios]
    return trios, hashlib.sha256(repr(kept).encode()).hexdigest()[:16]


def _numbered(folder: Path) -> list[tuple[str, int, int]]:
    """Return name, number and size of each picture in `folder` whose name is a number, in order of name."""
    if not folder.is_dir():
        return []
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            stem, ending = os.path.splitext(entry.name)
            if ending.lower() in PICTURES and stem.isascii() and stem.isdecimal():
                # The same names occur in every folder of every sequence.
                found.append((sys.intern(entry.name), int(stem), entry.stat().st_size))
    return sorted(found)


def _name_of(number: int, files: dict[str, _Files]) -> str:
    """Return what a missing file should be called: as the others of the frame or of the sequence are."""
    for named in files.values():
        if number in named:
            return named[number]
    example = next((name for named in files.values() for name in named.values()), f"{'0' * _DIGITS}.jpg")
    stem, ending = os.path.splitext(example)
    return f"{number:0{len(stem)}d}{ending}"


def _sensor(root: Path, trios: list[Trio]) -> Sensor:
    """Return the size of the first volume that can be read."""
    for trio in trios:
        try:
            height, width = decode(_path(root, trio, "voxel")).shape[:2]
        except UnreadableError:
            continue
        return Sensor(width, height, "ScaleEvent", inferred=True)
    raise CollectionError(f"none of the {len(trios)} volumes in {root} can be read")


def _path(root: Path, trio: Trio, kind: str) -> Path:
    return root / trio.sequence / kind / str(getattr(trio, kind))
