"""The table, plots and report of the transfer suite."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventfm.api.class_report import class_table, difference_by_class, mean_by_class
from eventfm.api.text_tables import markdown, print_table
from eventfm.api.transfer_cells import CellResult, Labels, Row, described
from eventfm.deployment.report import Section, Table, write_report
from eventfm.engine.run_folder import write_atomic
from eventfm.evaluation.intervals import Interval, added_up, paired_interval, seed_interval
from eventfm.tasks.metrics import SELECT, build_metrics
from eventfm.tasks.metrics_classes import BY_CLASS
from eventfm.visualization.files import read_picture
from eventfm.visualization.intervals_plot import Mark, dot_plot, label_curves

if TYPE_CHECKING:
    from eventfm.api.transferring import TransferResult

SHOWN = {
    "recognition": ("top1", "top5"),
    "segmentation": ("miou", "class_accuracy", "pixel_accuracy"),
    "flow": ("epe", "outliers_3px", "angular_error"),
    "depth": ("abs_rel", "rmse", "delta1"),
}
"""Figures in the table; `results.json` has all."""
_COUNTED = {"share": "share of the training labels", "shots": "number of labels of each class"}
_DIFFERENCE = "difference"
_TRIVIAL = "trivial (does not look)"
_CLASSES = (
    "Each encoder under the protocol that suits it best, with the most labels, beside its control under the same; "
    "means over seeds. A class that occurs nowhere has no figure."
)


class Line(NamedTuple):
    """One line of the table: a row under one protocol with so many labels, over all seeds that are done."""

    row: Row
    protocol: str
    labels: Labels
    results: tuple[CellResult, ...]

    @property
    def name(self) -> str:
        """What the line is called in plots."""
        return f"{self.row.name}, {self.protocol}, labels {self.labels.text}"

    def values(self, figure: str) -> list[float]:
        """Return a figure, seed by seed."""
        return [result.figures[figure] for result in self.results if figure in result.figures]

    @property
    def by_class(self) -> list[float | None]:
        """The figure of each class, mean over seeds; empty for tasks without classes."""
        return mean_by_class([result.by_class for result in self.results])

    def mark(self, figure: str) -> Mark:
        """Return the mean of a figure over seeds, with the interval of the mean where there are two seeds or more."""
        values = self.values(figure)
        if len(values) < 2:
            return Mark(self.name, values[0])
        found = seed_interval(values)
        return Mark(self.name, found.mean, found.low, found.high)


def lines_of(result: TransferResult) -> list[Line]:
    """Return the lines of the table, in the order in which they were begun."""
    grouped: dict[tuple[Row, str, Labels], list[CellResult]] = {}
    for found in result.cells:
        grouped.setdefault((found.cell.row, found.cell.protocol, found.cell.labels), []).append(found)
    return [Line(*key, tuple(members)) for key, members in grouped.items()]


def differences_of(result: TransferResult) -> dict[str, Interval]:
    """Return what each pretrained row adds to its control, seeds pooled, with paired intervals over recordings."""
    lines = lines_of(result)
    metric, _ = SELECT[result.task]
    metrics = build_metrics(result.task, len(result.classes) or None)
    found: dict[str, Interval] = {}
    for line in lines:
        control = next((other for other in lines if _is_control(other, line)), None)
        if line.row.weights != "pretrained" or control is None:
            continue
        a, b = (_pooled(of, [r.cell.seed for r in line.results], result.groups) for of in (line, control))
        if a is not None and b is not None and len(a) > 1:
            intervals = paired_interval(a, b, metrics.from_sums)
            if metric in intervals:
                found[f"{line.name} - {control.row.name}"] = intervals[metric]
    return found


def write_transfer(result: TransferResult, config: dict[str, Any]) -> None:
    """Write `results.json`, `table.md`, the plots and `report.html`, and print the table."""
    lines, metric = lines_of(result), SELECT[result.task][0]
    header, rows = table_of(result, lines)
    differences = differences_of(result)
    values = {
        "config": config,
        "task": result.task,
        "num_test_windows": len(result.groups),
        "classes": result.classes,
        "trivial": {**result.trivial.figures, **_of_classes(result.task, result.trivial.by_class)},
        "runs": [
            {**described(r.cell), "step": r.step, "figures": r.figures, **_of_classes(result.task, r.by_class)}
            for r in result.cells
        ],
        "differences": {name: found._asdict() for name, found in differences.items()},
        "seen_in_pretraining": result.seen,
    }
    write_atomic(result.out / "results.json", json.dumps(values, indent=2) + "\n")
    text = [[name, f"{f.value:+.4f}", f"{f.low:+.4f} to {f.high:+.4f}"] for name, f in differences.items()]
    second = ["difference in " + metric, "value", "95 % interval (paired bootstrap over recordings)"]
    of_classes = class_tables(result, lines)
    parts = [markdown(header, rows), markdown(second, text)]
    parts += [f"{table.caption}\n\n{markdown(list(table.columns), table.rows)}" for table in of_classes]
    warning = warning_of(result)
    write_atomic(result.out / "table.md", "\n\n".join([*parts, *warning]) + "\n")
    trivial = Mark("trivial", result.trivial.figures[metric])
    drawn = _with_most_labels(lines)
    names = [line.row.name for line in drawn]
    plots = [("", dot_plot([line.mark(metric) for line in drawn], metric, trivial, names))] if drawn else []
    plots += label_plots(lines, metric, trivial)
    write_report(
        result.out / "report.html",
        f"Transfer to {result.task}",
        [
            Section("Scores", text=_notes(result), tables=[Table(header, rows)], pictures=plots),
            Section("What pretraining adds", tables=[Table(second, text)]),
            *([Section("Classes", text=_CLASSES, tables=of_classes)] if of_classes else []),
            Section("Best and worst test windows", pictures=_cases(result)),
            Section("Settings", settings=config),
        ],
    )
    print_table(*short_table(result, lines))
    for line in warning:
        print(line)
    print(f"all figures: {result.out / 'table.md'}")


def table_of(result: TransferResult, lines: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the table."""
    metric, *others = SHOWN[result.task]
    header = ["row", "protocol", "labels", "seeds", metric, "std over seeds", "95 % interval over seeds", *others]
    rows = []
    for line in lines:
        mark, values = line.mark(metric), line.values(metric)
        rows.append([
            line.row.name, line.protocol, line.labels.text, str(len(values)), f"{mark.value:.4f}",
            f"{np.std(values, ddof=1):.4f}" if len(values) > 1 else "one seed",
            f"{mark.low:.4f} to {mark.high:.4f}" if mark.low is not None else "one seed",
            *(f"{np.mean(line.values(name)):.4f}" if line.values(name) else "" for name in others),
        ])  # fmt: skip
    figures = result.trivial.figures
    rest = [f"{figures[name]:.4f}" if name in figures else "" for name in others]
    rows.append([_TRIVIAL, "", "1", "", f"{figures[metric]:.4f}", "", "", *rest])
    return header, rows


