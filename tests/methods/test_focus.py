"""The weights of positions, by hand."""

from __future__ import annotations

import math

import numpy as np
import torch

from eventfm.methods.focus import attention_weights, density_weights


def test_density_weights_by_hand():
    x = torch.randn(2, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    x[0, :, :8, :8] = 0
    found = density_weights(x, 4)
    for b in range(2):
        activity = np.zeros((3, 4))
        for i in range(3):
            for j in range(4):
                activity[i, j] = np.abs(x[b, :, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4].numpy().astype(np.float64)).mean()
        smooth = np.array(
            [[activity[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].mean() for j in range(4)] for i in range(3)]
        )
        np.testing.assert_allclose(found[b], (smooth / smooth.mean()).ravel(), rtol=1e-5)


def test_more_events_weigh_more_whatever_their_sign_and_scale():
    x = torch.zeros(1, 2, 16, 16)
    x[0, 0, 12, 12], x[0, 1, 13, 13] = 1.0, -1.0
    weights = density_weights(x, 4)[0].view(4, 4)
    assert weights[3, 3] == weights.max() > 1
    assert weights[0, 0] == 0
    torch.testing.assert_close(density_weights(1e-3 * x, 4), density_weights(x, 4))


def test_a_sample_without_events_weighs_the_same_everywhere():
    x = torch.zeros(2, 2, 8, 8)
    x[1, 0, 0, 0] = 3
    weights = density_weights(x, 4)
    assert torch.equal(weights[0], torch.ones(4))
    torch.testing.assert_close(weights.mean(1), torch.ones(2))


def test_attention_weights_by_hand():
    tokens = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1)).double()
    found = attention_weights(tokens)
    for b in range(2):
        received = [0.0] * 5
        for i in range(5):
            cosines = [
                float(tokens[b, i] @ tokens[b, j] / (tokens[b, i].norm() * tokens[b, j].norm())) for j in range(5)
            ]
            total = sum(math.exp(10 * cosines[j]) for j in range(5) if j != i)
            for j in range(5):
                if j != i:
                    received[j] += math.exp(10 * cosines[j]) / total
        np.testing.assert_allclose(found[b], received, rtol=1e-4)
    torch.testing.assert_close(found.mean(1), torch.ones(2))


def test_tokens_that_others_resemble_weigh_more():
    tokens = torch.tensor([[[1.0, 0.1], [1.0, 0.0], [1.0, -0.1], [-1.0, 0.0]]])
    weights = attention_weights(tokens)[0]
    assert weights[3] < 0.1 < weights[:3].min()
    torch.testing.assert_close(attention_weights(torch.ones(2, 6, 3)), torch.ones(2, 6))
    assert torch.equal(attention_weights(torch.ones(2, 1, 3)), torch.ones(2, 1))


def test_weights_are_constants_and_autocast_leaves_them_alone():
    tokens = torch.randn(1, 6, 4, requires_grad=True)
    x = torch.randn(1, 2, 8, 8, requires_grad=True)
    full = attention_weights(tokens), density_weights(x, 4)
    assert not any(weights.requires_grad for weights in full)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = attention_weights(tokens), density_weights(x, 4)
    assert all(torch.equal(a, b) for a, b in zip(full, half, strict=True))
