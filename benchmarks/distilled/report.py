"""What the rows came to: `results.json`, `README.md`, and plots."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from quality.report import gap

from distilled.results import COMPARED, FIGURES, SCORES, Interval, Row, above, differences, gather
from distilled.settings import Settings
from distilled.students import CONTROLS, STUDENTS, TRAINED, folder
from eventfm.engine.run_folder import write_atomic

TITLES = {**{name: student.title for name, student in STUDENTS.items()}, "teacher": "teacher, on the frames themselves"}
SCORE_TITLES = {"miou": "streets, mIoU", "accuracy": "streets, pixels", "digits": "N-MNIST"}
FIGURE_TITLES = {
    "effective_rank": "effective rank",
    "mean_cosine": "mean cosine",
    "neighbour_overlap": "shared neighbours",
    "cka": "CKA with the teacher",
}
SHOWN = {
    "apart": "above both controls on both probes, intervals apart",
    "above": "above both controls on both probes by paired differences, though some intervals touch",
    "not above": "not above both controls on both probes",
}
DEVELOPMENT = Path(__file__).with_name("development.md")


def write_report(out: Path, settings: Settings) -> None:
    """Write what there is so far into `out`; notes in `notes.md` there are added to the page."""
    rows = gather(out / "rows", settings)
    if not rows:
        return
    found = differences(rows)
    seconds = json.loads((out / "seconds.json").read_text()) if (out / "seconds.json").exists() else {}
    values = {
        "scale": "small",
        "settings": asdict(settings),
        "rows": {name: summary(row) for name, row in rows.items()},
        "differences": {key: list(value) for key, value in found.items()},
        "above_controls": above(rows, found),
        "seconds": seconds,
    }
    write_atomic(out / "results.json", json.dumps(values, indent=2) + "\n")
    write_atomic(out / "README.md", page(rows, found, settings, seconds, out))
    plot_scores(out / "scores.png", rows)
    plot_collapse(out / "collapse.png", rows)
    plot_losses(out / "losses.png", out, settings)


def summary(row: Row) -> dict[str, Any]:
    """Return scores with spread over seeds and interval over samples, and the figures of collapse."""
    out: dict[str, Any] = {}
    for score in SCORES:
        values = row.each_seed(score)
        if values is not None:
            out[score] = {
                "mean": float(values.mean()),
                "each_seed": values.tolist(),
                "interval_95": list(row.interval(score)),
            }
    if row.collapse is not None:
        out["collapse"] = {density: dict(figures) for density, figures in row.collapse.items()}
    return out


def page(
    rows: Mapping[str, Row],
    found: Mapping[str, Interval],
    settings: Settings,
    seconds: Mapping[str, float],
    out: Path,
) -> str:
    """Return the page in Markdown."""
    titles = [title + (" (development)" if settings.develop else "") for title in SCORE_TITLES.values()]
    height, width = settings.size
    lines = [
        f"# ScaleEvent at a small scale: DINOv3 of 2 blocks and 64 channels, patch {settings.patch}, {width}x{height}",
        "",
        f"Small-scale results: students of {settings.steps} steps of {settings.batch_size} samples from "
        f"{settings.num_street} street pictures and {settings.num_photographs} photographs, simulated "
        f"{settings.num_clips} times each, seeds {list(settings.seeds)}. They say whether the method does what it "
        "should, not how good it is at its published size.",
        "",
        "The teacher was trained here, on the same pictures in grey: with the labels of CamVid's training split, and "
        f"without labels on hidden gradients ({settings.teacher_steps} steps). Students start from its weights and are "
        "given no labels. All rows have the same windows, data and number of steps, and the three forms the same mask.",
        "",
        "Streets: a linear layer on frozen tokens, events of CamVid's test pictures, 11 classes. N-MNIST: a linear "
        "probe of frozen mean tokens, real recordings, five folds; its recordings are in no training set, and there "
        "are no pictures of all of them to show to the teacher. In percent: mean over seeds ± standard deviation over "
        "seeds, in brackets the 95 % bootstrap interval over test pictures or recordings, seeds averaged.",
        "",
        "| row | " + " | ".join(titles) + " |",
        "|---|" + "---|" * len(titles),
    ]
    for name in TITLES:
        if name in rows:
            lines.append(f"| {TITLES[name]} | " + " | ".join(text(rows[name], score) for score in SCORES) + " |")
    lines += ["", *_verdict(rows, found), "", "Differences, paired by test picture or recording, in points:", ""]
    lines += ["| difference | " + " | ".join(titles) + " |", "|---|" + "---|" * len(titles)]
    for first, second in COMPARED:
        if first in rows and second in rows:
            shown = [gap(found.get(f"{first} - {second} | {score}")) for score in SCORES]
            lines.append(f"| {TITLES[first]} - {TITLES[second]} | " + " | ".join(shown) + " |")
    lines += ["", *_collapse_table(rows)]
    lines += ["", "![scores](scores.png)", "", "![collapse](collapse.png)", "", "![losses](losses.png)", ""]
    for file in (DEVELOPMENT, out / "notes.md"):
        if file.exists():
            lines += [file.read_text(encoding="utf-8").rstrip(), ""]
    if seconds:
        spent = "; ".join(f"{name} {value:.0f} s" for name, value in seconds.items() if value >= 1)
        lines += [f"Time of this run, {sum(seconds.values()) / 60:.0f} minutes in all: {spent}.", ""]
    return "\n".join(lines)


def text(row: Row, score: str) -> str:
    """Return a cell of the table."""
    values = row.each_seed(score)
    if values is None:
        return "-"
    low, high = row.interval(score)
    spread = f" ± {100 * values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{100 * values.mean():.1f}{spread} [{100 * low:.1f}, {100 * high:.1f}]"


def plot_scores(file: Path, rows: Mapping[str, Row]) -> None:
    """Draw the scores with their intervals, and a dot for each seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.8), layout="constrained")
    for axes, score in zip(np.ravel(figure.subplots(1, len(SCORES))), SCORES, strict=True):
        there = [name for name in TITLES if name in rows and rows[name].each_seed(score) is not None]
        for place, name in enumerate(there):
            values, (low, high) = rows[name].each_seed(score), rows[name].interval(score)
            assert values is not None
            mean = values.mean()
            axes.bar(place, 100 * mean, color=_colour(name))
            axes.vlines(place, 100 * low, 100 * high, color="0.2")
            axes.plot(np.full(len(values), place), 100 * values, "k.", markersize=4)
        axes.set_xticks(range(len(there)), there, rotation=60, ha="right", fontsize=8)
        axes.set_title(SCORE_TITLES[score], fontsize=9)
        axes.set_ylabel("%", fontsize=8)
    figure.savefig(file, dpi=110)


