"""What is there of a data set, what is missing, and whether what is there can be read and is what was published."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eventfm.data.collection import Entry
from eventfm.data.datasets.card import DatasetCard, Division
from eventfm.data.datasets.contract import Kind, Problem, Sample, list_digest
from eventfm.data.datasets.opening import LazyRecording, Located
from eventfm.data.problems import UnreadableError
from eventfm.data.targets import MAPS, Labelled
from eventfm.protocols import Recording

_MAPS_LOOKED_AT = 3
"""Labelled maps of a sequence that are read, from its first to its last."""
_NAMED_AT_MOST = 20
"""Problems of one kind that a report writes out."""
_AGAIN = "unpack or download it again"


@dataclass(frozen=True)
class Report:
    """What was found in the folder of a data set."""

    card: DatasetCard
    division: Division
    root: Path
    samples: tuple[Sample, ...]
    problems: tuple[Problem, ...]
    """All of them, by kind, one by one."""
    num_looked_at: int
    num_events: int | None
    """Events of the samples that were opened; None of a set that is stored ready-made, which holds none."""
    sha256: str
    """`list_digest` of what is there."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Samples of each split that are there."""
        return Counter(sample.split for sample in self.samples)

    @property
    def maps(self) -> Mapping[str, int]:
        """Labelled maps of each split that are there, of those splits whose samples tell without being opened."""
        told: dict[str, int] = {}
        untold = {sample.split for sample in self.samples if sample.entries is None}
        for sample in self.samples:
            if sample.entries is not None and sample.split not in untold:
                told[sample.split] = told.get(sample.split, 0) + len(sample.entries)
        return told

    @property
    def complete(self) -> bool:
        """Whether nothing is wrong, and as many samples and labelled maps are there as were published."""
        published, maps = self.division, self.maps
        return (
            not self.problems
            and all(self.counts[split] == count for split, count in published.counts.items())
            and all(maps.get(split, count) == count for split, count in published.maps.items())
        )

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        card, division = self.card, self.division
        out = [f"{card.title} in {self.root}", f"division {division.name} ({division.source}): {division.about}"]
        for split in {**division.counts, **self.counts}:
            published = division.counts.get(split)
            beside = "no published number" if published is None else f"{published:,} published"
            out.append(f"  {split or 'in no split'}: {self.counts[split]:,} samples, {beside}")
            if split in self.maps:
                there, maps = self.maps[split], division.maps.get(split)
                beside = "no published number" if maps is None else f"{maps:,} published"
                out.append(f"    {there:,} labelled maps, {beside}")
        out.append(f"  list: {self._list()}")
        events = "" if self.num_events is None else f" with {self.num_events:,} events"
        out.append(f"  opened {self.num_looked_at:,} samples{events}")
        for kind in dict.fromkeys(problem.kind for problem in self.problems):
            of_kind = [problem for problem in self.problems if problem.kind == kind]
            out.append(f"{kind}: {sum(problem.count for problem in of_kind):,}")
            out += [f"  {problem.path}: {problem.what}; {problem.remedy}" for problem in of_kind[:_NAMED_AT_MOST]]
            if len(of_kind) > _NAMED_AT_MOST:
                more = sum(problem.count for problem in of_kind[_NAMED_AT_MOST:])
                out.append(f"  ... and {more:,} more")
        out.append("complete" if self.complete else f"not complete; {card.download}")
        return out

    def _list(self) -> str:
        if not self.division.sha256:
            return f"SHA-256 {self.sha256[:16]}..., none is published to compare with"
        if self.sha256 == self.division.sha256:
            return f"as published, SHA-256 {self.sha256[:16]}..."
        return f"not the published one, SHA-256 {self.sha256[:16]}... instead of {self.division.sha256[:16]}..."


