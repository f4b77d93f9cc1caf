"""What the numbers of a depth head mean."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from eventfm.tasks.depth import Depth


def networks(value):
    def head(pyramid):
        return torch.full((1, 1, 4, 4), value)

    return SimpleNamespace(backbone=SimpleNamespace(stride=8, pyramid=lambda x: [x]), head=head)


X = torch.zeros(1, 2, 8, 8)


@pytest.mark.parametrize("value", [-3.0, 0.0, 2.0])
def test_metric_is_a_share_of_the_greatest_depth(value):
    depth = Depth("metric", max_depth=50.0).predict(networks(value), {"input": X})["depth"]
    torch.testing.assert_close(depth, torch.full((1, 1, 8, 8), 50 / (1 + math.exp(-value))))


@pytest.mark.parametrize("value", [-1.0, 0.0, 3.0])
def test_log_is_the_logarithm_of_metres(value):
    depth = Depth("log").predict(networks(value), {"input": X})["depth"]
    torch.testing.assert_close(depth, torch.full((1, 1, 8, 8), math.exp(value)))


def test_the_loss_is_of_logarithms_and_stops_at_the_greatest_depth():
    target = torch.full((1, 1, 8, 8), 10.0)
    target[..., :4] = 60.0  # beyond what is learned
    out = Depth("log", max_depth=50.0, variance_focus=0.0).loss(networks(0.0), {"input": X, "depth": target})
    assert out["loss"].item() == pytest.approx(math.log(10), rel=1e-5)
    assert out["unlabelled"] == 0
