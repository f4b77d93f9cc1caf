"""Scores at the size of the labels, whatever the size of the input, and figures of each class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from eventfm.evaluation.scoring import at_label, score_task

LABEL = {"segmentation": "semantic", "flow": "flow", "depth": "depth"}


@dataclass
class Samples:
    """Samples whose arrays are given."""

    arrays: dict[str, np.ndarray]
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: values.shape[1:] for name, values in self.arrays.items()}

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def fill(self, index: int, rng: Any, out: Any) -> None:
        for name, values in self.arrays.items():
            out[name][...] = values[index]


def labels(task: str, size: tuple[int, int], count: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    """Return labels at random, a part of them unknown."""
    rng = np.random.default_rng(seed)
    unknown = rng.random((count, *size)) < 0.2
    if task == "segmentation":
        return {"semantic": np.where(unknown, 255, rng.integers(0, 4, (count, *size)))}
    if task == "depth":
        return {"depth": np.where(unknown, np.nan, rng.uniform(2, 40, (count, *size))).astype(np.float32)[:, None]}
    flow = np.where(unknown[:, None], np.nan, rng.normal(0, 4, (count, 2, *size))).astype(np.float32)
    return {"flow": flow, "seen": (rng.random((count, *size)) < 0.5).astype(np.float32)}


def answer_of(task: str, label: Tensor) -> dict[str, Tensor]:
    """Return the answer that says the labels."""
    if task == "segmentation":
        known = torch.where(label == 255, 0, label)
        return {"logits": 9.0 * torch.nn.functional.one_hot(known, 4).movedim(-1, 1).float()}
    return {task: label.nan_to_num(1.0)}


def enlarged(values: Tensor) -> Tensor:
    return values.repeat_interleave(2, -2).repeat_interleave(2, -1)


@pytest.mark.parametrize("task", LABEL)
def test_who_knows_the_labels_is_perfect_at_their_size(task: str) -> None:
    """The input has twice the rows and columns: each label is said four times, and flow counts smaller pixels."""
    samples = Samples(labels(task, (5, 7)))

    def predict(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        (name, values), *_ = answer_of(task, batch[LABEL[task]]).items()
        return {name: enlarged(values) * (2 if task == "flow" else 1)}

    figures = score_task(predict, task, samples, 4, batch_size=2).figures
    perfect = {"miou": 1.0, "class_accuracy": 1.0, "pixel_accuracy": 1.0, "delta1": 1.0, "delta2": 1.0, "delta3": 1.0}
    for name, value in figures.items():
        assert value == pytest.approx(perfect.get(name, 0.0), abs=2e-6), name


def bilinear(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return `values` (..., h, w) at `size`, pixel by pixel; both have the same outer corners."""
    out = np.empty((*values.shape[:-2], *size))
    for row in range(size[0]):
        for column in range(size[1]):
            weights = []
            for place, extent, length in ((row, size[0], values.shape[-2]), (column, size[1], values.shape[-1])):
                at = min(max((place + 0.5) * length / extent - 0.5, 0), length - 1)
                low = int(at)
                weights.append(((low, 1 - (at - low)), (min(low + 1, length - 1), at - low)))
            out[..., row, column] = sum(a * b * values[..., y, x] for y, a in weights[0] for x, b in weights[1])
    return out


@pytest.mark.parametrize("size", [(3, 5), (9, 8)])
def test_figures_of_answers_of_another_size_by_hand(size: tuple[int, int]) -> None:
    own = (7, 12)
    rng = np.random.default_rng(1)
    said = {
        "segmentation": rng.normal(size=(3, 4, *size)),
        "flow": rng.normal(0, 4, (3, 2, *size)),
        "depth": rng.uniform(2, 40, (3, 1, *size)),
    }
    found = {}
    for task, values in said.items():
        key = "logits" if task == "segmentation" else task
        at = iter([slice(0, 2), slice(2, 3)])
        tensors = torch.from_numpy(values.astype(np.float32))
        predict: Callable[..., dict[str, Tensor]] = lambda batch, k=key, t=tensors, a=at: {k: t[next(a)]}  # noqa: E731
        found[task] = score_task(predict, task, Samples(labels(task, own)), 4, batch_size=2)

    true = labels("segmentation", own)["semantic"]
    classes = bilinear(said["segmentation"], own).argmax(1)
    known = true != 255
    iou = [((classes == k) & (true == k)).sum() / (((classes == k) | (true == k)) & known).sum() for k in range(4)]
    assert found["segmentation"].by_class == pytest.approx(iou)
    assert found["segmentation"].figures["miou"] == pytest.approx(np.mean(iou))
    assert found["segmentation"].sums.shape == (3, 12)

    true = labels("flow", own)["flow"]
    lengths = np.array([own[1] / size[1], own[0] / size[0]])[:, None, None]
    errors = np.linalg.norm(bilinear(said["flow"], own) * lengths - true, axis=1)
    assert found["flow"].figures["epe"] == pytest.approx(np.nanmean(errors), rel=1e-5)
    seen = labels("flow", own)["seen"] > 0
    assert found["flow"].figures["epe_events"] == pytest.approx(np.nanmean(errors[seen]), rel=1e-5)
    assert found["flow"].by_class == ()

    true = labels("depth", own)["depth"]
    off = np.abs(bilinear(said["depth"], own) - true) / true
    assert found["depth"].figures["abs_rel"] == pytest.approx(np.nanmean(off), rel=1e-5)


def test_answers_of_the_size_of_the_labels_stay_as_they_are() -> None:
    answer = {"flow": torch.ones(1, 2, 3, 4)}
    assert at_label("flow", answer, {"flow": torch.zeros(1, 2, 3, 4)}) is answer
    assert at_label("recognition", {}, {}) == {}


def test_few_answers_are_large_at_a_time() -> None:
    """Only one sample's logits at a time have the size of the labels."""
    sizes = []
    real = torch.nn.functional.interpolate

    def noted(values: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        sizes.append(len(values))
        return real(values, *args, **kwargs)

    samples = Samples(labels("segmentation", (4, 6), count=5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "interpolate", noted)
        predict = lambda batch: {"logits": torch.zeros(len(batch["semantic"]), 4, 2, 3)}  # noqa: E731
        score_task(predict, "segmentation", samples, 4, batch_size=5)
    assert sizes == [1] * 5


def test_each_class_is_told_and_those_that_do_not_occur_are_not() -> None:
    samples = Samples({"label": np.array([0, 0, 2, 2, 2, 3])})
    said = torch.tensor([0, 1, 2, 2, 1, 3])
    predict = lambda batch: {"logits": torch.nn.functional.one_hot(said[batch["index"]], 5).float()}  # noqa: E731
    found = score_task(predict, "recognition", samples, 5, batch_size=4)
    assert found.by_class == (0.5, None, pytest.approx(2 / 3), 1.0, None)
    assert found.figures["top1"] == pytest.approx(4 / 6)

    semantic = np.array([[[0, 0, 2, 255]]])
    said = torch.tensor([[[0, 1, 2, 3]]])
    predict = lambda batch: {"logits": torch.nn.functional.one_hot(said, 5).movedim(-1, 1).float()}  # noqa: E731
    found = score_task(predict, "segmentation", Samples({"semantic": semantic}), 5)
    assert found.by_class == (0.5, 0.0, 1.0, None, None), "said where nothing is labelled is not said"
