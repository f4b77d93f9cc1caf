"""What suites of transfer come to together: rows over folds and seeds, with intervals over test recordings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventfm.api.transferring import TransferResult
from eventfm.evaluation.intervals import Interval, interval, paired_interval
from eventfm.tasks.metrics import SELECT, build_metrics
from eventfm.visualization.intervals_plot import Mark, dot_plot
from tasks_real.report import Part, points

TRIVIAL = "does not look"


class Line(NamedTuple):
    """One row under one protocol with so many labels."""

    name: str
    protocol: str
    labels: str
    control: str
    """The row that it is compared with; none of a control itself."""
    sums: NDArray[np.float64]
    """(seeds, R, S) what each test recording adds, those of all folds one after the other."""


def lines_of(results: Sequence[TransferResult]) -> list[Line]:
    """Return the lines of suites whose test recordings differ, such as those of folds; last the one that looks not.

    Raises:
        ValueError: The suites do not have the same runs.
    """
    found: dict[tuple[str, str, str, str], list[dict[int, NDArray[np.float64]]]] = {}
    for number, result in enumerate(results):
        for run in result.cells:
            labels = "all" if run.cell.labels.share == 1 else run.cell.labels.text
            key = (run.cell.row.name, run.cell.protocol, labels, run.cell.row.control)
            folds = found.setdefault(key, [{} for _ in results])
            folds[number][run.cell.seed] = by_recording(run.sums, result.groups)
    seeds = sorted({run.cell.seed for result in results for run in result.cells})
    lines = []
    for key, folds in found.items():
        if any(sorted(fold) != seeds for fold in folds):
            raise ValueError(
                f"expected a run of {', '.join(key[:3])} for each of {len(results)} suites and seeds {seeds}"
            )
        lines.append(Line(*key, np.stack([np.concatenate([fold[seed] for fold in folds]) for seed in seeds])))
    blind = np.concatenate([by_recording(result.trivial.sums, result.groups) for result in results])
    protocols, amounts = (list(dict.fromkeys(line[place] for line in lines)) for place in (1, 2))
    amounts.sort(key=lambda text: (text == "all", len(text), text))  # 10 shots before 50, and those before all
    lines.sort(key=lambda line: (protocols.index(line.protocol), amounts.index(line.labels)))
    return [*lines, Line(TRIVIAL, "", "", "", blind[None])]


def by_recording(sums: NDArray[np.float64], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return what each recording adds (R, S), of windows (N, S) in the recordings `groups` (N,)."""
    numbers, place = np.unique(groups, return_inverse=True)
    out = np.zeros((len(numbers), sums.shape[1]))
    np.add.at(out, place.ravel(), sums)
    return out


def scores(lines: Sequence[Line], task: str, num_classes: int) -> dict[str, dict[str, Any]]:
    """Return of each line its figure, each seed's, the interval over recordings, and the difference to its control.

    Over seeds the sums are added up: what is drawn anew are the recordings, with all seeds of each.
    """
    metric, metrics = SELECT[task][0], build_metrics(task, num_classes)
    controls = {(line.name, line.protocol, line.labels): line for line in lines}
    out = {}
    for line in lines:
        each = [metrics.from_sums(seed.sum(axis=0))[metric] for seed in line.sums]
        values: dict[str, Any] = {
            "row": line.name,
            "protocol": line.protocol,
            "labels": line.labels,
            "each_seed": each,
            "mean": float(np.mean(each)),
            "interval_95": list(interval(line.sums.sum(axis=0), metrics.from_sums)[metric][1:]),
        }
        control = controls.get((line.control, line.protocol, line.labels))
        if control is not None:
            found = paired_interval(line.sums.sum(axis=0), control.sums.sum(axis=0), metrics.from_sums)[metric]
            values |= {"control": control.name, "difference": list(found)}
        out[" | ".join(part for part in line[:3] if part)] = values
    return out


def part_of(title: str, text: str, results: Sequence[TransferResult], metric: str, plot: Path) -> Part:
    """Return the part of the page about suites, its plot drawn; `metric` is what people call the figure."""
    first = results[0]
    found = scores(lines_of(results), first.task, len(first.classes))
    rows = []
    for values in found.values():
        each = [100 * value for value in values["each_seed"]]
        spread = f" ± {np.std(each, ddof=1):.1f}" if len(each) > 1 else ""
        low, high = values["interval_95"]
        against = values.get("difference")
        rows.append([
            values["row"], values["protocol"] or "-", values["labels"] or "-",
            f"{np.mean(each):.1f}{spread} [{100 * low:.1f}, {100 * high:.1f}]",
            points(Interval(*against)) if against else "-",
        ])  # fmt: skip
    seen = sorted({f"{name}: {said}" for result in results for name, said in result.seen.items()})
    warning = [f"Warning, pretraining saw test recordings: {'; '.join(seen)}."] if seen else []
    table = (["row", "protocol", "labels", f"{metric}, %", "more than its control, points"], rows)
    marks = [Mark(name, 100 * v["mean"], *(100 * end for end in v["interval_95"])) for name, v in found.items()]
    dot_plot(marks[:-1], f"{metric}, %", marks[-1]).savefig(plot)
    return Part(title, [text, *warning], [table], [plot.name], {"task": first.task, "rows": found})


def require_whole(result: TransferResult, num_encoders: int, runs_of_a_row: int) -> TransferResult:
    """Return the result of a suite that has done all its runs.

    Raises:
        SystemExit: It was stopped.
    """
    rows = {run.cell.row for run in result.cells}
    if len(rows) <= num_encoders or len(result.cells) < len(rows) * runs_of_a_row:
        raise SystemExit("stopped; the same command goes on from here")
    return result