def short_table(result: TransferResult, lines: Sequence[Line]) -> tuple[str, list[str], list[list[str]]]:
    """Return title, header and rows of the table in 80 columns: the figure that steps are chosen by, and no other."""
    metric, _ = SELECT[result.task]
    title = f"{result.task}, {len(result.groups)} test windows: mean over seeds, ± half its 95 % interval"
    rows = [[line.row.name, line.protocol, line.labels.text, _short(line.mark(metric))] for line in lines]
    rows.append([_TRIVIAL, "", "", f"{result.trivial.figures[metric]:.4f}"])
    return title, ["row", "protocol", "labels", metric], rows


def _short(mark: Mark) -> str:
    return f"{mark.value:.4f}" + (f" ± {mark.high - mark.value:.4f}" if mark.high is not None else "")


def _notes(result: TransferResult) -> str:
    text = (
        f"{len(result.groups)} test windows of {len(np.unique(result.groups))} recordings. Every run had the same "
        "budget and chose its step by validation windows; test recordings were seen once, at the end, not augmented. "
        "'without pretraining' is the same network with weights drawn anew: trained with full, partial or lora, left "
        "as it is with linear. 'trivial' does not look at its input: the majority class, no motion, or the median "
        "depth of the training labels. "
    )
    if result.task != "recognition":
        text += (
            "Answers are brought to the size of the labels, the sensor's own, before they are measured; what of the "
            "sensor the input does not show is not. "
        )
    if result.task == "flow":
        text += "Flow is measured in pixels of the sensor. "
    return text + " ".join(warning_of(result))


