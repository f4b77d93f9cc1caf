"""What the rows came to: `results.json`, `README.md`, and plots."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from eventfm.engine.run_folder import write_atomic
from quality.results import COLUMNS, COMPARED, ROWS, Cell, differences, gather
from quality.settings import Settings

TITLES = {
    "counts": "counts of events, best classifier",
    "untrained": "untrained",
    "scratch": "from scratch",
    "stage1": "stage 1",
    "stages12": "stages 1-2",
    "stages123": "stages 1-2-3",
    "joint": "joint (stages 1 and 3 at once)",
    "teacher": "teacher, on the pictures themselves",
}
DATA = {"nmnist": "N-MNIST", "cifar": "CIFAR events"}
WAYS = {"linear": "linear probe", "few": "few labels"}
CURVES = {
    "stages/1_difference": "stage 1",
    "stages/2_transition": "stage 2",
    "stages/3_contrast": "stage 3",
    "joint": "joint",
}


COLOURS = {"counts": "0.75", "untrained": "0.75", "scratch": "0.75", "teacher": "tab:green"}
DEVELOPMENT = Path(__file__).with_name("development.md")


def write_report(out: Path, settings: Settings) -> None:
    """Write what there is so far into `out`; notes in `notes.md` there are added to the page."""
    cells = gather(out / "rows", settings.seeds)
    if not cells:
        return
    apart = differences(cells)
    seconds = json.loads((out / "seconds.json").read_text()) if (out / "seconds.json").exists() else {}
    values = {
        "scale": "small",
        "settings": asdict(settings),
        "cells": {" | ".join(key): summary(cell) for key, cell in cells.items()},
        "differences": {key: list(value) for key, value in apart.items()},
        "seconds": seconds,
    }
    write_atomic(out / "results.json", json.dumps(values, indent=2) + "\n")
    write_atomic(out / "README.md", page(cells, apart, settings, seconds, notes(out)))
    plot_bars(out / "accuracies.png", cells, settings)
    plot_losses(out / "losses.png", out, settings.seeds)


def summary(cell: Cell) -> dict[str, Any]:
    """Return mean, spread over seeds and interval over samples of a cell."""
    values = cell.accuracies
    return {
        "accuracy": float(values.mean()),
        "spread": float(values.std(ddof=1)) if len(values) > 1 else None,
        "each_seed": [float(value) for value in values],
        "interval_95": list(cell.score.interval()),
        "num_samples": cell.correct.shape[1],
    }


def page(
    cells: Mapping[tuple[str, str, str], Cell],
    apart: Mapping[str, tuple[float, float, float]],
    settings: Settings,
    seconds: Mapping[str, float],
    noted: str,
) -> str:
    """Return the page in Markdown."""
    names = {
        (d, w): f"{DATA[d] if not settings.develop else DATA[d] + ' (development)'}, {WAYS[w]}" for d, w in COLUMNS
    }
    lines = [
        f"# EventPretrain at a small scale: {settings.backbone}, patch {settings.patch}, inputs of 32x32 pixels",
        "",
        f"Small-scale results: {settings.num_pictures} pictures and photographs, seeds {list(settings.seeds)}, "
        f"{settings.steps_difference} + {settings.steps_transition} + {settings.steps_contrast} steps of "
        f"{settings.batch_size} samples (joint: {settings.steps_joint}). They say whether the method does what it "
        "should, not how good it is at its published size.",
        "",
        "Accuracy in percent: mean over seeds ± standard deviation over seeds, in brackets the 95 % bootstrap interval "
        f"over test samples. Few labels: {settings.labels_per_class} per class; networks are fine-tuned "
        f"({settings.tune_steps} steps, the same for all rows), counts and teacher are classified as in the probe. The "
        "best classifier on counts is the best on the test samples: an advantage that no other row has.",
        "",
        "| row | " + " | ".join(names.values()) + " |",
        "|---|" + "---|" * len(names),
    ]
    for row in ROWS:
        shown = [text(cells[row, d, w]) if (row, d, w) in cells else "-" for d, w in COLUMNS]
        lines.append(f"| {TITLES[row]} | " + " | ".join(shown) + " |")
    lines += [
        "",
        "Differences, paired by test sample, seeds averaged, with 95 % bootstrap intervals (points):",
        "",
        "| difference | " + " | ".join(names.values()) + " |",
        "|---|" + "---|" * len(names),
    ]
    for first, second in COMPARED:
        shown = [gap(apart.get(f"{first} - {second} | {d} | {w}")) for d, w in COLUMNS]
        lines.append(f"| {TITLES[first]} - {TITLES[second]} | " + " | ".join(shown) + " |")
    lines += ["", "![accuracies](accuracies.png)", "", "![losses](losses.png)", ""]
    if noted:
        lines += [noted.rstrip(), ""]
    if seconds:
        spent = "; ".join(f"{name} {value:.0f} s" for name, value in seconds.items() if value >= 1)
        lines += [f"Time of this run, {sum(seconds.values()) / 60:.0f} minutes in all: {spent}.", ""]
    return "\n".join(lines)


def text(cell: Cell) -> str:
    """Return a cell of the table."""
    values, (low, high) = 100 * cell.accuracies, cell.score.interval()
    spread = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{values.mean():.1f}{spread} [{100 * low:.1f}, {100 * high:.1f}]"


def gap(value: tuple[float, float, float] | None) -> str:
    """Return a difference, in bold where its interval leaves out zero."""
    if value is None:
        return "-"
    middle, low, high = (100 * number for number in value)
    shown = f"{middle:+.1f} [{low:+.1f}, {high:+.1f}]"
    return f"**{shown}**" if low > 0 or high < 0 else shown


def notes(out: Path) -> str:
    """Return how settings were chosen, and what a person has written about these results, if anything."""
    files = (DEVELOPMENT, out / "notes.md")
    return "\n".join(file.read_text(encoding="utf-8") for file in files if file.exists())


def plot_bars(file: Path, cells: Mapping[tuple[str, str, str], Cell], settings: Settings) -> None:
    """Draw the accuracies with their intervals over test samples, and a dot for each seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.6), layout="constrained")
    for axes, (dataset, way) in zip(np.ravel(figure.subplots(1, len(COLUMNS))), COLUMNS, strict=True):
        there = [row for row in ROWS if (row, dataset, way) in cells]
        for place, row in enumerate(there):
            cell = cells[row, dataset, way]
            mean, (low, high) = 100 * cell.accuracies.mean(), cell.score.interval()
            bars = [[mean - 100 * low], [100 * high - mean]]
            axes.bar(place, mean, color=COLOURS.get(row, "tab:blue"), yerr=bars, capsize=3)
            axes.plot(np.full(len(cell.accuracies), place), 100 * cell.accuracies, "k.", markersize=4)
        axes.set_xticks(range(len(there)), there, rotation=60, ha="right", fontsize=8)
        axes.set_title(f"{DATA[dataset]}, {WAYS[way]}", fontsize=9)
        axes.set_ylabel("accuracy, %", fontsize=8)
    figure.suptitle(f"{settings.backbone}, small-scale, {len(settings.seeds)} seeds", fontsize=9)
    figure.savefig(file, dpi=110)


def plot_losses(file: Path, out: Path, seeds: Sequence[int]) -> None:
    """Draw the loss of every pretraining run, while training and held out."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3), layout="constrained")
    for axes, (folder, title) in zip(np.ravel(figure.subplots(1, len(CURVES))), CURVES.items(), strict=True):
        for seed in seeds:
            metrics = out / f"seed{seed}" / folder / "metrics.jsonl"
            lines = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []
            for key, style in (("loss", "-"), ("held_out/loss", "--")):
                points = [(line["step"], line[key]) for line in lines if key in line]
                if points:
                    axes.plot(
                        *zip(*points, strict=True), style, color=f"C{seed}", linewidth=1, label=f"seed {seed}, {key}"
                    )
        axes.set_title(f"{title}: loss (dashed: held out)", fontsize=9)
        axes.set_xlabel("step", fontsize=8)
    figure.savefig(file, dpi=110)
