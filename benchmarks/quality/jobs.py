"""The parts of the benchmark that do not wait for each other: jobs for `quality.workers`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from eventfm.deployment.predict import LoadedEncoder
from quality import pretraining, rows
from quality.results import DATASETS, WAYS, kept
from quality.settings import ENCODED, FINE_TUNED, Settings
from quality.workers import Job


@dataclass(frozen=True)
class Place:
    """What every job has at hand in its process: where the data and results are, and the recordings, in memory."""

    data: Path
    out: Path
    settings: Settings
    open_once: Callable[..., Any]

    @cached_property
    def parts(self) -> dict[str, rows.Data]:
        """The labelled data by name."""
        return {part.name: part for part in rows.open_data(self.data, self.out, self.settings, self.open_once)}

    def pretrained(self, name: str, seed: int) -> None:
        """Do what is left of a run of `pretraining.RUNS`."""
        file = self.out / "pretrained" / f"{name}-{seed}.json"
        kept(file, lambda: pretraining.run(self.out, name, seed, self.settings))

    def without_encoder(self, dataset: str) -> None:
        """Score counts of events and, where there are pictures, the teacher on them."""
        part = self.parts[dataset]
        for way in WAYS:
            self._row("counts", part, way, 0, lambda way=way: rows.baseline(part, way, self.settings))
            if dataset == "cifar":
                shown = lambda way=way: rows.teacher_scored(self.out, part, way, self.settings)  # noqa: E731
                self._row("teacher", part, way, 0, shown)

    def scored(self, name: str, dataset: str) -> None:
        """Probe and fine-tune the encoders of one row on one set of data, seed by seed."""
        part = self.parts[dataset]
        for seed in self.settings.seeds:
            encoder = pretraining.encoder(self.out, name, seed)
            if name in ENCODED:
                self._row(name, part, "linear", seed, lambda e=encoder: rows.probe(part, e))
            if name in FINE_TUNED:
                lrs = self._rates(name, part, encoder, seed)
                few = lambda e=encoder, s=seed, r=lrs: rows.tuned(part, e, s, self.settings, r)  # noqa: E731
                self._row(name, part, "few", seed, few)

    def _rates(self, name: str, part: rows.Data, encoder: LoadedEncoder, seed: int) -> list[float]:
        """Return the learning rates of fine-tuning, chosen with the first seed and the same for all."""
        file = self.out / "chosen" / f"{name}-{part.name}.json"
        return list(kept(file, lambda: rows.learning_rates(part, encoder, seed, self.settings))["lrs"])

    def _row(self, name: str, part: rows.Data, way: str, seed: int, compute: Callable[[], dict[str, Any]]) -> None:
        found = kept(self.out / "rows" / f"{name}-{part.name}-{way}-{seed}.json", compute)
        print(f"{name}, seed {seed}, {part.name}, {way}: {100 * found['accuracy']:.1f} %", flush=True)


def learning(settings: Settings) -> list[Job]:
    """Return the jobs that need no encoder, the longest first."""
    runs = [("pretrained", (name, seed)) for seed in settings.seeds for name in pretraining.RUNS]
    return [*runs, *(("without_encoder", (dataset,)) for dataset in DATASETS)]


def scoring() -> list[Job]:
    """Return the jobs that score encoders."""
    names = dict.fromkeys((*FINE_TUNED, *ENCODED))
    return [("scored", (name, dataset)) for name in names for dataset in DATASETS]
