"""Convolution, batch norm and ReLU, down to a single value per channel."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from eventfm.models.decoders import conv_norm
from eventfm.models.decoders.conv_norm import ConvNormReLU


@pytest.fixture
def layer():
    torch.manual_seed(0)
    layer = ConvNormReLU(3, 4, 3)
    layer.norm.running_mean.copy_(torch.randn(4))
    layer.norm.running_var.copy_(torch.rand(4) + 0.5)
    return layer


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (1, 3, 2, 1), (2, 3, 1, 1)])
def test_equals_torchs_layers(layer, training, shape):
    theirs = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    theirs[0].load_state_dict(layer.conv.state_dict())
    theirs[1].load_state_dict(layer.norm.state_dict())
    x = torch.randn(shape)
    torch.testing.assert_close(layer.train(training)(x), theirs.train(training)(x))
    for ours, expected in zip(layer.norm.state_dict().values(), theirs[1].state_dict().values(), strict=True):
        torch.testing.assert_close(ours, expected)


def test_one_value_per_channel_is_normalised_as_in_evaluation(layer):
    x = torch.randn(1, 3, 1, 1)
    before = {key: value.clone() for key, value in layer.norm.state_dict().items()}
    trained = layer.train()(x)
    assert all(torch.equal(value, before[key]) for key, value in layer.norm.state_dict().items())
    torch.testing.assert_close(trained, layer.eval()(x))
    assert not torch.allclose(trained, layer.train()(x + 1))  # the input is still seen
    trained.sum().backward()
    assert layer.conv.weight.grad.any()


def test_with_several_ranks_one_value_each_is_a_batch(layer, monkeypatch):
    monkeypatch.setattr(conv_norm, "num_ranks", lambda: 2)
    asked = []
    layer.norm.forward = lambda x: asked.append(x.shape) or x
    layer.train()(torch.randn(1, 3, 1, 1))
    assert asked == [(1, 1, 1, 4)]
