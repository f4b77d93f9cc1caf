"""Losses of the tasks against plain loops over pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from eventfm.tasks.losses import (
    cross_entropy_dice,
    flow_l1,
    known_classes,
    known_depth,
    sequence_loss,
    silog,
    soft_cross_entropy,
    unlabelled,
)

RNG = np.random.default_rng(7)


def shares_of(logits):
    e = np.exp(logits - logits.max())
    return e / e.sum()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_soft_cross_entropy_is_the_mean_over_known_samples(smoothing):
    logits = RNG.normal(size=(4, 3)) * 3
    targets = np.array([[1, 0, 0], [0.25, 0.75, 0], [0, 0, 1], [0, 1, 0]])
    known = [True, True, False, True]
    each = []
    for row, target, counts in zip(logits, targets, known, strict=True):
        smooth = target * (1 - smoothing) + smoothing / 3
        if counts:
            each.append(-(smooth * np.log(shares_of(row))).sum())
    found = soft_cross_entropy(torch.tensor(logits), torch.tensor(targets), torch.tensor(known), smoothing)
    assert found.item() == pytest.approx(np.mean(each), rel=1e-5)


def test_smoothed_cross_entropy_is_torchs():
    logits, labels = torch.tensor(RNG.normal(size=(5, 4))).float(), torch.tensor([0, 3, 1, 1, 2])
    one_hot = torch.nn.functional.one_hot(labels, 4)
    found = soft_cross_entropy(logits, one_hot, torch.ones(5, dtype=torch.bool), 0.2)
    torch.testing.assert_close(found, torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.2))


def test_cross_entropy_and_dice_are_those_of_loops():
    logits = RNG.normal(size=(2, 3, 4, 5)) * 2
    labels = RNG.integers(0, 3, size=(2, 4, 5))
    labels[0, :2] = 255
    labels[1, 3, 3], labels[1, 3, 4] = 7, -1  # no such classes: not labelled either
    entropies, common, squares, sizes = [], np.zeros(3), np.zeros(3), np.zeros(3)
    for b, y, x in np.ndindex(2, 4, 5):
        label = labels[b, y, x]
        if label not in (0, 1, 2):
            continue
        p = shares_of(logits[b, :, y, x])
        entropies.append(-math.log(p[label]))
        common[label] += p[label]
        squares += p**2
        sizes[label] += 1
    dice = 1 - (2 * common + 1) / (squares + sizes + 1)
    ce, found = cross_entropy_dice(torch.tensor(logits), torch.tensor(labels))
    assert ce.item() == pytest.approx(np.mean(entropies), rel=1e-5)
    assert found.item() == pytest.approx(dice.mean(), rel=1e-5)


def test_pixels_without_a_label_get_no_gradient():
    logits = torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(1), requires_grad=True)
    labels = torch.tensor([[[0, 255], [2, -5]]])
    torch.stack(cross_entropy_dice(logits, labels)).sum().backward()
    assert (logits.grad[0, :, 0, 0] != 0).all()
    assert (logits.grad[0, :, :, 1] == 0).all()


def test_class_255_is_never_a_class():
    assert known_classes(torch.tensor([0, 254, 255, 299, 300, -1]), 300).tolist() == [
        True,
        True,
        False,
        True,
        False,
        False,
    ]


def test_flow_l1_is_the_mean_over_known_pixels():
    prediction, target = RNG.normal(size=(2, 2, 3, 3)), RNG.normal(size=(2, 2, 3, 3))
    target[0, 0, 0, 0] = np.nan  # one number unknown: the pixel does not count
    target[0, :, 1, 1] = np.nan
    target[1, :, 2, 2] = (300, 300)  # longer than 400
    each = [
        abs(prediction[b, 0, y, x] - target[b, 0, y, x]) + abs(prediction[b, 1, y, x] - target[b, 1, y, x])
        for b, y, x in np.ndindex(2, 3, 3)
        if (b, y, x) not in ((0, 0, 0), (0, 1, 1), (1, 2, 2))
    ]
    found = flow_l1(torch.tensor(prediction).requires_grad_(), torch.tensor(target).float())
    assert found.item() == pytest.approx(np.mean(each), rel=1e-5)


def test_flow_without_ground_truth_gives_zero_gradients_not_nan():
    prediction = torch.ones(1, 2, 2, 2, requires_grad=True)
    target = torch.full((1, 2, 2, 2), torch.nan)
    target[0, :, 0, 0] = 0.0
    flow_l1(prediction, target).backward()
    assert prediction.grad[0, :, 0, 0].tolist() == [1.0, 1.0]
    assert prediction.grad.sum() == 2


def test_sequence_loss_weighs_later_iterations_more():
    target = torch.zeros(1, 2, 2, 2)
    steps = [torch.full((1, 2, 2, 2), value) for value in (4.0, 2.0, 1.0)]
    assert sequence_loss(steps, target, gamma=0.5).item() == pytest.approx(0.25 * 8 + 0.5 * 4 + 1.0 * 2)


@pytest.mark.parametrize("focus", [0.0, 0.5, 0.85, 1.0])
def test_silog_is_that_of_a_loop(focus):
    prediction = RNG.uniform(1, 50, size=(2, 1, 3, 4))
    target = RNG.uniform(1, 50, size=(2, 1, 3, 4))
    target[0, 0, 0] = np.nan
    target[1, 0, 1] = (0.0, -3.0, 90.0, np.inf)
    d = [math.log(p) - math.log(t) for p, t in zip(prediction.flat, target.flat, strict=True) if 0 < t <= 80]
    assert len(d) == 2 * 12 - 8
    expected = math.sqrt(np.mean(np.square(d)) - focus * np.mean(d) ** 2)
    truth = torch.tensor(target).float()
    found = silog(torch.tensor(prediction).log(), truth, known_depth(truth, 80.0), focus)
    assert found.item() == pytest.approx(expected, rel=1e-4)


def test_silog_forgives_a_common_scale_at_focus_1_alone():
    truth = torch.tensor(RNG.uniform(1, 10, size=(1, 1, 8, 8))).float()
    known = truth > 0
    assert silog((3 * truth).log(), truth, known, 1.0).item() < 1e-3
    assert silog((3 * truth).log(), truth, known, 0.0).item() == pytest.approx(math.log(3), rel=1e-4)


@pytest.mark.parametrize("exact", [True, False])
def test_silog_has_finite_gradients_where_it_is_zero(exact):
    truth = torch.full((1, 1, 2, 2), 5.0 if exact else torch.nan)
    said = torch.full((1, 1, 2, 2), 5.0).log().requires_grad_()
    loss = silog(said, truth, known_depth(truth, 80.0))
    loss.backward()
    assert loss.item() < 1e-6
    assert said.grad.tolist() == torch.zeros(1, 1, 2, 2).tolist()


def test_unlabelled_is_the_share_of_samples():
    known = torch.zeros(4, 3, 3, dtype=torch.bool)
    known[2, 1, 1] = True
    assert unlabelled(known).item() == 0.75