def warning_of(result: TransferResult) -> list[str]:
    """Return the sentence on encoders that were pretrained on test recordings; none where there is no such."""
    seen = "; ".join(f"{row}: {said}" for row, said in result.seen.items() if said)
    return [f"Warning, pretraining saw test recordings: {seen}"] if seen else []


def _is_control(other: Line, line: Line) -> bool:
    return (
        other.row.weights == "scratch"
        and other.row.name == line.row.control
        and (other.protocol, other.labels) == (line.protocol, line.labels)
    )


def _pooled(line: Line, seeds: Sequence[int], groups: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """Return one row of sums per test recording, over `seeds`; None where the line lacks one of them."""
    of_seed = {result.cell.seed: result.sums for result in line.results}
    if any(seed not in of_seed for seed in seeds):
        return None
    return added_up(np.sum([of_seed[seed] for seed in seeds], axis=0), groups)


def class_tables(result: TransferResult, lines: Sequence[Line]) -> list[Table]:
    """Return a table for each pretrained encoder: what it reaches on each class, and what it would without that.

    Each is of the encoder's best protocol with the most labels, seeds averaged.
    """
    if result.task not in BY_CLASS:
        return []
    metric, better = SELECT[result.task]
    tables = []
    for row in dict.fromkeys(line.row for line in lines if line.row.weights == "pretrained"):
        own = [line for line in lines if line.row == row]
        most = max((line.labels for line in own), key=_amount)
        best = better((line for line in own if line.labels == most), key=lambda line: line.mark(metric).value)
        columns = {row.name: best.by_class}
        if control := next((other for other in lines if _is_control(other, best)), None):
            columns[control.row.name] = control.by_class
            columns[_DIFFERENCE] = difference_by_class(best.by_class, control.by_class)
        columns["trivial"] = result.trivial.by_class
        caption = f"{BY_CLASS[result.task]} of each class: {best.name}, seeds: {len(best.results)}"
        tables.append(class_table(result.classes, columns, caption, _DIFFERENCE))
    return tables


def label_plots(lines: Sequence[Line], metric: str, trivial: Mark) -> list[tuple[str, Any]]:
    """Return, for each protocol with several numbers of labels, what rows reach over them, as (caption, figure)."""
    plots: list[tuple[str, Any]] = []
    dashed = {line.row.name for line in lines if line.row.weights == "scratch"}
    for protocol in dict.fromkeys(line.protocol for line in lines):
        for kind, counted in _COUNTED.items():
            rows: dict[str, list[tuple[float, Mark]]] = {}
            for line in lines:
                amount = getattr(line.labels, kind)
                if line.protocol == protocol and amount is not None:
                    rows.setdefault(line.row.name, []).append((amount, line.mark(metric)))
            rows = {name: points for name, points in rows.items() if len(points) > 1}
            if rows:
                plots.append((f"{protocol}, over the {counted}", label_curves(rows, metric, counted, dashed, trivial)))
    return plots


def _with_most_labels(lines: Sequence[Line]) -> list[Line]:
    """Return the lines with the greatest share of labels and those with the most shots; curves have the others."""
    most = {
        max((line.labels for line in lines if getattr(line.labels, kind)), key=_amount, default=None)
        for kind in _COUNTED
    }
    return [line for line in lines if line.labels in most]


def _amount(labels: Labels) -> tuple[bool, float]:
    """Return what orders numbers of labels; shares, the whole of which is 1, come after shots."""
    return labels.share is not None, labels.share or labels.shots or 0


def _of_classes(task: str, by_class: Sequence[float | None]) -> dict[str, Any]:
    """Return the figures of classes as `results.json` has them."""
    return {f"{BY_CLASS[task]}_by_class": list(by_class)} if task in BY_CLASS else {}


def _cases(result: TransferResult) -> list[tuple[str, Any]]:
    first = min((r.cell.seed for r in result.cells), default=0)
    files = [(r, result.out / "cells" / f"{r.cell.slug}.png") for r in result.cells if r.cell.seed == first]
    return [
        (f"{r.cell.row.name}, {r.cell.protocol}, labels {r.cell.labels.text}", read_picture(file))
        for r, file in files
        if file.exists()
    ]
