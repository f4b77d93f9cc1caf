"""Low-rank updates: they start as nothing, they alone learn, and they merge into plain weights."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from eventfm.models import build_backbone
from eventfm.models.lora import add_lora, merged_state

BACKBONES = {
    "vit_nano": {"patch_size": 8},
    "convvit_nano": {"patch_size": 8},
    "swin_nano": {"patch_size": 8},
    "dinov3_nano": {"patch_size": 8},
    "dinov2_nano": {"patch_size": 8},
}


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    built: Any = build_backbone(name, 3, (32, 32), **BACKBONES[name])
    return built.eval()


@pytest.mark.parametrize("name", BACKBONES)
def test_updates_begin_at_nothing_learn_alone_and_merge(name: str) -> None:
    backbone: Any = network(name)
    plain = copy.deepcopy(backbone)
    x = torch.randn(2, 3, 32, 32)
    chosen = add_lora(backbone, rank=2, alpha=4.0)
    assert len(chosen) >= 4, "queries, keys, values and both layers of the MLP, of a block at least"
    torch.testing.assert_close(backbone(x).tokens, plain(x).tokens)

    learning = {n: p for n, p in backbone.named_parameters() if p.requires_grad}
    assert all(n.endswith((".down", ".up")) for n in learning)
    assert len(learning) == 2 * len(chosen)
    before = {n: p.detach().clone() for n, p in backbone.named_parameters()}
    optimizer = torch.optim.SGD(learning.values(), lr=0.05)
    for _ in range(2):  # in the first step only B has a gradient
        optimizer.zero_grad()
        backbone(x).tokens.sin().sum().backward()  # not squares: normed tokens have those fixed
        assert all(p.grad is not None for p in learning.values())
        optimizer.step()
    moved = {n for n, p in backbone.named_parameters() if not torch.equal(p, before[n])}
    assert moved == set(learning)

    state = merged_state(backbone)
    assert state.keys() == plain.state_dict().keys()
    plain.load_state_dict(state)
    torch.testing.assert_close(plain(x).tokens, backbone(x).tokens)
    assert not torch.equal(plain(x).tokens, network(name)(x).tokens)


def test_the_update_is_scaled_by_alpha_over_rank() -> None:
    layer = nn.Sequential(nn.Linear(3, 2, bias=False))
    weight = layer[0].weight.detach().clone()
    add_lora(layer, rank=4, alpha=8.0, where="0")
    update: Any = layer[0].parametrizations["weight"][0]  # type: ignore[index]
    with torch.no_grad():
        update.up.copy_(torch.randn(2, 4))
    expected = weight + 2.0 * update.up @ update.down
    torch.testing.assert_close(merged_state(layer)["0.weight"], expected.detach())


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="rank of at least 1"):
        add_lora(network("vit_nano"), rank=0)
    with pytest.raises(ValueError, match="linear layers with names like"):
        add_lora(nn.Sequential(nn.Linear(2, 2)))
