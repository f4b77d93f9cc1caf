"""Metrics of the tasks, pooled over a whole set of samples.

Every figure is a function of sums over samples, kept in float64. So it depends neither on the size of the batches nor
on the order of the samples or the number of ranks, and samples can be drawn again for an interval. A mean over batches
of a figure per batch, as is common, is none of that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from eventfm.registry import UnknownNameError, did_you_mean
from eventfm.tasks.metrics_classes import RecognitionMeasure, SegmentationMeasure
from eventfm.tasks.metrics_depth import Align, DepthMeasure
from eventfm.tasks.metrics_flow import FlowMeasure

SELECT: dict[str, tuple[str, Callable[..., Any]]] = {
    "recognition": ("top1", max),
    "segmentation": ("miou", max),
    "flow": ("epe", min),
    "depth": ("abs_rel", min),
}
"""The figure that a model of a task is chosen by, and whether more or less of it is better."""


class Measure(Protocol):
    """What one task adds up, and what it makes of the sums."""

    width: int

    def per_sample(self, prediction: Mapping[str, Tensor], batch: Mapping[str, Any]) -> Tensor:
        """Return what each sample adds, (B, width) float64."""
        ...

    def figures(self, sums: NDArray[np.float64]) -> dict[str, float]:
        """Return the figures by name, of `sums` (width,)."""
        ...


class TaskMetrics(Metric):
    """Sums over all samples seen, on all ranks, and the figures that follow from them."""

    full_state_update = False
    sums: Tensor

    def __init__(self, measure: Measure) -> None:
        super().__init__()
        self.measure = measure
        self.add_state("sums", torch.zeros(measure.width, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, prediction: Mapping[str, Tensor], batch: Mapping[str, Any]) -> None:
        """Add the samples of `batch`, for which a model said `prediction`.

        Raises:
            ValueError: Something is missing, of the wrong size, not finite, or of a class that there is not.
        """
        self.sums += self.per_sample(prediction, batch).sum(0)

    def compute(self) -> dict[str, float]:
        """Return the figures by name over all samples of all ranks.

        Raises:
            NothingMeasuredError: No sample had anything to measure.
        """
        return self.from_sums(self.sums)

    @torch.no_grad()
    def per_sample(self, prediction: Mapping[str, Tensor], batch: Mapping[str, Any]) -> Tensor:
        """Return what each sample adds to the sums, (B, S) float64, without adding it."""
        return self.measure.per_sample(prediction, batch)

    def from_sums(self, sums: Tensor | NDArray[np.float64]) -> dict[str, float]:
        """Return the figures by name of `sums` (S,), those of any samples added up.

        Raises:
            NothingMeasuredError: Those samples had nothing to measure.
        """
        values = sums.detach().cpu().numpy() if isinstance(sums, Tensor) else np.asarray(sums)
        return self.measure.figures(values.astype(np.float64))


def build_metrics(
    task: str, num_classes: int | None = None, *, align: Align = "none", max_depth: float | None = None
) -> TaskMetrics:
    """Return the metrics of `task`; `align` and `max_depth` (metres) are for depth, see `DepthMeasure`.

    Raises:
        UnknownNameError: There is no such task.
        ValueError: Segmentation without a number of classes, or an option that does not fit the task.
    """
    if task != "depth" and (align != "none" or max_depth is not None):
        raise ValueError(f"align and max_depth are options of depth, got them for {task}")
    match task:
        case "recognition":
            return TaskMetrics(RecognitionMeasure(num_classes))
        case "segmentation":
            if num_classes is None:
                raise ValueError("expected a number of classes for the metrics of segmentation, got none")
            return TaskMetrics(SegmentationMeasure(num_classes))
        case "flow":
            return TaskMetrics(FlowMeasure())
        case "depth":
            return TaskMetrics(DepthMeasure(align, max_depth))
    raise UnknownNameError(f"unknown task {task!r}{did_you_mean(task, sorted(SELECT))}")
