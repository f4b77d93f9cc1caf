"""Answers of a model beside the events that they are about, for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from eventfm.deployment.predicting import Answer
from eventfm.visualization.dense import depth_map
from eventfm.visualization.events import event_picture
from eventfm.visualization.flow import flow_picture, flow_wheel
from eventfm.visualization.masks import class_picture, legend
from eventfm.visualization.panel import Picture, panel

Cell = tuple[str, Picture]

_KEY_PX = 240
"""Least width of the key in a video: that of the longest time above it, so that all frames have one size."""
_LINE = 208
"""Grey of the line around a picture."""
_PER_ROW = 3
"""Windows in a row where each is one picture."""
_NEAR_PX = 2
"""So far around an event an answer counts as one where events are."""


@dataclass(frozen=True)
class Drawing:
    """Draws all answers of one recording alike."""

    task: str
    classes: tuple[str, ...]
    """Their names, by number, of tasks that have such."""
    start_us: int
    """What counts as second 0."""
    limits: tuple[float, float]
    """The ends of the scale of flow, pixels, or of depth, metres."""

    def frame(self, answer: Answer) -> Picture:
        """Return events, answer and key side by side, and when; of one size for all answers of a sensor."""
        key = self._key()
        missing = max(0, _KEY_PX - key.shape[1])
        key = np.pad(key, ((0, 0), (0, missing), (0, 0)), constant_values=255)
        return panel([[("events", _events(answer)), *self._answers(answer), (self._when(answer), key)]])

    def sheet(self, answers: Sequence[Answer]) -> Picture:
        """Return one picture of several answers, with one key."""
        if self.task == "recognition":
            cells = [(f"{self._when(answer)}: {self._said(answer.values)}", _events(answer)) for answer in answers]
            return panel([cells[start : start + _PER_ROW] for start in range(0, len(cells), _PER_ROW)])
        rows = [[(self._when(answer), _events(answer)), *self._answers(answer)] for answer in answers]
        rows[0].append(("", self._key()))
        return panel(rows)

    def _when(self, answer: Answer) -> str:
        begin, end = ((t - self.start_us) / 1e6 for t in answer.t_us)
        return f"{begin:.3f} to {end:.3f} s"

    def _said(self, shares: NDArray[np.float32]) -> str:
        best = int(shares.argmax())
        return f"{self.classes[best]} {shares[best]:.0%}"

    def _answers(self, answer: Answer) -> list[Cell]:
        """Return the answer and, of flow and depth, the part of it that events speak for."""
        if self.task == "segmentation":
            return [("classes", _framed(class_picture(answer.values, self.classes)))]
        near, far = self.limits
        seen = np.where(_near_events(answer), answer.values, np.float32(np.nan))
        if self.task == "flow":
            label = f"flow, full colour from {far:.3g} pixels on"
            draw = partial(flow_picture, limit=far)
        else:
            label = f"depth, {near:.3g} m (bright) to {far:.3g} m (dark)"
            draw = partial(depth_map, limits=self.limits)
        return [(label, _framed(draw(answer.values))), ("where there are events", _framed(draw(seen)))]

    def _key(self) -> Picture:
        if self.task == "segmentation":
            return legend(self.classes)
        if self.task == "flow":
            return flow_wheel(192)
        return depth_map(np.geomspace(*self.limits, 192)[:, None].repeat(24, axis=1), self.limits)


def drawing(task: str, classes: tuple[str, ...], start_us: int, few: Sequence[Answer]) -> Drawing:
    """Return how the answers of a recording are drawn, on the scale that `few` of them, from all over it, need."""
    return Drawing(task, classes, start_us, _limits(task, [answer.values for answer in few]))


def _near_events(answer: Answer) -> NDArray[np.bool_]:
    """Return which pixels (H, W) have an event within `_NEAR_PX`."""
    import cv2

    seen = np.zeros(answer.values.shape[-2:], np.uint8)
    seen[answer.events.y, answer.events.x] = 1
    side = 2 * _NEAR_PX + 1
    return cv2.dilate(seen, np.ones((side, side), np.uint8)) > 0


def _events(answer: Answer) -> Picture:
    return _framed(event_picture(answer.events))


def _framed(picture: Picture) -> Picture:
    """Return `picture` with a line around it, for much of it may be as white as what is around."""
    return np.pad(picture, ((1, 1), (1, 1), (0, 0)), constant_values=_LINE)


def _limits(task: str, values: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    """Return the ends of a scale that is neither stretched by a few odd pixels nor empty."""
    if task not in ("flow", "depth"):
        return 0.0, 1.0
    sizes = [np.hypot(*value) if task == "flow" else value for value in values]
    known = np.concatenate([np.empty(0, np.float32), *(size[np.isfinite(size) & (size > 0)] for size in sizes)])
    near, far = np.percentile(known, (1, 99)) if len(known) else (1.0, 2.0)
    return float(near), max(float(far), 1.01 * float(near))