def plot_collapse(file: Path, rows: Mapping[str, Row]) -> None:
    """Draw each figure over the density of tokens, with its interval; the teacher's own is dashed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.6), layout="constrained")
    known = {name: row.collapse for name, row in rows.items() if row.collapse}
    for axes, (key, title) in zip(np.ravel(figure.subplots(1, len(FIGURE_TITLES))), FIGURE_TITLES.items(), strict=True):
        for number, (name, densities) in enumerate(known.items()):
            points = [(float(d[1:]), *figures[key]) for d, figures in densities.items() if key in figures]
            if points:
                x, middle, low, high = map(np.array, zip(*points, strict=True))
                axes.plot(x, middle, "o-", markersize=3, linewidth=1, color=f"C{number}", label=name)
                axes.fill_between(x, low, high, alpha=0.12, color=f"C{number}", linewidth=0)
        beside = next(iter(known.values()), {})
        points = [(float(d[1:]), f[f"teacher_{key}"][0]) for d, f in beside.items() if f"teacher_{key}" in f]
        if points:
            axes.plot(*zip(*points, strict=True), "k--", linewidth=1, label="teacher")
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("density of tokens", fontsize=8)
    if known:
        figure.axes[0].legend(fontsize=6)
    figure.savefig(file, dpi=110)


def plot_losses(file: Path, out: Path, settings: Settings) -> None:
    """Draw the loss of every student."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3), layout="constrained")
    for axes, name in zip(np.ravel(figure.subplots(1, len(TRAINED))), TRAINED, strict=True):
        for number, seed in enumerate(settings.seeds):
            metrics = folder(out, name, seed) / "metrics.jsonl"
            lines = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []
            points = [(line["step"], line["loss"]) for line in lines if "loss" in line]
            if points:
                axes.plot(*zip(*points, strict=True), color=f"C{number}", linewidth=1)
        axes.set_title(f"{name}: loss", fontsize=9)
        axes.set_xlabel("step", fontsize=8)
    figure.savefig(file, dpi=110)


def _verdict(rows: Mapping[str, Row], found: Mapping[str, Interval]) -> list[str]:
    """Return a line for each way that trained rows stand to the controls."""
    stand = above(rows, found)
    lines = []
    for kind, said in SHOWN.items():
        names = [TITLES[name] for name, value in stand.items() if value == kind]
        if names:
            lines.append(f"* {said[0].upper()}{said[1:]}: {'; '.join(names)}.")
    return lines


def _collapse_table(rows: Mapping[str, Row]) -> list[str]:
    """Return the figures of active tokens at each density, the teacher's own beside the students'."""
    known = {name: row.collapse for name, row in rows.items() if row.collapse}
    if not known:
        return []
    densities = list(dict.fromkeys(density for figures in known.values() for density in figures))
    lines = [
        "Collapse, on active tokens of test pictures: with the input and so the grid of tokens 1, 2 and 4 times finer; "
        "mean over seeds and groups of pictures, in brackets the 95 % bootstrap interval over groups. A collapsed "
        "student has a low rank, a cosine near 1, and shares no more neighbours with its teacher than chance.",
        "",
        "| row | density | " + " | ".join(FIGURE_TITLES.values()) + " |",
        "|---|---|" + "---|" * len(FIGURE_TITLES),
    ]
    for density in densities:
        for name, figures in known.items():
            shown = [_figure(figures.get(density, {}).get(key), key) for key in FIGURE_TITLES]
            lines.append(f"| {TITLES[name]} | {density} | " + " | ".join(shown) + " |")
        first = next(iter(known.values())).get(density, {})
        own = [
            _figure(first.get(f"teacher_{key}"), key) if f"teacher_{key}" in FIGURES else "-" for key in FIGURE_TITLES
        ]
        lines.append(f"| {TITLES['teacher']} | {density} | " + " | ".join(own) + " |")
    return lines


def _figure(value: Interval | None, key: str) -> str:
    if value is None:
        return "-"
    digits = 1 if key == "effective_rank" else 2
    return f"{value[0]:.{digits}f} [{value[1]:.{digits}f}, {value[2]:.{digits}f}]"


def _colour(name: str) -> str:
    return "tab:green" if name == "teacher" else "0.75" if name in CONTROLS else "tab:blue"
