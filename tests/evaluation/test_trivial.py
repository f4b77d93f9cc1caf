"""Predictors that do not look, and how answers are scored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from eventfm.evaluation.scoring import score_task
from eventfm.evaluation.trivial import trivial_predictor


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


def test_the_majority_class_of_pixels_is_that_of_the_labels() -> None:
    training = Samples({"semantic": np.array([[[0, 2], [2, 255]], [[2, 1], [255, 255]]])})
    test = Samples({"semantic": np.array([[[2, 1], [1, 255]], [[2, 0], [2, 2]]])})
    predict = trivial_predictor("segmentation", training, 3)
    found = score_task(predict, "segmentation", test, 3, batch_size=1)
    assert found.figures["pixel_accuracy"] == pytest.approx(4 / 7)
    assert found.figures["class_accuracy"] == pytest.approx(1 / 3)
    assert found.figures["miou"] == pytest.approx((4 / 7 + 0 + 0) / 3)
    assert found.sums.shape[0] == 2


def test_classes_come_in_the_order_of_how_often_they_occur() -> None:
    training = Samples({"label": np.array([3] * 4 + [255] * 3 + [0] * 2 + [1])})
    test = Samples({"label": np.array([3, 255, 0, 7])})
    found = score_task(trivial_predictor("recognition", training, 300), "recognition", test, 300)
    assert found.figures["top1"] == pytest.approx(1 / 4), "the label 255 is a class like any other"
    assert found.figures["top5"] == pytest.approx(3 / 4)


def test_the_median_depth_counts_every_known_pixel() -> None:
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 9, (4, 1, 5, 5)).astype(np.float32)
    depth[0, 0, :3] = np.nan
    batch = {"depth": torch.zeros(2, 1, 5, 5)}
    answer = trivial_predictor("depth", Samples({"depth": depth}))(batch)["depth"]
    assert answer.shape == (2, 1, 5, 5)
    assert answer.unique().item() == pytest.approx(float(np.nanmedian(depth)))


def test_labels_that_say_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="no training label names a class"):
        trivial_predictor("segmentation", Samples({"semantic": np.full((2, 3, 3), 255)}), 4)
    with pytest.raises(ValueError, match="no training sample has a known depth"):
        trivial_predictor("depth", Samples({"depth": np.full((2, 1, 3, 3), np.nan, np.float32)}))
    with pytest.raises(ValueError, match="expected recognition, segmentation, flow or depth, got 'pose'"):
        trivial_predictor("pose", Samples({"depth": np.zeros((1, 1, 1, 1))}))


def test_flow_of_what_stands_still_is_the_length_that_it_misses() -> None:
    flow = np.broadcast_to(np.array([1.0, 2.0], np.float32)[:, None, None], (3, 2, 4, 4)).copy()
    samples = Samples({"flow": flow, "seen": np.ones((3, 4, 4), np.float32)})
    assert score_task(trivial_predictor("flow", samples), "flow", samples).figures["epe"] == pytest.approx(5**0.5)
