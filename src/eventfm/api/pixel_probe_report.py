"""The tables of the probe of pixels: on the terminal, in Markdown, and as a report."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from eventfm.api.class_report import class_table
from eventfm.api.text_tables import markdown, print_table
from eventfm.deployment.report import Section, Table, write_report
from eventfm.engine.run_folder import write_atomic

if TYPE_CHECKING:
    from eventfm.api.probing_pixels import PixelProbeResult

HEADER = ["features", "miou", "95 % interval", "class_accuracy", "pixel_accuracy"]
DIFFERENCE_HEADER = ["difference in miou", "value", "95 % interval"]
_INTERVALS = "Intervals are bootstrap ones over test recordings, those of differences paired."


def print_pixel_probe(result: PixelProbeResult) -> None:
    """Print the rows and differences of `result`."""
    print_table(_title(result), HEADER[:3], [row[:3] for row in score_rows(result)])
    if result.differences:
        print_table("Differences (paired bootstrap over recordings)", DIFFERENCE_HEADER, difference_rows(result))


def score_rows(result: PixelProbeResult) -> list[list[str]]:
    """Return one row of text per row of the result, in the order of `HEADER`."""
    rows = []
    for name, scored in result.rows.items():
        found = result.interval(name)
        figures = {key: f"{value:.4f}" for key, value in scored.figures.items()}
        between = f"{found.low:.4f} to {found.high:.4f}" if found else "one recording"
        rows.append([name, figures["miou"], between, figures["class_accuracy"], figures["pixel_accuracy"]])
    return rows


def difference_rows(result: PixelProbeResult) -> list[list[str]]:
    """Return one row of text per difference, in the order of `DIFFERENCE_HEADER`."""
    return [
        [name, f"{found.value:+.4f}", f"{found.low:+.4f} to {found.high:+.4f}"]
        for name, found in result.differences.items()
    ]


def write_pixel_probe(result: PixelProbeResult, config: dict[str, Any]) -> None:
    """Write `results.json`, `table.md` and `report.html` into the result's folder."""
    result.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, scored in result.rows.items():
        found = result.interval(name)
        between = [found.low, found.high] if found else None
        rows.append({
            "name": name, "figures": scored.figures, "interval_95": between, "iou_by_class": list(scored.by_class),
        })  # fmt: skip
    values = {
        "config": config,
        "num_test_windows": len(result.groups),
        "classes": result.classes,
        "rows": rows,
        "differences": {name: found._asdict() for name, found in result.differences.items()},
        "overlap_of_pretraining_and_test": result.overlap,
    }
    write_atomic(result.out / "results.json", json.dumps(values, indent=2) + "\n")
    scores, differences = score_rows(result), difference_rows(result)
    of_classes = class_table(result.classes, {name: scored.by_class for name, scored in result.rows.items()})
    tables = [(HEADER, scores), (DIFFERENCE_HEADER, differences), (list(of_classes.columns), of_classes.rows)]
    write_atomic(result.out / "table.md", "\n\n".join(markdown(*table) for table in tables if table[1]) + "\n")
    write_report(
        result.out / "report.html",
        "Probe of frozen patches",
        [
            Section("Scores", text=_notes(result, config), tables=[Table(HEADER, scores)]),
            *([Section("Differences", tables=[Table(DIFFERENCE_HEADER, differences)])] * bool(differences)),
            Section("Intersection over union of each class", tables=[of_classes]),
            Section("Settings", settings=config),
        ],
    )


def _notes(result: PixelProbeResult, config: dict[str, Any]) -> str:
    text = (
        f"{_title(result)}. Each patch asks the {config['neighbours']} nearest of up to {config['bank']} labelled "
        "patches of the training windows, by the cosine of their frozen tokens, and takes the mean of their shares of "
        "classes; nothing is trained. Answers are upsampled to the size of the labels, the sensor's own. 'untrained' "
        "is the same network with the weights that pretraining started from; 'trivial' says the majority class of the "
        f"training labels everywhere. {_INTERVALS}"
    )
    warning = " Warning: an encoder was pretrained, without labels, on recordings that it is scored on here."
    return text + warning * result.overlap


def _title(result: PixelProbeResult) -> str:
    warning = " (pretraining saw test recordings)" if result.overlap else ""
    return f"Neighbours of patches, {len(result.groups)} test windows{warning}"
