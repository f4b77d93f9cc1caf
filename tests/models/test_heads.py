"""The classification head."""

from __future__ import annotations

import torch

from eventfm.models.heads import Classifier


def test_logits_are_a_linear_map_of_the_mean_token():
    head = Classifier(3, 2)
    head.load_state_dict(
        {"linear.weight": torch.tensor([[1.0, 2, 3], [0, -1, 0]]), "linear.bias": torch.tensor([5.0, 7])}
    )
    tokens = torch.tensor([[[1.0, 0, 0], [3, 4, 2]], [[0, 1, 0], [0, 1, 0]]])
    assert head(tokens).tolist() == [[2 + 4 + 3 + 5, -2 + 7], [2 + 5, -1 + 7]]


def test_it_starts_without_bias_and_with_xavier_weights():
    torch.manual_seed(0)
    head = Classifier(300, 300)
    assert not head.linear.bias.any()
    assert head.linear.weight.abs().max() <= 0.1  # sqrt(6 / (300 + 300))
    assert head.linear.weight.abs().max() > 0.099
