"""What can be answered without looking: the majority class, no motion, the median depth of the training labels.

A network that is not better than these has learnt nothing from its input.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from eventfm.data.loader import SampleSet, evaluation_batches
from eventfm.evaluation.scoring import Predict
from eventfm.protocols import Batch

UNLABELLED = 255
MAX_DEPTHS = 4096
"""Depths of one training sample that count towards the median, evenly chosen."""


def trivial_predictor(task: str, training: SampleSet, num_classes: int | None = None) -> Predict:
    """Return a predictor that has seen the labels of `training` and looks at no input.

    Raises:
        ValueError: An unknown task, or labels that say nothing.
    """
    if task == "flow":
        return lambda batch: {"flow": torch.zeros_like(batch["flow"])}
    if task == "depth":
        median = _median_depth(training)
        return lambda batch: {"depth": torch.full_like(batch["depth"], median)}
    if task not in ("recognition", "segmentation"):
        raise ValueError(f"expected recognition, segmentation, flow or depth, got {task!r}")
    assert num_classes is not None
    counts = _class_counts(training, "label" if task == "recognition" else "semantic", num_classes)
    if not counts.sum():
        raise ValueError("no training label names a class: there is no majority among none")
    # All classes in the order of how often they occur: the five most likely are a question as well.
    logits = torch.log(counts.double() + 1e-3).float()

    def recognise(batch: Batch) -> dict[str, Tensor]:
        return {"logits": logits.to(batch["label"].device).expand(len(batch["label"]), -1)}

    def segment(batch: Batch) -> dict[str, Tensor]:
        labels = batch["semantic"]
        return {"logits": logits.to(labels.device).view(1, -1, 1, 1).expand(len(labels), -1, *labels.shape[1:])}

    return recognise if task == "recognition" else segment


def _class_counts(training: SampleSet, key: str, num_classes: int) -> Tensor:
    counts = torch.zeros(num_classes, dtype=torch.int64)
    for batch in evaluation_batches(training, 32):
        labels = batch[key].flatten()
        if key == "semantic":
            labels = labels[labels != UNLABELLED]
        counts += torch.bincount(labels, minlength=num_classes)
    return counts


def _median_depth(training: SampleSet) -> float:
    found = []
    for batch in evaluation_batches(training, 1):
        depths = batch["depth"].numpy().ravel()
        depths = depths[np.isfinite(depths)]
        found.append(depths[:: max(1, len(depths) // MAX_DEPTHS)])
    depths = np.concatenate(found) if found else np.empty(0)
    if not len(depths):
        raise ValueError("no training sample has a known depth: there is no median of none")
    return float(np.median(depths))
