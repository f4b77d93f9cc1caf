"""The classification head."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from eventfm.models.heads import AttentiveClassifier, Classifier, MLPClassifier, build_head


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


def test_the_hidden_layer_stands_between_mean_and_logits():
    head, tokens = MLPClassifier(6, 3, hidden_dim=5), torch.randn(2, 4, 6)
    hidden = functional.gelu(tokens.mean(1) @ head.hidden.weight.T + head.hidden.bias)
    torch.testing.assert_close(head(tokens), hidden @ head.linear.weight.T + head.linear.bias)


def test_attention_weighs_tokens_by_what_they_say_and_not_by_where_they_are():
    torch.manual_seed(0)
    head, tokens = AttentiveClassifier(8, 3, num_heads=2), torch.randn(2, 5, 8)
    torch.testing.assert_close(head(tokens), head(tokens[:, torch.randperm(5)]))
    answers = []
    for heads in tokens:  # one sample, head by head, in plain words
        key, value = (part(heads).view(5, 2, 4) for part in (head.key, head.value))
        parts = []
        for number in range(2):
            scores = key[:, number] @ head.query_token.view(2, 4)[number] / 2.0
            parts.append(scores.softmax(0) @ value[:, number])
        answers.append(head.linear(head.norm(torch.cat(parts))))
    torch.testing.assert_close(head(tokens), torch.stack(answers))
    with pytest.raises(ValueError, match="a width that 3 heads divide, got 8"):
        AttentiveClassifier(8, 3, num_heads=3)


@pytest.mark.parametrize("name", ["linear", "mlp", "attentive"])
@pytest.mark.parametrize("dim", [16, 64, 192, 200])
def test_every_head_is_made_for_any_width(name, dim):
    head = build_head(name, dim, 7)
    logits = head(torch.randn(3, 4, dim))
    assert logits.shape == (3, 7)
    logits.square().sum().backward()
    assert all(p.grad is not None for p in head.parameters())
