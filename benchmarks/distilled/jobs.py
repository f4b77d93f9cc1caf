"""The jobs for `quality.workers`: a student, or the teacher itself, from its training to its last score."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from quality.results import kept
from quality.rows import Data
from quality.workers import Job

from distilled import scoring, students
from distilled.settings import Settings
from distilled.streets import Filmed, read_labelled
from eventfm.protocols import Teacher


@dataclass(frozen=True)
class Place:
    """What every job has at hand in its process."""

    data: Path
    out: Path
    settings: Settings
    open_once: Callable[..., Any]

    @cached_property
    def streets(self) -> dict[str, Filmed]:
        """Events of street pictures with labels, by split."""
        return read_labelled(self.out / "labelled")

    @cached_property
    def digits(self) -> Data:
        """N-MNIST, or in development what stands for it."""
        folder = self.data / "labelled" / "nmnist"
        path = folder
        if self.settings.develop:
            folder = self.out / "digits"
            path = folder / "recordings.h5"
        found = self.open_once(path, labels=folder / "labels.csv")
        return Data("nmnist", replace(found, entries=found.entries[: self.settings.num_recordings]), False)

    @cached_property
    def teachers(self) -> list[Teacher]:
        """The teacher for pictures of each density."""
        return scoring.teachers(self.out, self.settings)

    def student(self, name: str, seed: int) -> None:
        """Distil, and score."""
        kept(self.out / "runs" / f"{name}-{seed}.json", lambda: students.run(self.out, name, seed, self.settings))
        encoder = students.encoder(self.out, name, seed)
        self._row(
            name, "streets", seed,
            lambda: scoring.segment(
                lambda x: encoder.backbone(x).tokens, "inputs", self.streets, self.settings
            ),
        )  # fmt: skip
        self._row(name, "digits", seed, lambda: scoring.digits(self.digits, encoder, self.settings))
        self._row(
            name, "collapse", seed,
            lambda: scoring.collapse(encoder, self.teachers, self.streets["test"], self.settings),
        )  # fmt: skip

    def teacher(self) -> None:
        """Score the teacher on the pictures; of the digits there are none."""
        seed = self.settings.seeds[0]
        shown = lambda: scoring.segment(self.teachers[0], "pictures", self.streets, self.settings)  # noqa: E731
        self._row("teacher", "streets", seed, shown)

    def _row(self, name: str, column: str, seed: int, compute: Callable[[], dict[str, Any]]) -> None:
        started = time.monotonic()
        found = kept(self.out / "rows" / f"{name}-{column}-{seed}.json", compute)
        said = "; ".join(f"{key} {100 * found[key]:.1f} %" for key in ("miou", "accuracy") if key in found)
        print(f"{name}, seed {seed}, {column}: {said or 'done'}, {time.monotonic() - started:.0f} s", flush=True)


def jobs(settings: Settings) -> list[Job]:
    """Return all jobs, the longest first."""
    names = (*students.TRAINED, *students.CONTROLS)
    runs = [(seed, name) for name in names for seed in students.seeds_of(name, settings)]
    # Seed by seed, so that a benchmark that was stopped has whole tables of fewer seeds.
    ordered = sorted(runs, key=lambda run: run[0])
    return [*(("student", (name, seed)) for seed, name in ordered), ("teacher", ())]
