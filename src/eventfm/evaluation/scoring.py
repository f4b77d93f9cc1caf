"""What answers to a task are worth on a set of samples, and what each sample adds to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eventfm.data.loader import SampleSet, evaluation_batches
from eventfm.engine.feed import to_device
from eventfm.protocols import Batch
from eventfm.tasks.metrics import build_metrics

Predict = Callable[[Batch], dict[str, Tensor]]
"""What answers a batch, such as an objective's `predict` in evaluation mode."""


class Scored(NamedTuple):
    """Figures of a set of samples."""

    figures: dict[str, float]
    """By the names of `tasks.metrics`, pooled over the whole set."""
    sums: NDArray[np.float64]
    """(N, S), what each sample adds; figures are a function of their sum (`TaskMetrics.from_sums`)."""


@torch.no_grad()
def score_task(
    predict: Predict,
    task: str,
    samples: SampleSet,
    num_classes: int | None = None,
    *,
    batch_size: int = 16,
    device: str | torch.device = "cpu",
    pixel: tuple[float, float] = (1.0, 1.0),
    **options: Any,
) -> Scored:
    """Return what `predict` reaches on `samples`, each seen once and without augmentation.

    `pixel` is the width and height of a pixel of the input in pixels of the sensor, in which flow is measured, so that
    inputs of other sizes compare. `options` are those of `tasks.metrics.build_metrics`.

    Raises:
        ValueError: No sample has anything to measure.
    """
    metrics = build_metrics(task, num_classes, **options)
    rows: list[Tensor] = []
    for batch in evaluation_batches(samples, batch_size):
        batch = to_device(batch, torch.device(device))
        answer = predict(batch)
        if task == "flow":
            scale = torch.tensor(pixel, device=answer["flow"].device).view(1, 2, 1, 1)
            answer, batch = {"flow": answer["flow"] * scale}, {**batch, "flow": batch["flow"] * scale}
        rows.append(metrics.per_sample(answer, batch).double().cpu())
    sums = torch.cat(rows)
    return Scored(metrics.from_sums(sums.sum(0)), sums.numpy())
