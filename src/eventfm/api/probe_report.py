"""The tables of the probe of whole recordings: on the terminal, in Markdown, and as a report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventfm.api.text_tables import markdown, print_table
from eventfm.deployment.report import Section, Table, write_report
from eventfm.engine.run_folder import write_atomic

if TYPE_CHECKING:
    from eventfm.api.evaluating import ProbeResult

HEADER = ["features", "probe", "accuracy", "95 % interval"]
DIFFERENCE_HEADER = ["difference", "points", "95 % interval (paired bootstrap)"]
_SHORT_HEADER = ["difference", "points", "95 % interval"]


def print_probe(result: ProbeResult) -> None:
    """Print the rows and differences of `result`."""
    print_table(_title(result), HEADER, score_rows(result))
    print_table("Differences in accuracy (paired bootstrap)", _SHORT_HEADER, difference_rows(result))


def score_rows(result: ProbeResult) -> list[list[str]]:
    """Return one row of text per score, in the order of `HEADER`."""
    rows = []
    for s in result.scores:
        low, high = s.interval()
        rows.append([s.name, s.probe, f"{100 * s.accuracy:.1f} %", f"{100 * low:.1f} to {100 * high:.1f}"])
    return rows


def difference_rows(result: ProbeResult) -> list[list[str]]:
    """Return one row of text per difference, in the order of `DIFFERENCE_HEADER`."""
    return [
        [name, f"{100 * value:+.1f}", f"{100 * low:+.1f} to {100 * high:+.1f}"]
        for name, (value, low, high) in result.differences.items()
    ]


def write_probe_report(result: ProbeResult, config: dict[str, Any]) -> None:
    """Write `table.md` and `report.html` into the result's folder."""
    scores, differences = score_rows(result), difference_rows(result)
    write_atomic(result.out / "table.md", f"{markdown(HEADER, scores)}\n\n{markdown(DIFFERENCE_HEADER, differences)}\n")
    notes = [
        "Every setting of a probe was chosen by cross-validation inside its training part. 'untrained' is the same "
        "network with the weights that pretraining started from. 'counts' are log counts of events per pixel and "
        "polarity over the whole recording, without any network.",
        f"A classifier that guesses would be right in {100 / max(result.num_classes, 1):.1f} % with balanced classes.",
    ]
    if result.overlap:
        notes.append("Warning: an encoder was pretrained, without labels, on recordings that it is scored on here.")
    write_report(
        result.out / "report.html",
        "Probe of frozen features",
        [
            Section("Accuracy", text=" ".join(notes), tables=[Table(HEADER, scores)]),
            Section("What pretraining adds", tables=[Table(DIFFERENCE_HEADER, differences)]),
            Section("Settings", settings=config),
        ],
    )


def _title(result: ProbeResult) -> str:
    warning = " (pretraining saw test recordings)" if result.overlap else ""
    return f"Accuracy on {len(result.scores[0].correct)} recordings{warning}"
