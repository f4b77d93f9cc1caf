"""What was seen in training and is tested on all the same, as a record that stands beside the figures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from eventfm.data.pairs import WindowSamples

_NUM_NAMED = 5
_FINGERPRINT = re.compile(r"[0-9a-f]{8,}")


class Seen(NamedTuple):
    """A test recording that training saw."""

    name: str
    trained_as: str
    """Its name among what was trained on."""


@dataclass(frozen=True)
class Leakage:
    """How much of a test set was trained on."""

    num_test: int
    """Recordings in the test set."""
    num_listed: int
    """Entries of what was trained on that tell their content."""
    seen: tuple[Seen, ...]
    """Test recordings whose content was trained on, under whatever name."""
    same_name: tuple[Seen, ...]
    """Others of which one of the same name was trained on, with other content: another recording, or the same one
    converted, cut or filtered."""
    unlisted: tuple[str, ...]
    """Entries that name no content, such as a data set behind imported weights: with them nothing can be ruled out."""

    @property
    def share(self) -> float:
        """Share of the test recordings that were seen."""
        return len(self.seen) / self.num_test

    def text(self, stage: str = "pretraining") -> str:
        """Return what a table says below itself, in a sentence or three."""
        said = f"{len(self.seen) or 'None'} of {self.num_test} test recordings"
        said += f" {'was' if len(self.seen) < 2 else 'were'} seen in {stage}"
        said += f": {_some([item.name for item in self.seen])}." if self.seen else "."
        if self.same_name:
            number = len(self.same_name)
            said += f" {number} more {'has' if number == 1 else 'have'} the name of one that was, with other content: "
            said += f"{_some([item.name for item in self.same_name])}."
        if self.unlisted:
            said += f" Nothing can be said of {_some(list(self.unlisted))}, which is not listed by its content."
        return said

    def record(self) -> dict[str, Any]:
        """Return the same for a file of results, as plain values."""
        return {
            "num_test": self.num_test,
            "num_seen": len(self.seen),
            "share_seen": self.share,
            "seen": [list(item) for item in self.seen],
            "same_name": [list(item) for item in self.same_name],
            "unlisted": list(self.unlisted),
        }


def leakage(trained_on: Iterable[str], test: Mapping[str, str]) -> Leakage:
    """Return what of a test set was trained on.

    Args:
        trained_on: `"name fingerprint"` for each recording or picture, as an `EncoderCard` or a model's card lists
            them; the list of an encoder holds what the encoders that it began from were trained on.
        test: The fingerprint of each test recording by its name (`Entry.name`, `Entry.fingerprint`). Leave recordings
            without events out: they are all alike.

    Raises:
        ValueError: There is no test recording.
    """
    if not test:
        raise ValueError("expected the fingerprints of one or more test recordings, got none")
    listed: dict[str, str] = {}
    unlisted = []
    for item in dict.fromkeys(trained_on):
        name, _, fingerprint = item.rpartition(" ")
        if _FINGERPRINT.fullmatch(fingerprint):
            listed.setdefault(fingerprint, name)
        else:
            unlisted.append(item)
    seen = tuple(Seen(name, listed[fingerprint]) for name, fingerprint in test.items() if fingerprint in listed)
    named = {_bare(name): name for name in listed.values()}
    same_name = tuple(
        Seen(name, named[_bare(name)])
        for name, fingerprint in test.items()
        if fingerprint not in listed and _bare(name) in named
    )
    return Leakage(len(test), len(listed), seen, same_name, tuple(unlisted))


def fingerprints_of(samples: WindowSamples) -> dict[str, str]:
    """Return the fingerprint of each recording that windows are cut from, by its name, for `leakage`.

    Recordings without events are left out.
    """
    used = sorted({number for number, _ in samples.windows})
    entries = [samples.collection.entries[number] for number in used]
    return {entry.name: entry.fingerprint for entry in entries if entry.recording.num_events}


def split_overlaps(splits: Mapping[str, Mapping[str, str]]) -> dict[tuple[str, str], tuple[Seen, ...]]:
    """Return the recordings that two of the splits have in common, for each such pair: none, if all is well.

    Args:
        splits: For each split the fingerprint of each of its recordings by name, as for `leakage`. Of a pair, the
            first split is taken for the one that was trained on.
    """
    found = {}
    for (one, ours), (other, theirs) in combinations(splits.items(), 2):
        of = {fingerprint: name for name, fingerprint in ours.items()}
        if shared := tuple(Seen(name, of[print_]) for name, print_ in theirs.items() if print_ in of):
            found[one, other] = shared
    return found


def _bare(name: str) -> str:
    """Return a recording's path without the ending that says its format, in lower case."""
    path = PurePosixPath(name.replace("\\", "/").lower())
    return str(path.with_suffix("")) if path.name else ""


def _some(names: list[str]) -> str:
    rest = len(names) - _NUM_NAMED
    return ", ".join(names[:_NUM_NAMED]) + (f" and {rest} more" if rest > 0 else "")
