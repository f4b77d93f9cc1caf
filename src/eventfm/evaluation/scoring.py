"""What answers to a task are worth on a set of samples, and what each sample adds to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from eventfm.data.loader import SampleSet, evaluation_batches
from eventfm.engine.feed import to_device
from eventfm.protocols import Batch
from eventfm.tasks.metrics import TaskMetrics, build_metrics
from eventfm.tasks.metrics_classes import accuracy_by_class, iou_by_class

Predict = Callable[[Batch], dict[str, Tensor]]
"""What answers a batch, such as an objective's `predict` in evaluation mode."""

_ANSWERS = {"segmentation": ("logits", "semantic"), "flow": ("flow", "flow"), "depth": ("depth", "depth")}
"""Of tasks with an answer for every pixel: what it is called, and what its label is called."""
_MEASURED = ("semantic", "flow", "depth", "seen")


class Scored(NamedTuple):
    """Figures of a set of samples."""

    figures: dict[str, float]
    """By the names of `tasks.metrics`, pooled over the whole set."""
    sums: NDArray[np.float64]
    """(N, S), what each sample adds; figures are a function of their sum (`TaskMetrics.from_sums`)."""
    by_class: tuple[float | None, ...] = ()
    """`tasks.metrics_classes.BY_CLASS` of each class, None for one that occurs nowhere; none of tasks without such."""


@torch.no_grad()
def score_task(
    predict: Predict,
    task: str,
    samples: SampleSet,
    num_classes: int | None = None,
    *,
    batch_size: int = 16,
    device: str | torch.device = "cpu",
    **options: Any,
) -> Scored:
    """Return what `predict` reaches on `samples`, each seen once and without augmentation.

    Labels are measured as they are: where they are of another size than the answers, as with samples of
    `label_size="sensor"`, the answers are brought to theirs (`at_label`). `options` are those of
    `tasks.metrics.build_metrics`.

    Raises:
        ValueError: No sample has anything to measure.
    """
    metrics = build_metrics(task, num_classes, **options)
    rows: list[Tensor] = []
    labels: list[Tensor] = []
    for batch in evaluation_batches(samples, batch_size):
        batch = to_device(batch, torch.device(device))
        answer = predict(batch)
        rows.append(torch.cat([_measured(metrics, task, *part) for part in _parts(task, answer, batch)]))
        if task == "recognition":
            labels.append(batch["label"].cpu())
    sums = torch.cat(rows).numpy()
    figures = metrics.from_sums(sums.sum(0))
    by_class = np.empty(0)
    if task == "segmentation":
        by_class = iou_by_class(sums.sum(0))
    elif labels and num_classes is not None:
        by_class = accuracy_by_class(sums[:, 1], torch.cat(labels).numpy(), num_classes)
    return Scored(figures, sums, tuple(None if np.isnan(value) else value for value in by_class.tolist()))


def at_label(task: str, answer: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
    """Return `answer` at the pixels of the labels in `batch`, which cover the same part of the sensor.

    Logits, depth and flow are resized bilinearly, and the lengths of flow with them, so that they count pixels of the
    label. Logits come before the choice of a class, as is common where labels are larger than the input.
    """
    if task not in _ANSWERS:
        return answer
    name, key = _ANSWERS[task]
    values, size = answer[name], batch[key].shape[-2:]
    if values.shape[-2:] == size:
        return answer
    resized = functional.interpolate(values.float(), size, mode="bilinear", align_corners=False)
    if task == "flow":
        lengths = resized.new_tensor([size[1] / values.shape[-1], size[0] / values.shape[-2]])
        resized = resized * lengths.view(1, 2, 1, 1)
    return {name: resized}


def _parts(task: str, answer: dict[str, Tensor], batch: Batch) -> list[tuple[dict[str, Tensor], Batch]]:
    """Return a batch with its answers as a whole, or else, where these are to be resized, sample by sample.

    The logits of a whole batch at the pixels of a large sensor would be gigabytes.
    """
    name, key = _ANSWERS.get(task, ("", ""))
    if not key or answer[name].shape[-2:] == batch[key].shape[-2:]:
        return [(answer, batch)]
    labels = [kind for kind in _MEASURED if kind in batch]
    return [
        ({name: answer[name][i : i + 1]}, {kind: batch[kind][i : i + 1] for kind in labels})
        for i in range(len(batch[key]))
    ]


def _measured(metrics: TaskMetrics, task: str, answer: dict[str, Tensor], batch: Batch) -> Tensor:
    return metrics.per_sample(at_label(task, answer, batch), batch).double().cpu()