def check(
    located: Located, looks: int | None = 1000, progress: Callable[[int], None] = lambda num_done: None
) -> Report:
    """Return what is there of a data set; `looks` samples are opened, from the first to the last, or all if None."""
    dataset, division, tree, (samples, known) = located
    card, problems = dataset.card, list(known)
    problems += [
        Problem(
            "label",
            sample.name,
            f"label {sample.label} of {len(card.classes)} classes",
            "the card and the files disagree: report it",
        )
        for sample in samples
        if sample.label is not None and not 0 <= sample.label < len(card.classes)
    ]
    count = len(samples) if looks is None else min(looks, len(samples))
    places = np.unique(np.linspace(0, len(samples) - 1, count).astype(int)).tolist() if count else []
    look = _into_recordings if dataset.stored is None else _into_parts
    num_events = 0
    for done, (wrong, count_there) in enumerate(look(located, [samples[place] for place in places]), 1):
        problems += wrong
        num_events += count_there
        progress(done)
    order: dict[Kind, int] = {}
    for problem in problems:
        order.setdefault(problem.kind, len(order))
    problems.sort(key=lambda problem: order[problem.kind])
    digest = list_digest((sample.split, sample.name) for sample in samples)
    events = num_events if dataset.stored is None else None
    return Report(card, division, tree.root, samples, tuple(problems), len(places), events, digest)


_Looks = Iterator[tuple[list[Problem], int]]
"""What is wrong with each sample in turn, and how many events it has."""


def _into_recordings(located: Located, samples: Sequence[Sample]) -> _Looks:
    prints: dict[str, str] = {}
    for sample in samples:
        recording: Any = LazyRecording(located.dataset, located.tree.root, sample, "raise")
        try:
            yield _look(located.dataset.card, sample, recording, prints), recording.num_events
        except (ValueError, OSError) as error:
            yield [_damaged("damaged", sample, error)], 0


def _into_parts(located: Located, samples: Sequence[Sample]) -> _Looks:
    """Read every file of samples that are stored ready-made."""
    dataset = located.dataset
    assert dataset.stored is not None
    assert dataset.parts is not None
    if not samples:
        return
    try:
        with warnings.catch_warnings():  # what is not whole is among the problems already
            warnings.simplefilter("ignore")
            stored = dataset.stored(located.tree.root, located.division)
    except (ValueError, OSError) as error:
        yield [Problem("damaged", ".", str(error), _AGAIN, len(samples))], 0
        return
    for sample in samples:
        looked = dataset.parts(stored, sample)
        bad = [(part.file, part.values.reason) for part in looked if isinstance(part.values, UnreadableError)]
        yield [Problem("damaged", file, reason, _AGAIN) for file, reason in bad], 0


def _look(card: DatasetCard, sample: Sample, recording: Recording, prints: dict[str, str]) -> list[Problem]:
    """Return what is wrong with a sample whose recording can be opened; `prints` remembers the samples before.

    Raises:
        ValueError: Its events are damaged.
        OSError: A file of it is gone.
    """
    if not recording.num_events:
        return [Problem("damaged", sample.files[0], f"{sample.name} has no events", "download it again")]
    problems = []
    fingerprint = Entry(sample.name, recording).fingerprint
    if fingerprint in prints:
        what = f"{sample.name} holds the same events as {prints[fingerprint]}"
        problems.append(Problem("doubled", sample.files[0], what, "remove one of them from the folder"))
    prints.setdefault(fingerprint, sample.name)
    for kind in MAPS:
        if kind not in recording.tracks:
            continue
        num_maps = len(recording.tracks[kind].times)
        for number in np.unique(np.linspace(0, num_maps - 1, min(num_maps, _MAPS_LOOKED_AT)).astype(int)).tolist():
            try:
                Labelled(kind, recording, number, sample.name).read(len(card.classes) or None)
            except (ValueError, OSError) as error:
                problems.append(_damaged("label", sample, error))
    return problems


def _damaged(kind: Kind, sample: Sample, error: Exception) -> Problem:
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    return Problem(kind, sample.files[0], said, _AGAIN)
