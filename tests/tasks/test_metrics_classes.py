"""Accuracy and mIoU against loops over samples and pixels, and against torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_jaccard_index

from eventfm.tasks.metric_checks import NothingMeasuredError
from eventfm.tasks.metrics import build_metrics
from eventfm.tasks.metrics_classes import accuracy_by_class, iou_by_class


def segmented(predicted: np.ndarray, label: np.ndarray, num_classes: int) -> dict[str, float]:
    """Return the figures where `predicted` (B, H, W) is the class of the highest logit."""
    logits = torch.nn.functional.one_hot(torch.from_numpy(predicted), num_classes).movedim(-1, 1).float()
    metrics = build_metrics("segmentation", num_classes)
    metrics.update({"logits": logits}, {"semantic": torch.from_numpy(label)})
    return metrics.compute()


def test_recognition_by_hand() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(40, 9)).astype(np.float32)
    label = generator.integers(0, 9, 40)
    places = [int(np.flatnonzero(np.argsort(-row) == own)[0]) for row, own in zip(logits, label, strict=True)]
    metrics = build_metrics("recognition", 9)
    metrics.update({"logits": torch.from_numpy(logits)}, {"label": torch.from_numpy(label)})
    figures = metrics.compute()
    assert figures == {"top1": np.mean(np.array(places) < 1), "top5": np.mean(np.array(places) < 5)}
    for name, k in (("top1", 1), ("top5", 5)):
        theirs = multiclass_accuracy(
            torch.from_numpy(logits), torch.from_numpy(label), num_classes=9, top_k=k, average="micro"
        )
        assert figures[name] == pytest.approx(float(theirs), abs=1e-6)


def test_equal_scores_are_right_by_chance_only() -> None:
    """Ten classes, one sample of each, the same score for all: 1 of 10 and 5 of 10."""
    metrics = build_metrics("recognition")
    metrics.update({"logits": torch.zeros(10, 10)}, {"label": torch.arange(10)})
    assert metrics.compute() == {"top1": 0.1, "top5": 0.5}


def test_fewer_than_five_classes() -> None:
    metrics = build_metrics("recognition", 2)
    metrics.update({"logits": torch.tensor([[1.0, 0.0], [1.0, 0.0]])}, {"label": torch.tensor([0, 1])})
    assert metrics.compute() == {"top1": 0.5, "top5": 1.0}


@pytest.mark.parametrize("label", [-1, 9])
def test_labels_outside_the_classes_are_refused(label: int) -> None:
    batch = {"label": torch.tensor([3, label])}
    with pytest.raises(ValueError, match=f"'label' from 0 to 8, got 1 labels outside, such as {label};"):
        build_metrics("recognition", 9).update({"logits": torch.zeros(2, 9)}, batch)


def test_logits_that_do_not_fit_are_refused() -> None:
    batch = {"label": torch.tensor([0, 1])}
    metrics = build_metrics("recognition", 9)
    with pytest.raises(ValueError, match="expected logits of 9 classes, got 4"):
        metrics.update({"logits": torch.zeros(2, 4)}, batch)
    with pytest.raises(ValueError, match="expected logits without NaN, got 1"):
        metrics.update(
            {"logits": torch.zeros(2, 9).index_put((torch.tensor(0), torch.tensor(3)), torch.tensor(torch.nan))}, batch
        )
    with pytest.raises(ValueError, match=r"shape \(2, 9\) as the label has it, got \(3, 9\)"):
        metrics.update({"logits": torch.zeros(3, 9)}, batch)
    metrics.update({"logits": torch.tensor([[0.0, -torch.inf], [0.0, 1.0]]).repeat(1, 5)[:, :9]}, batch)


def by_hand(predicted: np.ndarray, label: np.ndarray, num_classes: int) -> dict[str, float]:
    """Return the figures from sets of pixels, class by class."""
    known = label != 255
    unions, shares = [], []
    for k in range(num_classes):
        said, true = (predicted == k) & known, label == k
        if (said | true).any():
            unions.append((said & true).sum() / (said | true).sum())
        if true.any():
            shares.append((said & true).sum() / true.sum())
    return {
        "miou": float(np.mean(unions)),
        "class_accuracy": float(np.mean(shares)),
        "pixel_accuracy": float((predicted == label)[known].mean()),
    }


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), num_classes=st.integers(1, 7), used=st.integers(1, 7))
def test_segmentation_by_hand(seed: int, num_classes: int, used: int) -> None:
    """With few of the classes in use, some are absent from labels, predictions or both."""
    generator = np.random.default_rng(seed)
    label = generator.integers(0, min(used, num_classes), (3, 4, 5))
    label[generator.random(label.shape) < 0.3] = 255
    label[0, 0, 0] = 0
    predicted = generator.integers(0, num_classes, label.shape)
    if seed % 2:
        predicted = np.where(label == 255, predicted, label)
    assert segmented(predicted, label, num_classes) == pytest.approx(by_hand(predicted, label, num_classes), abs=1e-9)


def test_each_class_by_hand_and_by_torchmetrics() -> None:
    generator = np.random.default_rng(2)
    label, predicted = generator.integers(0, 4, (2, 3, 6, 6))
    label[:, :2] = 255
    predicted[:, :2] = 5  # where nothing is labelled
    predicted[0, 5, :3] = 4
    logits = torch.nn.functional.one_hot(torch.from_numpy(predicted), 6).movedim(-1, 1).float()
    rows = build_metrics("segmentation", 6).per_sample({"logits": logits}, {"semantic": torch.from_numpy(label)})
    found = iou_by_class(rows.sum(0).numpy())
    theirs = multiclass_jaccard_index(
        torch.from_numpy(predicted), torch.from_numpy(label), num_classes=6, ignore_index=255, average="none"
    )
    np.testing.assert_allclose(found[:5], theirs[:5].numpy(), atol=1e-6)
    assert found[4] == 0, "said, and nowhere true"
    assert np.isnan(found[5]), "neither said nor true where there are labels"
    assert np.nanmean(found) == pytest.approx(segmented(predicted, label, 6)["miou"])


def test_accuracy_of_each_class() -> None:
    label, right = np.array([2, 0, 2, 2, 4]), np.array([1.0, 0, 0, 1, 1])
    np.testing.assert_allclose(accuracy_by_class(right, label, 6), [0, np.nan, 2 / 3, np.nan, 1, np.nan])


def test_segmentation_is_the_jaccard_index_of_torchmetrics() -> None:
    generator = np.random.default_rng(1)
    label, predicted = generator.integers(0, 5, (2, 3, 6, 6))
    label[:, :2] = 255
    theirs = multiclass_jaccard_index(
        torch.from_numpy(predicted), torch.from_numpy(label), num_classes=8, ignore_index=255, average="macro"
    )
    assert segmented(predicted, label, 8)["miou"] == pytest.approx(float(theirs), abs=1e-6)


def test_perfect_predictions_score_one_though_classes_are_absent() -> None:
    """Means over batches with absent classes as 0, as EventPretrain's code has it, would say 1/6."""
    label = np.full((4, 3, 3), 2)
    assert segmented(label, label, 6) == {"miou": 1.0, "class_accuracy": 1.0, "pixel_accuracy": 1.0}


def test_a_class_that_is_only_predicted_counts_as_zero_in_miou() -> None:
    label = np.zeros((1, 2, 2), np.int64)
    predicted = np.array([[[0, 0], [0, 3]]])
    assert segmented(predicted, label, 6) == {"miou": 0.375, "class_accuracy": 0.75, "pixel_accuracy": 0.75}


def test_predictions_at_unlabelled_pixels_do_not_count() -> None:
    label = np.array([[[0, 1], [255, 255]]])
    assert segmented(np.array([[[0, 1], [1, 5]]]), label, 6)["miou"] == 1.0


def test_nothing_labelled_is_said() -> None:
    with pytest.raises(NothingMeasuredError, match=r"no pixel has a label \(all are 255\)"):
        segmented(np.zeros((2, 3, 3), np.int64), np.full((2, 3, 3), 255), 4)


@pytest.mark.parametrize("label", [4, 254, -1])
def test_semantic_labels_outside_the_classes_are_refused(label: int) -> None:
    with pytest.raises(ValueError, match=f"from 0 to 3, or 255 where there is no label, got 2 labels .* as {label};"):
        segmented(np.zeros((1, 1, 3), np.int64), np.array([[[0, label, label]]]), 4)
