"""Pictures of what models answer for the scenes, beside what is true and the events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventfm.events import Events
from eventfm.tasks.metrics import build_metrics
from eventfm.visualization.dense import depth_map
from eventfm.visualization.events import event_picture
from eventfm.visualization.flow import flow_picture, flow_wheel
from eventfm.visualization.panel import Picture, panel
from tasks_real.scoring import ALIGNED, aligned, sums_of

_WIDE = 320
"""Pixels that larger pictures are brought down to."""
_LINE = 208
"""Grey of the line around a picture."""

Cell = tuple[str, Picture]


class Case(NamedTuple):
    """A window with its label and what was answered."""

    name: str
    events: Events
    truth: NDArray[np.float32]
    """(2, H, W) flow or (H, W) depth, NaN where unknown."""
    answer: NDArray[np.float32]


def draw(task: str, cases: Sequence[Case]) -> Picture:
    """Return a picture with a row for each case, events, truth and answer, and below it the key to the colours."""
    rows = [[(f"events: {case.name}", _small(event_picture(case.events))), *_maps(task, case)] for case in cases]
    if task == "flow":
        key = [("direction; white is at rest", flow_wheel(96))]
    else:
        key = [("near to far", depth_map(np.geomspace(1, 10, _WIDE)[None].repeat(16, axis=0)))]
    return panel([*rows, key], cell_height=1)


def _maps(task: str, case: Case) -> list[Cell]:
    align = ALIGNED[task][0]
    added = sums_of(task, case.answer, case.truth, case.events, align, max(case.truth.shape)).sum(axis=0)
    found = build_metrics(task).from_sums(added)
    known = np.isfinite(case.truth)
    if task == "flow":
        lengths = np.hypot(*case.truth[:, known.all(axis=0)])
        limit = max(float(np.percentile(lengths, 99)), 1e-3)
        return [
            (f"truth, full colour from {limit:.3g} px", _small(flow_picture(case.truth, None, limit))),
            (f"answer, EPE {found['epe']:.2f} px", _small(flow_picture(case.answer, None, limit))),
        ]
    near, far = (float(end) for end in np.percentile(case.truth[known], (1, 99)))
    answer = aligned(case.answer, case.truth, align)
    return [
        (f"truth, {near:.3g} to {far:.3g}", _small(depth_map(case.truth, (near, far)))),
        (f"answer, AbsRel {found['abs_rel']:.2f}", _small(depth_map(answer, (near, far)))),
    ]


def _small(picture: Picture) -> Picture:
    """Return a picture of at most so many pixels across, with a line around it, for much of it may be white."""
    import cv2

    width = min(_WIDE, picture.shape[1])
    height = round(picture.shape[0] * width / picture.shape[1])
    small = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA))
    return np.pad(small, ((1, 1), (1, 1), (0, 0)), constant_values=_LINE)
