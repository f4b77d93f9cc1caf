"""Segmentation by pixels and by queries."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tasks_toy import NOW, batch_of, toy

from eventfm.tasks.losses import cross_entropy_dice
from eventfm.tasks.segmentation import QuerySegmentation, Segmentation
from eventfm.tasks.set_loss import SetLoss

LABELS = torch.zeros(2, 16, 16, dtype=torch.int64)
LABELS[:, :, 8:] = 1
LABELS[1, 8:] = 2


def networks(auxiliary=None):
    def logits(seed):
        return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed))

    beside = None if auxiliary is None else (lambda pyramid: logits(auxiliary))
    stand_in = SimpleNamespace(backbone=SimpleNamespace(stride=16, pyramid=lambda x: [x]), head=lambda p: logits(0))
    stand_in.auxiliary = beside
    return stand_in, [
        torch.nn.functional.interpolate(logits(n), (16, 16), mode="bilinear") for n in (0, auxiliary or 0)
    ]


@pytest.mark.parametrize(("form", "num_terms"), [("ce", 1), ("ce_dice", 2)])
def test_the_loss_is_that_of_both_heads(form, num_terms):
    stand_in, (main, beside) = networks(auxiliary=1)
    out = Segmentation(3, form, 0.4).loss(stand_in, {"input": torch.zeros(2, 1, 16, 16), "semantic": LABELS})
    expected = sum(cross_entropy_dice(main, LABELS)[:num_terms]) + 0.4 * sum(
        cross_entropy_dice(beside, LABELS)[:num_terms]
    )
    torch.testing.assert_close(out["loss"], expected)
    assert ("dice" in out) == (form == "ce_dice")
    alone = Segmentation(3, form, 0.4).loss(networks()[0], {"input": torch.zeros(2, 1, 16, 16), "semantic": LABELS})
    torch.testing.assert_close(alone["loss"], sum(cross_entropy_dice(main, LABELS)[:num_terms]))


def perfect(labels, num_queries=5, confidence=30.0):
    """Return logits by which query `n` is class `n` and has its mask, and further ones are nothing."""
    classes = torch.zeros(len(labels), num_queries, 4)
    for n in range(num_queries):
        classes[:, n, min(n, 3)] = confidence
    masks = torch.stack([torch.where(labels == n, confidence, -confidence) for n in range(num_queries)], dim=1)
    return classes, masks


def test_the_set_loss_finds_the_right_queries_in_any_order():
    torch.manual_seed(0)
    classes, masks = perfect(LABELS, confidence=5.0)
    for order in (torch.arange(5), torch.tensor([4, 2, 0, 3, 1])):
        out = SetLoss(3)(classes[:, order], masks[:, order], LABELS)
        assert out["classes"].item() < 0.05
        assert out["masks"].item() < 0.7, "at most that of a coin, between two pixels"
        assert out["dice"].item() < 0.5
    assert SetLoss(3)(classes, -masks, LABELS)["masks"].item() > 1


def test_the_set_loss_weighs_its_terms():
    torch.manual_seed(0)
    classes, masks = torch.randn(2, 5, 4), torch.randn(2, 5, 8, 8)
    out = SetLoss(3)(classes, masks, LABELS)
    torch.testing.assert_close(out["loss"], 2 * out["classes"] + 5 * out["masks"] + 5 * out["dice"])


def test_the_classification_of_queries_is_weighed_by_a_tenth_where_there_is_nothing():
    """All queries say class 0 or nothing with even odds: by hand, for what is matched with which is then known."""
    classes = torch.zeros(1, 5, 4)
    _, masks = perfect(LABELS[:1])
    torch.manual_seed(0)
    out = SetLoss(3)(classes, masks, LABELS[:1])
    assert out["classes"].item() == pytest.approx(torch.tensor(4.0).log().item(), rel=1e-5)
    classes[:, 3:, 3] = 2.0  # the two queries without an object
    out = SetLoss(3)(classes, masks, LABELS[:1])
    sure = -torch.log_softmax(torch.tensor([0.0, 0.0, 0.0, 2.0]), 0)[3].item()
    expected = (3 * torch.tensor(4.0).log().item() + 2 * 0.1 * sure) / (3 + 2 * 0.1)
    assert out["classes"].item() == pytest.approx(expected, rel=1e-5)


def test_pixels_without_a_label_are_in_no_mask_and_get_no_gradient():
    labels = LABELS.clone()
    labels[:, :4] = 255
    classes, masks = perfect(LABELS, confidence=3.0)
    masks.requires_grad_()
    torch.manual_seed(0)
    out = SetLoss(3)(classes, masks, labels)
    out["loss"].backward()
    assert not masks.grad[:, :, :4].any()
    assert masks.grad[:, :3, 4:].any()


def test_a_sample_without_labels_is_left_out_of_the_set():
    labels = LABELS.clone()
    labels[0] = 255
    classes, masks = torch.randn(2, 5, 4), torch.randn(2, 5, 8, 8)
    classes.requires_grad_()
    torch.manual_seed(0)
    both = SetLoss(3)(classes, masks, labels)
    torch.manual_seed(0)
    one = SetLoss(3)(classes[1:], masks[1:], labels[1:])
    assert both["loss"] == one["loss"]
    both["loss"].backward()
    assert not classes.grad[0].any()


def test_queries_learn_from_labels_that_cover_the_padded_input():
    given = []

    class Criterion:
        num_classes = 3

        def __call__(self, classes, masks, labels):
            given.append(labels)
            return {"loss": classes}

    stand_in = SimpleNamespace(backbone=SimpleNamespace(stride=8), head=lambda backbone, x: (x.sum(), x))
    labels = torch.ones(1, 13, 17, dtype=torch.int64)
    out = QuerySegmentation(Criterion()).loss(stand_in, {"input": torch.zeros(1, 1, 13, 17), "semantic": labels})
    assert out["unlabelled"] == 0
    assert given[0].shape == (1, 16, 24)
    assert torch.equal(given[0][:, :13, :17], labels)
    assert (given[0][:, 13:] == -1).all()
    assert (given[0][:, :, 17:] == -1).all()


def test_labels_of_no_class_are_as_good_as_none():
    objective, batch = toy("segmentation", "linear"), batch_of("segmentation")
    odd = batch["semantic"].clone()
    odd[batch["semantic"] == 255] = 77
    odd[0, 0, 0] = -1
    assert objective(batch, NOW)["loss"] == objective({**batch, "semantic": odd}, NOW)["loss"]


def test_answers_of_queries_are_scores_of_classes():
    logits = toy("segmentation", "eomt").eval().predict(batch_of("segmentation"))["logits"]
    assert ((logits >= 0) & (logits <= 5)).all()
