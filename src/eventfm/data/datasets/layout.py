"""What lies in a folder, found by the names that the owners gave, in whatever case and however deep it was unpacked."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from eventfm.data.datasets.card import DatasetCard, DatasetError
from eventfm.data.datasets.contract import Problem

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".7z", ".rar")
_SKIPPED = {"__MACOSX", "@eaDir"}
_LONG = 100
"""From so many missing files in a row on, they are named together."""
Group = TypeVar("Group", bound=Hashable)


@dataclass(frozen=True)
class Tree:
    """All files below a folder, listed once and not looked into."""

    root: Path
    files: tuple[str, ...]
    """Relative to `root`, with `/` between folders, in order of name; hidden ones are left out."""

    @classmethod
    def of(cls, root: str | os.PathLike[str]) -> Tree:
        """Return what lies below `root`; links are followed.

        Raises:
            DatasetError: It is no folder.
            OSError: A folder in it may not be read.
        """
        folder = Path(root)
        if not folder.is_dir():
            if folder.name.lower().endswith(ARCHIVES) and folder.is_file():
                raise DatasetError(f"{folder} is an archive; unpack it and give the folder")
            raise DatasetError(f"expected the folder of a data set, and there is none at {folder}")
        return cls(folder, tuple(sorted(_walk(folder))))

    def match(self, pattern: str | re.Pattern[str]) -> Iterator[tuple[re.Match[str], str]]:
        """Yield (match, file) for each file whose path `pattern` is found in, whatever the case."""
        compiled = re.compile(pattern, re.IGNORECASE)
        for file in self.files:
            if (found := compiled.search(file)) is not None:
                yield found, file

    @cached_property
    def archives(self) -> tuple[str, ...]:
        """Files that are still packed."""
        return tuple(file for file in self.files if file.lower().endswith(ARCHIVES))


def gaps(
    found: Mapping[Group, set[int]],
    expected: Mapping[Group, range],
    folder: Callable[[Group], str],
    file: Callable[[int], str],
    remedy: str,
) -> list[Problem]:
    """Return what is missing of numbered files, one by one; long runs, and folders of which all are missing, as one.

    Args:
        found: The numbers that there are in each group.
        expected: Those that the owners' has.
        folder: What the folder of a group is called.
        file: What the file of a number is called.
        remedy: What to do about it.
    """
    problems = []
    for group, numbers in expected.items():
        there, inside = found.get(group, set()), folder(group)
        if not there:
            what = f"expected {len(numbers):,} files, found none"
            problems.append(Problem("missing", inside, what, remedy, len(numbers)))
            continue
        for run in _runs(number for number in numbers if number not in there):
            path = f"{inside}/{file(run[0])}"
            if len(run) >= _LONG:
                what = f"this one and the next, up to {file(run[-1])}, are not there: {len(run):,} files"
                problems.append(Problem("missing", path, what, remedy, len(run)))
            else:
                problems += [Problem("missing", f"{inside}/{file(n)}", "it is not there", remedy) for n in run]
        what, do = "the owners' set has no such file", "remove it from the folder"
        beyond = sorted(number for number in there if number not in numbers)
        problems += [Problem("unexpected", f"{inside}/{file(number)}", what, do) for number in beyond]
    return problems


def nothing_found(tree: Tree, card: DatasetCard, others: Mapping[str, int]) -> DatasetError:
    """Return the error for a folder in which no sample of a set was found: it says what is there instead.

    `others` are divisions of the set, other than the one that was looked for, and how many samples they find.
    """
    said = f"{tree.root} holds no sample of {card.title}"
    if others:
        there = ", ".join(f"{count:,} with division={name}" for name, count in others.items())
        return DatasetError(f"{said} as this division has them; there are {there}")
    if tree.archives:
        named = ", ".join(tree.archives[:3])
        return DatasetError(f"{said}; unpack the archives in it first ({named}). {card.download}")
    kinds = Counter(Path(file).suffix.lower() or "no suffix" for file in tree.files).most_common(3)
    there = ", ".join(f"{count:,} of {suffix}" for suffix, count in kinds) or "no files"
    return DatasetError(
        f"{said} in a layout that is known; there are {there}. {card.download} Home page: {card.home_page}"
    )


def doubled(names: Iterable[tuple[str, str]]) -> list[Problem]:
    """Return a problem for each name that two files have; `names` are (name, file)."""
    first: dict[str, str] = {}
    problems = []
    for name, file in names:
        if name in first:
            problems.append(
                Problem("doubled", file, f"it is {name}, and so is {first[name]}", "remove one of them from the folder")
            )
        first.setdefault(name, file)
    return problems


def _runs(numbers: Iterable[int]) -> Iterator[list[int]]:
    """Yield stretches of numbers that follow each other, from increasing numbers."""
    run: list[int] = []
    for number in numbers:
        if run and number != run[-1] + 1:
            yield run
            run = []
        run.append(number)
    if run:
        yield run


def _walk(root: Path) -> Iterator[str]:
    """Yield the files below `root`; a folder that links lead to a second time is passed over."""

    def refuse(error: OSError) -> None:
        raise error

    seen: set[tuple[int, int]] = set()
    for folder, below, files in os.walk(root, followlinks=True, onerror=refuse):
        facts = os.stat(folder)
        if (facts.st_dev, facts.st_ino) in seen:
            below.clear()
            continue
        seen.add((facts.st_dev, facts.st_ino))
        below[:] = sorted(name for name in below if name not in _SKIPPED and not name.startswith("."))
        relative = os.path.relpath(folder, root).replace(os.sep, "/")
        before = "" if relative == "." else f"{relative}/"
        yield from (f"{before}{name}" for name in files if not name.startswith("."))
