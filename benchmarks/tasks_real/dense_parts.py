"""The parts of the page on flow and depth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eventfm.evaluation.intervals import Interval
from eventfm.tasks.metrics import build_metrics
from tasks_real.dense import Scored, filmed, scored_rows
from tasks_real.middlebury import depth_views, flow_pairs
from tasks_real.report import Part, Table, cell, points
from tasks_real.scoring import ALIGNED, differences, figures, pooled
from tasks_real.settings import Settings

SHOWN = {"flow": ("epe", "epe_events", "outliers_3px", "angular_error"), "depth": ("abs_rel", "delta1", "rmse_log")}
HEADERS = {
    "epe": "EPE, px", "epe_events": "EPE where events are, px", "outliers_3px": "off by more than 3 px, %",
    "angular_error": "angle, degrees", "abs_rel": "AbsRel, %", "delta1": "delta1, %", "rmse_log": "RMSE of log",
}  # fmt: skip
IN_PERCENT = ("outliers_3px", "abs_rel", "delta1")
ALIGNMENTS = {"none": "", "median": "scale", "scale_shift": "scale and shift"}


def flow_part(data: Path, out: Path, models: Sequence[Path], settings: Settings) -> Part:
    """Return what models of flow come to on the pairs of Middlebury."""
    text = (
        f"Each pair's `frame10` moves along s times its measured flow, s from 0 to 1 in {settings.window_us / 1000:g} "
        "ms, which is the window, and from -1 to 0 in the window before it; a simulated sensor as large as the picture "
        f"(`{settings.preset}`) sends the events. Pixels without measured flow, those that leave the picture and those "
        "that others hide at the end are left out; where pixels come to one place, that is in front which `frame11` "
        "shows there. The truth is that of real pictures (two of the four are rendered: Grove2, Urban2); the motion "
        "between them is straight and even, which the real one need not be."
    )
    return _part("flow", "Flow: Middlebury pairs", text, flow_pairs(data, settings), out, models, settings)


def depth_part(data: Path, out: Path, models: Sequence[Path], settings: Settings) -> Part:
    """Return what models of depth come to on the two views of Cones."""
    count, window = settings.depth_windows, settings.window_us / 1000
    text = (
        "Evaluation only, one scene. A camera goes from the place of view 6 to that of view 2, and from that of view 2 "
        f"to that of view 6, in {count * window:g} ms: what the view at the end shows moves by s times its disparity, "
        "s from 1 to 0, the nearer in front, and what it does not show is seen in the other view. Depth is scored at "
        f"the ends of {count} windows of {window:g} ms. It is relative, one over the disparity, so each answer is "
        "first brought to the truth's scale by the ratio of the medians (scale), or, as the zero of the disparities is "
        "not certain either, its inverse by least squares (scale and shift). One depth everywhere becomes the "
        "median of the truth so."
    )
    return _part("depth", "Depth: Middlebury Cones", text, depth_views(data, settings), out, models, settings)


def _part(
    task: str,
    title: str,
    text: str,
    makers: Mapping[str, Callable[[], Any]],
    out: Path,
    models: Sequence[Path],
    settings: Settings,
) -> Part:
    files, checks = filmed(out / "scenes" / task, makers)
    rows = scored_rows(task, out, files, models, settings)
    values = {row.title: _values(task, row, rows[0]) for row in rows}
    about = (
        f"Intervals are over blocks of {settings.block}x{settings.block} pixels, the windows of one together, and "
        f"differences are paired by block: they say how sure a figure is of these {len(files)} scenes, and little of "
        "others. Models see the pictures as `eventfm predict` scales them (the shorter side fills their input) or "
        "pixel by pixel (scale 1), in tiles."
    )
    compared = (
        "The last table has the mean absolute difference, in grey levels of 255, of the moved picture from real ones "
        "of the same scene, and that of the picture at rest. Pictures are of the rows with the smallest and the "
        "largest error."
    )
    tables = [_main_table(task, values), _scene_table(task, list(files), rows), _check_table(checks)]
    in_order = sorted(rows[1:], key=lambda row: _main_figure(task, values[row.title]))
    pictures = list(dict.fromkeys(str(row.picture.relative_to(out)) for row in (in_order[0], in_order[-1])))
    return Part(title, [text, about, compared], tables, pictures, {"scenes": checks, "rows": values})


def _values(task: str, row: Scored, blind: Scored) -> dict[str, Any]:
    """Return the figures of a row under each alignment, and the differences to the answer that does not look."""
    out = {}
    for align in ALIGNED[task]:
        sums, base = pooled(row.sums[align]), pooled(blind.sums[align])
        out[align] = {"figures": {name: list(found) for name, found in figures(task, sums).items()}}
        if row is not blind:
            found = differences(task, sums, base)
            out[align]["differences"] = {name: list(value) for name, value in found.items()}
    return out


def _main_figure(task: str, by_align: Mapping[str, Any]) -> float:
    """Return the first figure that is shown, as answers are aligned first; less is better."""
    return float(by_align[ALIGNED[task][0]]["figures"][SHOWN[task][0]][0])


def _main_table(task: str, values: Mapping[str, Any]) -> Table:
    main = SHOWN[task][0]
    header = ["row", *(["brought to the truth by"] if task == "depth" else [])]
    header += [HEADERS[name] for name in SHOWN[task]]
    header += [f"{HEADERS[main].partition(',')[0]} more than {next(iter(values))}"]
    rows = []
    for title, by_align in values.items():
        for align, found in by_align.items():
            shown = {name: Interval(*value) for name, value in found["figures"].items()}
            against = found.get("differences", {}).get(main)
            rows.append([
                title, *([ALIGNMENTS[align]] if task == "depth" else []),
                *(cell(shown.get(name), _factor(name), _digits(name)) for name in SHOWN[task]),
                points(Interval(*against) if against else None, _factor(main), _digits(main)),
            ])  # fmt: skip
    return header, rows


def _scene_table(task: str, names: Sequence[str], rows: Sequence[Scored]) -> Table:
    """Return the main figure of each scene."""
    metric, metrics, align = SHOWN[task][0], build_metrics(task), ALIGNED[task][0]
    lines = []
    for row in rows:
        sums = [np.array(row.sums[align][name]).sum(axis=0) for name in names]
        found = [_factor(metric) * metrics.from_sums(of_scene)[metric] for of_scene in sums]
        lines.append([row.title, *(f"{value:.{_digits(metric)}f}" for value in found)])
    return [f"{HEADERS[metric]}, of each scene", *names], lines


def _check_table(checks: Mapping[str, Mapping[str, Any]]) -> Table:
    header = ["scene", "events", "pixels with truth, %", "beside", "moved", "at rest"]
    rows = []
    for name, check in checks.items():
        for picture, found in check.items():
            if isinstance(found, Mapping):
                first = [name, str(check["num_events"]), f"{100 * check['known']:.1f}"]
                rows.append([*first, picture, f"{found['moved']:.2f}", f"{found['at_rest']:.2f}"])
    return header, rows


def _factor(name: str) -> float:
    return 100.0 if name in IN_PERCENT else 1.0


def _digits(name: str) -> int:
    return 1 if name in (*IN_PERCENT, "angular_error") else 2
