"""Smoothing and blending of labels."""

from __future__ import annotations

import pytest
import torch
from tasks_toy import NOW, batch_of, toy


def test_smoothing_is_torchs():
    objective, batch = toy("recognition", label_smoothing=0.2), batch_of("recognition")
    logits = objective.eval().predict(batch)["logits"]
    expected = torch.nn.functional.cross_entropy(logits, batch["label"], label_smoothing=0.2)
    torch.testing.assert_close(objective.train()(batch, NOW)["loss"], expected)


def test_samples_are_blended_in_training_only():
    plain, blended = toy("recognition"), toy("recognition", mixup=5.0)
    batch = batch_of("recognition", num=6)
    assert plain.eval()(batch, NOW)["loss"] == blended.eval()(batch, NOW)["loss"]
    torch.manual_seed(1)
    losses = {blended.train()(batch, NOW)["loss"].item() for _ in range(3)}
    assert len(losses) == 3
    assert plain.train()(batch, NOW)["loss"].item() not in losses


def test_inputs_and_labels_are_blended_alike(monkeypatch):
    objective, given = toy("recognition", mixup=1.0), {}
    x = torch.zeros(3, 2, 8, 8) + torch.arange(3.0).view(3, 1, 1, 1)  # a sample's value is its class

    def loss(logits, targets, known, smoothing):
        given["targets"] = targets
        return logits.sum()

    monkeypatch.setattr("eventfm.tasks.recognition.soft_cross_entropy", loss)
    objective.backbone.register_forward_pre_hook(lambda module, inputs: given.update(x=inputs[0]))
    torch.manual_seed(5)
    objective({"input": x, "label": torch.arange(3)}, NOW)
    torch.testing.assert_close(given["targets"].sum(1), torch.ones(3))
    assert (given["targets"].amax(1) < 1).any()
    torch.testing.assert_close(given["x"].mean((1, 2, 3)), given["targets"] @ torch.arange(3.0))


@pytest.mark.parametrize("label", [-1, 3, 255])
def test_labels_of_no_class_are_as_good_as_none(label):
    objective, batch = toy("recognition"), batch_of("recognition")
    first = {key: value[:1] for key, value in batch.items()}
    out = objective({**batch, "label": torch.tensor([0, label])}, NOW)
    assert out["unlabelled"] == 0.5
    torch.testing.assert_close(out["loss"], objective(first, NOW)["loss"])


def test_a_sample_without_a_label_is_blended_with_none():
    objective, batch = toy("recognition", mixup=1.0), batch_of("recognition", num=4)
    batch["label"][1:] = -1
    torch.manual_seed(0)
    loss = objective(batch, NOW)["loss"]
    first = {key: value[:1] for key, value in batch.items()}
    torch.testing.assert_close(loss, toy("recognition")(first, NOW)["loss"])
