"""Recordings with frames, pixel by pixel those of the event camera: what the sets of pairs for pretraining share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from eventfm.data.datasets.card import Division
from eventfm.data.datasets.contract import Found, Problem, Sample
from eventfm.data.test_sequences import overlaps
from eventfm.events import Sensor
from eventfm.io.contract import FormatError
from eventfm.protocols import Recording

BENCHMARKS = "what benchmarks test on is test, the rest is learnt from (`data/test_sequences.py`)"
"""What `by_benchmarks` does, in the words of a card."""


def by_benchmarks(sequence: str) -> str:
    """Return the split of a sequence: `test` for what benchmarks test on, else `train`."""
    return "test" if overlaps([sequence]) else "train"


def found(
    parts: Iterable[tuple[str, tuple[str, ...]]],
    split: Callable[[str], str],
    expected: Mapping[str, str],
    remedy: str,
) -> Found:
    """Return a sample for each sequence and its files.

    `expected` has, for each sequence that is known to be published, what its first file is called.
    """
    samples = [Sample(f"{split(name)}/{name}", files, None, split(name)) for name, files in parts]
    there = {sample.name.rpartition("/")[2] for sample in samples}
    problems = [
        Problem("missing", called, "it is not there", remedy) for name, called in expected.items() if name not in there
    ]
    return Found(tuple(samples), tuple(problems))


def fewer(samples: Iterable[Sample], division: Division, named: int, remedy: str) -> list[Problem]:
    """Return what is missing by the published number alone; `named` samples were said to be missing already."""
    count, published = len(list(samples)), sum(division.counts.values())
    missing = published - count - named
    if missing <= 0:
        return []
    return [Problem("missing", ".", f"expected {published:,} recordings, found {count:,}", remedy, missing)]


def require_pairs(recording: Recording, path: Path, sensor: Sensor) -> Recording:
    """Return a recording that has frames and the sensor of its set.

    Raises:
        FormatError: It has fewer than two frames, or is of another sensor.
    """
    size = recording.sensor.width, recording.sensor.height
    if size != (sensor.width, sensor.height):
        raise FormatError(f"{path}: expected a sensor of {sensor.width}x{sensor.height}, got {size[0]}x{size[1]}")
    count = len(recording.tracks["frames"].times) if "frames" in recording.tracks else 0
    if count < 2:
        raise FormatError(f"{path}: expected frames beside the events, got {count}; leave it out of the folder")
    return recording
