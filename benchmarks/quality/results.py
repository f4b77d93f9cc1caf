"""Results of rows: one small file each, written at once, and what they come to together."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventfm.engine.run_folder import write_atomic
from eventfm.evaluation.protocol import Score, paired_difference

DATASETS = ("nmnist", "cifar")
WAYS = ("linear", "few")
COLUMNS = tuple((dataset, way) for dataset in DATASETS for way in WAYS)
ROWS = ("counts", "untrained", "scratch", "stage1", "stages12", "stages123", "joint", "teacher")
COMPARED = (("stages123", "stage1"), ("stage1", "untrained"), ("stages123", "scratch"), ("joint", "stages123"))
SAME = {("untrained", "few"): "scratch", ("scratch", "linear"): "untrained"}
"""Cells that are another row's by what they mean: fine-tuning an untrained network is training from scratch."""


@dataclass(frozen=True)
class Cell:
    """One row in one column: what each seed got right, sample by sample."""

    correct: NDArray[np.float64]
    """(seeds, N), 1 where a test sample is right; samples in the same order in all rows of a column."""

    @property
    def accuracies(self) -> NDArray[np.float64]:
        """(seeds,)."""
        return self.correct.mean(axis=1)

    @property
    def score(self) -> Score:
        """The share of seeds that are right, sample by sample, for the bootstrap over samples."""
        return Score("", "", self.correct.mean(axis=0))


def kept(file: Path, compute: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Return what `file` holds or, if it is not there, what `compute` returns, kept in it for the next time."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, json.dumps(compute()) + "\n")
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def packed(correct: NDArray[np.bool_]) -> str:
    """Return one character, 0 or 1, for each sample."""
    return "".join("01"[int(value)] for value in correct)


def gather(folder: Path, seeds: Sequence[int]) -> dict[tuple[str, str, str], Cell]:
    """Return the cells (row, data, way) of which every seed is there; rows without a seed have a file of seed 0."""
    cells: dict[tuple[str, str, str], Cell] = {}
    for row in ROWS:
        for dataset, way in COLUMNS:
            files = [folder / f"{row}-{dataset}-{way}-{seed}.json" for seed in seeds]
            if row in ("counts", "teacher"):
                files = files[:1]
            if files and all(file.exists() for file in files):
                found = [json.loads(file.read_text(encoding="utf-8"))["correct"] for file in files]
                cells[row, dataset, way] = Cell(np.array([[int(c) for c in text] for text in found], np.float64))
    for (row, way), other in SAME.items():
        for dataset in DATASETS:
            if (other, dataset, way) in cells:
                cells[row, dataset, way] = cells[other, dataset, way]
    return cells


def differences(cells: Mapping[tuple[str, str, str], Cell]) -> dict[str, tuple[float, float, float]]:
    """Return difference and ends of its 95 % interval of each pair in each column: paired by sample, seeds averaged."""
    out = {}
    for first, second in COMPARED:
        for dataset, way in COLUMNS:
            a, b = cells.get((first, dataset, way)), cells.get((second, dataset, way))
            if a is not None and b is not None:
                out[f"{first} - {second} | {dataset} | {way}"] = paired_difference(a.score, b.score)
    return out
