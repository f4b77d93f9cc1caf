"""The cells of a transfer suite: which runs there are, and each one's result, kept as soon as it is there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventfm.engine.run_folder import write_atomic

Protocol = Literal["linear", "full", "partial", "lora"]
Weights = Literal["pretrained", "scratch"]


class Row(NamedTuple):
    """One row of the table."""

    encoder: str
    """Folder of the encoder."""
    name: str
    """What the encoder, or its control, is called."""
    weights: Weights
    control: str = ""
    """The row that it is compared with, of a pretrained encoder."""
    folder: str = ""
    """What its folders and files are called, where that is not its name."""


class Labels(NamedTuple):
    """How many of the training labels are used."""

    share: float | None = 1.0
    shots: int | None = None

    @property
    def text(self) -> str:
        """What people read."""
        return f"{self.share:.3g}" if self.share is not None else f"{self.shots} shots"

    @property
    def settings(self) -> dict[str, Any]:
        """What a run is told."""
        if self.share == 1.0:
            return {}
        return {"labels.share": self.share} if self.share is not None else {"labels.shots": self.shots}


class Cell(NamedTuple):
    """One run of a suite."""

    row: Row
    protocol: Protocol
    labels: Labels
    seed: int

    @property
    def text(self) -> str:
        """What people read."""
        return f"{self.row.name}, {self.protocol}, labels {self.labels.text}, seed {self.seed}"

    @property
    def slug(self) -> str:
        """Name of its folder and files."""
        row = "".join(c if c.isalnum() or c in "-_." else "_" for c in self.row.folder or self.row.name)
        return f"{row}-{self.protocol}-{self.labels.text.replace(' ', '_')}-seed{self.seed}"


@dataclass(frozen=True)
class CellResult:
    """What one run reached on the test windows."""

    cell: Cell
    figures: dict[str, float]
    sums: NDArray[np.float64]
    """(N, S), what each test window adds (`evaluation.scoring.Scored`)."""
    step: int
    """The step that the validation windows chose."""
    by_class: tuple[float | None, ...] = ()
    """One figure of each class (`evaluation.scoring.Scored`), of tasks that have classes."""


def cells_of(
    rows: Sequence[Row],
    protocols: Sequence[Protocol],
    labels: Sequence[Labels],
    seeds: Sequence[int],
) -> list[Cell]:
    """Return every cell, seed by seed, so that a suite that is stopped has whole tables of few seeds."""
    return [
        Cell(row, protocol, few, seed) for seed in seeds for protocol in protocols for few in labels for row in rows
    ]


def described(cell: Cell) -> dict[str, Any]:
    """Return what a cell is, as plain JSON values."""
    return {**cell.row._asdict(), "protocol": cell.protocol, "labels": cell.labels.text, "seed": cell.seed}


def file_of(folder: Path, cell: Cell) -> Path:
    """Return where the result of a cell is kept."""
    return folder / f"{cell.slug}.json"


def kept_cell(folder: Path, cell: Cell, known_by: Mapping[str, Any], compute: Callable[[], CellResult]) -> CellResult:
    """Return what is kept of `cell` in `folder`, or compute and keep it.

    `known_by` is all that decides the result, under what people call it.

    Raises:
        ValueError: What is kept belongs to other settings, data or weights; the message says which.
    """
    file = file_of(folder, cell)
    digests = {name: _sha256(value) for name, value in known_by.items()}
    if file.exists():
        values = json.loads(file.read_text(encoding="utf-8"))
        _refuse_other(file, cell, values.get("known_by"), digests)
        sums = np.load(file.with_suffix(".npy"))
        return CellResult(cell, values["figures"], sums, values["step"], tuple(values["by_class"]))
    result = compute()
    folder.mkdir(parents=True, exist_ok=True)
    np.save(file.with_suffix(".npy"), result.sums)  # first: a cell is kept once its JSON is there
    kept = {"figures": result.figures, "by_class": result.by_class, "step": result.step}
    values = {"known_by": digests, **kept, **described(cell)}
    write_atomic(file, json.dumps(values, indent=2) + "\n")
    return result


def _refuse_other(file: Path, cell: Cell, kept: Mapping[str, str] | None, now: Mapping[str, str]) -> None:
    if kept == now:
        return
    names = [name for name in now if kept is not None and kept.get(name) != now[name]]
    said = f"a run with other {' and other '.join(names)}" if names else "an earlier version of this suite"
    raise ValueError(
        f"{file} is of {said}; choose another out=, or delete it and the folder runs/{cell.slug} to run it again"
    )


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
