"""The page of the benchmark: for every task who comes to what, from few labels and from all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tasks_real.report import points
from tasks_real.transfers import TRIVIAL, lines_of, scores

from eventfm.api.text_tables import markdown
from eventfm.api.transferring import TransferResult
from eventfm.engine.run_folder import write_atomic
from eventfm.evaluation.intervals import Interval
from eventfm.tasks.metrics import SELECT
from eventfm.visualization.intervals_plot import Mark, dot_plot
from tasks_made.settings import Settings

UNITS = {
    "recognition": ("right, %", 100.0, 1),
    "segmentation": ("mIoU, %", 100.0, 1),
    "flow": ("EPE, pixels", 1.0, 2),
    "depth": ("AbsRel, %", 100.0, 1),
}
"""What a figure is called, what it is multiplied with to be shown, and its digits."""
ENOUGH = 0.3
"""Less error than the predictor that does not look, as a share, from which on a task counts as learnt."""


def write_report(
    out: Path, results: Mapping[str, TransferResult], settings: Settings, layout: float | None = None
) -> None:
    """Write `README.md`, `results.json` and a plot of each task into `out`.

    Args:
        out: Where `notes.md` may lie.
        results: Suites by their task.
        settings: What they were made with.
        layout: AbsRel of who knows the layout of the worlds alone (`tasks_made.layout`).
    """
    found = {task: _judged(result) for task, result in results.items()}
    clock = out / "seconds.json"
    seconds: dict[str, float] = json.loads(clock.read_text()) if clock.exists() else {}
    values = {"scale": "small", "settings": asdict(settings), "tasks": found, "layout": layout, "seconds": seconds}
    write_atomic(out / "results.json", json.dumps(values, indent=2) + "\n")
    for task, rows in found.items():
        _draw(rows, task, out / f"{task}.png")
    write_atomic(out / "README.md", _page(found, seconds, settings, layout, out))


def _judged(result: TransferResult) -> dict[str, dict[str, Any]]:
    """Return the scores of a suite (`tasks_real.transfers.scores`), and how much less error than not looking."""
    rows = scores(lines_of([result]), result.task, len(result.classes))
    larger_is_better = SELECT[result.task][1] is max
    errors = {name: 1 - row["mean"] if larger_is_better else row["mean"] for name, row in rows.items()}
    return {name: {**row, "less_error": 1 - errors[name] / errors[TRIVIAL]} for name, row in rows.items()}


def _draw(rows: Mapping[str, Mapping[str, Any]], task: str, file: Path) -> None:
    unit, factor, _ = UNITS[task]
    *ours, blind = rows.values()
    marks = [
        Mark(
            f"{row['row']}, {_labels(row['labels'])}",
            factor * row["mean"],
            *(factor * end for end in row["interval_95"]),
        )
        for row in ours
    ]
    line = Mark(blind["row"], factor * blind["mean"], *(factor * end for end in blind["interval_95"]))
    dot_plot(marks, unit, line).savefig(file)


def _page(
    found: Mapping[str, Mapping[str, Mapping[str, Any]]],
    seconds: Mapping[str, float],
    settings: Settings,
    layout: float | None,
    out: Path,
) -> str:
    width, height = settings.sensor
    lines = [
        "# The tasks on simulated worlds, at a small scale",
        "",
        f"Small-scale results: worlds of a floor, a wall and one thing ({', '.join(settings.shapes)}) before a sensor "
        f"of {width}x{height} pixels, {settings.num_labelled} with labels (eight of ten to learn from, one to choose "
        f"the step, one to test) and {settings.num_unlabelled} others to pretrain on; one network, "
        f"{settings.backbone}, for all rows. Each was pretrained once, and fine-tuned with seeds "
        f"{list(settings.seeds)}: mean ± standard deviation, in brackets 95 % bootstrap intervals over test "
        "recordings, seeds pooled. Differences are paired by recording, and bold where the interval leaves out 0.",
        "",
        f"The camera sees {settings.field_of_view_deg:g} degrees, so that things are large. Depth has worlds of its "
        f"own, {settings.num_labelled} too, that no encoder was pretrained on: seen with "
        f"{settings.depth_field_of_view_deg:g} degrees and always with a floor, of which the camera is 1 m above.",
        "",
        "`stage1` is EventPretrain's first stage, `distilled` is ScaleEvent's distillation. Its teacher is an image "
        "network that learnt the classes in pictures of the unlabelled worlds: **it has seen labels, of pictures**, "
        "that the other rows have not.",
        "",
    ]
    for task, rows in found.items():
        unit, factor, digits = UNITS[task]
        header = ["row", "labels", unit, "over no pretraining", "less error than without looking"]
        body = [
            [
                row["row"], _labels(row["labels"]), _figure(row, factor, digits),
                _difference(row, factor, digits), "-" if row["row"] == TRIVIAL else f"{row['less_error']:.0%}",
            ]
            for row in rows.values()
        ]  # fmt: skip
        lines += [f"## {task.capitalize()}", "", markdown(header, body), ""]
        if task == "depth" and layout is not None:
            lines += [
                "Who does not look says one depth, the median of the training maps. Who does not look either but says "
                f"the median of each pixel, which is to know where the floor is, has {100 * layout:.1f} %.",
                "",
            ]
        lines += [f"![{task}]({task}.png)", ""]
    if (out / "notes.md").exists():
        lines += [(out / "notes.md").read_text(encoding="utf-8").rstrip(), ""]
    spent = "; ".join(f"{name} {value / 60:.0f} min" for name, value in seconds.items() if value >= 30)
    return "\n".join([*lines, f"Time of this run: {spent}.", ""])


def _figure(row: Mapping[str, Any], factor: float, digits: int) -> str:
    each = [factor * value for value in row["each_seed"]]
    spread = f" ± {np.std(each, ddof=1):.{digits}f}" if len(each) > 1 else ""
    low, high = (factor * end for end in row["interval_95"])
    return f"{np.mean(each):.{digits}f}{spread} [{low:.{digits}f}, {high:.{digits}f}]"


def _difference(row: Mapping[str, Any], factor: float, digits: int) -> str:
    return points(Interval(*row["difference"]), factor, digits) if "difference" in row else "-"


def _labels(text: str) -> str:
    """Return a share of the labels, as `Labels.text` has it, in percent."""
    return f"{100 * float(text):.3g} %" if text not in ("", "all") else text or "-"
