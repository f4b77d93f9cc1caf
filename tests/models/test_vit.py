"""Backbones: the contract of all of them, and what is particular to the ViT."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

from eventfm.models import BACKBONES, build_backbone
from eventfm.models.vit import ViT
from eventfm.protocols import Backbone
from eventfm.registry import UnknownNameError

NAMES = [name for name in BACKBONES if name != "vit_base"]  # the same code as vit_small, and slow


def built(name, size=(32, 48)):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return build_backbone(name, 3, size)


@pytest.mark.parametrize("name", NAMES)
def test_contract(name):
    backbone = built(name)
    assert isinstance(backbone, Backbone)
    x = torch.randn(2, 3, 32, 48)
    features = backbone(x)
    rows, cols = 32 // backbone.stride, 48 // backbone.stride
    assert features.grid == (rows, cols)
    assert features.tokens.shape == (2, rows * cols, backbone.embed_dim)
    assert features.cls is None
    maps = backbone.pyramid(x)
    assert [tuple(m.shape) for m in maps] == [(2, backbone.embed_dim, rows, cols)] * 4
    assert all(isinstance(unit, nn.Module) for unit in backbone.shard_units())
    features.tokens.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in backbone.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("name", "num_parameters"), [("vit_small", 21_787_008), ("vit_base", None), ("vit_tiny", None), ("vit_nano", None)]
)
def test_sizes(name, num_parameters):
    with torch.device("meta"):
        backbone = build_backbone(name, 5, 224)
    found = sum(parameter.numel() for parameter in backbone.parameters())
    depth, dim, patch = len(backbone.blocks), backbone.embed_dim, backbone.stride
    block = 12 * dim**2 + 13 * dim
    assert found == depth * block + (5 * patch**2 + 3) * dim + 2 * dim
    assert num_parameters in (None, found)


@pytest.mark.parametrize(
    ("depth", "fused", "taps"),
    [(12, (2, 4, 12), (4, 6, 8, 12)), (6, (1, 2, 6), (2, 3, 4, 6)), (2, (1, 2), (1, 1, 1, 2)), (1, (1,), (1, 1, 1, 1))],
)
def test_fused_blocks_and_taps_follow_the_depth(depth, fused, taps):
    backbone = ViT(1, 16, 8, 16, depth, 2)
    assert backbone.fused_blocks == fused
    assert backbone.taps == taps


def test_masked_forward_adds_the_fused_blocks_before_the_norm():
    backbone = ViT(2, 32, 8, 16, depth=3, num_heads=2, fused_blocks=(1, 3)).eval()
    x = torch.randn(2, 2, 32, 32)
    keep = torch.tensor([[3, 0, 7], [1, 15, 2]])
    tokens = backbone.patch_embed(x) + backbone.positions((4, 4))
    tokens = torch.stack([tokens[b, keep[b]] for b in range(2)])
    first = backbone.blocks[0](tokens)
    third = backbone.blocks[2](backbone.blocks[1](first))
    features = backbone(x, keep=keep)
    torch.testing.assert_close(features.tokens, backbone.norm(first + third))
    assert features.grid == (4, 4)
    unfused = ViT(2, 32, 8, 16, depth=3, num_heads=2, fused_blocks=(3,)).eval()
    unfused.load_state_dict(backbone.state_dict())
    torch.testing.assert_close(unfused(x).tokens, unfused(x, keep=torch.arange(16).expand(2, -1)).tokens)


def test_last_tap_is_the_unnormed_last_block():
    backbone = built("vit_nano").eval()
    x = torch.randn(1, 3, 32, 48)
    last = backbone.pyramid(x)[-1].flatten(2).transpose(1, 2)
    torch.testing.assert_close(backbone.norm(last), backbone(x).tokens)


def test_visible_tokens_follow_the_order_of_keep():
    backbone = built("vit_nano").eval()
    x = torch.randn(1, 3, 32, 48)
    keep = torch.tensor([[5, 0, 11, 3]])
    turned = keep.flip(1)
    torch.testing.assert_close(backbone(x, keep=keep).tokens.flip(1), backbone(x, keep=turned).tokens)


def test_other_input_sizes_equal_a_backbone_made_for_them():
    small, large = built("vit_nano", (16, 16)).eval(), built("vit_nano", (40, 24)).eval()
    large.load_state_dict(small.state_dict())
    x = torch.randn(1, 3, 40, 24)
    torch.testing.assert_close(small(x).tokens, large(x).tokens, rtol=0, atol=0)


def test_linear_layers_start_xavier_uniform_with_zero_bias():
    backbone = built("vit_tiny")
    for module in backbone.modules():
        if isinstance(module, nn.Linear):
            bound = (6 / (module.in_features + module.out_features)) ** 0.5
            assert module.weight.abs().max() <= bound
            assert module.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
            assert not module.bias.any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: build_backbone("vit_nano", 3, 30), "multiples of the patch of 8, got 30x30"),
        (lambda: built("vit_nano")(torch.zeros(1, 3, 8, 12)), "multiples of the patch of 8, got 8x12"),
        (lambda: built("vit_nano")(torch.zeros(1, 5, 16, 16)), r"expected an input \(B, 3, H, W\)"),
        (lambda: build_backbone("vit_nano", 3, 32, patch=4), "unknown argument 'patch' .*did you mean 'patch_size'"),
        (lambda: ViT(1, 16, 8, 16, 2, 2, fused_blocks=(0,)), "fused blocks between 1 and 2"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_unknown_backbone_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean"):
        build_backbone("vit_smal", 3, 32)


@pytest.mark.parametrize("name", list(BACKBONES))
def test_builders_take_channels_and_size_first(name):
    assert list(inspect.signature(BACKBONES.get(name)).parameters)[:2] == ["in_channels", "image_size"]
