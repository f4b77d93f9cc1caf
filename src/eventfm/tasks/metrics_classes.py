"""Metrics of tasks whose answer is a class: one per sample, or one per pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eventfm.tasks.metric_checks import NothingMeasuredError, check_labels, check_maps, check_scores, entry

BY_CLASS = {"recognition": "accuracy", "segmentation": "iou"}
"""What is told of each class, of tasks that have such."""
UNLABELLED = 255
"""Class number of a pixel that nobody labelled."""


class RecognitionMeasure:
    """`top1` and `top5`: share of samples whose class is the first, or among the first five.

    Classes of equal score rank by their number, so a model that says the same of every class is right by chance only.
    """

    width = 3

    def __init__(self, num_classes: int | None = None) -> None:
        self.num_classes = num_classes

    def per_sample(self, prediction: Mapping[str, Tensor], batch: Mapping[str, Any]) -> Tensor:
        """Return (B, 3) float64: one, and whether the sample is among the first one and the first five."""
        logits, label = entry(prediction, "logits", "prediction", 2), entry(batch, "label", "batch", 1)
        check_scores(logits, self.num_classes)
        check_maps(logits, (len(label), logits.shape[1]), "logits")
        num_classes = logits.shape[1]
        check_labels(label[(label < 0) | (label >= num_classes)], "label", num_classes)
        own = logits.gather(1, label[:, None])
        earlier = torch.arange(num_classes, device=label.device) < label[:, None]
        place = ((logits > own) | ((logits == own) & earlier)).sum(1)
        return torch.stack([torch.ones_like(place), place < 1, place < 5], 1).double()

    def figures(self, sums: NDArray[np.float64]) -> dict[str, float]:
        """Return `top1` and `top5`."""
        count, first, five = sums
        if not count:
            raise NothingMeasuredError("no sample was seen: there is no accuracy")
        return {"top1": float(first / count), "top5": float(five / count)}


class SegmentationMeasure:
    """`miou`, `class_accuracy` and `pixel_accuracy` over all labelled pixels of all samples.

    `miou` is the mean over the classes that occur in the labels or in the predictions, anywhere in the set, of
    intersection over union: a class that is neither labelled nor predicted has no union and does not count.
    `class_accuracy` is the mean over labelled classes of the share of their pixels that is right. Pixels without a
    label (255) do not count, whatever is predicted there.

    The confusion of the whole set decides, as in ESS, mmsegmentation and torchmetrics' `JaccardIndex`; torchmetrics'
    `MeanIoU` averages samples and is another figure.
    """

    def __init__(self, num_classes: int) -> None:
        if not 1 <= num_classes <= UNLABELLED:
            raise ValueError(
                f"expected 1 to {UNLABELLED} classes, since {UNLABELLED} marks pixels without a label, "
                f"got {num_classes}"
            )
        self.num_classes = num_classes
        self.width = 3 * num_classes

    def per_sample(self, prediction: Mapping[str, Tensor], batch: Mapping[str, Any]) -> Tensor:
        """Return (B, 3 K) float64: pixels of each class that are right, then labelled, then predicted."""
        logits, label = entry(prediction, "logits", "prediction", 4), entry(batch, "semantic", "batch", 3)
        check_scores(logits, self.num_classes)
        check_maps(logits, (len(label), self.num_classes, *label.shape[1:]), "logits")
        known = label != UNLABELLED
        wrong = known & ((label < 0) | (label >= self.num_classes))
        check_labels(label[wrong], "semantic", self.num_classes, f", or {UNLABELLED} where there is no label")
        predicted = logits.argmax(1)
        counts = [self._count(label, known & (predicted == label)), self._count(label, known)]
        return torch.cat([*counts, self._count(predicted, known)], 1)

    def _count(self, classes: Tensor, mask: Tensor) -> Tensor:
        """Return how many pixels of each class are in `mask`, (B, K) float64."""
        samples, bins = len(classes), self.num_classes + 1  # the last bin takes what is not in the mask
        offset = bins * torch.arange(samples, device=classes.device)[:, None, None]
        numbers = torch.where(mask, classes, self.num_classes) + offset
        counts = torch.bincount(numbers.flatten(), minlength=samples * bins)
        return counts.view(samples, bins)[:, :-1].double()

    def figures(self, sums: NDArray[np.float64]) -> dict[str, float]:
        """Return `miou`, `class_accuracy` and `pixel_accuracy`."""
        right, labelled, _ = sums.reshape(3, self.num_classes)
        if not labelled.sum():
            raise NothingMeasuredError(f"no pixel has a label (all are {UNLABELLED}): there is nothing to measure")
        iou = iou_by_class(sums)
        return {
            "miou": float(iou[np.isfinite(iou)].mean()),
            "class_accuracy": float((right[labelled > 0] / labelled[labelled > 0]).mean()),
            "pixel_accuracy": float(right.sum() / labelled.sum()),
        }


def iou_by_class(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the intersection over union of each class, (K,), of `sums` (3 K,) as of `SegmentationMeasure`.

    It is NaN for a class that occurs neither in the labels nor, where there are labels, in the predictions.
    """
    right, labelled, predicted = sums.reshape(3, -1)
    return _ratio(right, labelled + predicted - right)


def accuracy_by_class(right: NDArray[np.float64], label: NDArray[np.int64], num_classes: int) -> NDArray[np.float64]:
    """Return the share of each class's samples that is `right`, (K,); NaN for a class of no sample.

    Args:
        right: (N,) 1 for each sample that is, else 0.
        label: (N,) its class.
        num_classes: K.
    """
    return _ratio(np.bincount(label, right, num_classes), np.bincount(label, minlength=num_classes).astype(np.float64))


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
