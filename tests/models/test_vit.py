"""Backbones: the contract of all of them, and what is particular to the ViT."""

from __future__ import annotations

import copy
import inspect

import pytest
import torch
from torch import nn

from eventfm.engine.parallel import recompute
from eventfm.models import BACKBONES, build_backbone
from eventfm.models.masking import random_masking
from eventfm.models.vit import ViT
from eventfm.protocols import Backbone
from eventfm.registry import UnknownNameError

# The others are the same code, and slow.
NAMES = ["vit_nano", "vit_tiny", "vit_small", "convvit_nano", "convvit_tiny", "swin_nano", "swin_tiny"]


def built(name, size=(32, 48)):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return build_backbone(name, 3, size)


@pytest.mark.parametrize("name", NAMES)
def test_contract(name):
    with torch.device("meta"):
        stride = build_backbone(name, 3, 256).stride
    backbone = built(name, (2 * stride, 3 * stride))
    assert isinstance(backbone, Backbone)
    assert backbone.in_channels == 3
    x = torch.randn(2, 3, 2 * stride, 3 * stride)
    features = backbone(x)
    assert features.grid == (2, 3)
    assert features.tokens.shape == (2, 6, backbone.embed_dim)
    assert features.cls is None
    maps = backbone.pyramid(x)
    assert tuple(m.shape[1] for m in maps) == backbone.pyramid_dims
    assert len(maps) == 4
    sides = [m.shape[2:] for m in maps]
    assert sides == sorted(sides, reverse=True)
    assert all(isinstance(unit, nn.Module) for unit in backbone.shard_units())
    seen = backbone(x, keep=torch.tensor([[4, 0, 1], [2, 5, 3]]))
    assert seen.tokens.shape == (2, 3, backbone.embed_dim)
    assert seen.grid == (2, 3)
    (features.tokens.square().sum() + seen.tokens.square().sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in backbone.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", list(BACKBONES))
def test_every_parameter_is_in_one_layer_or_in_the_end(name):
    with torch.device("meta"):
        backbone = build_backbone(name, 3, 256)
    prefixes = [prefix for layer in backbone.layers() for prefix in layer]
    assert all(prefix.endswith(".") for prefix in prefixes)
    found = dict.fromkeys(prefixes, 0)
    for key, _ in backbone.named_parameters():
        hits = [prefix for prefix in prefixes if key.startswith(prefix)]
        assert len(hits) == (0 if key.startswith(("norm.", "fusion.")) else 1), key
        found.update({hit: found[hit] + 1 for hit in hits})
    assert all(found.values())


@pytest.mark.parametrize("name", ["vit_nano", "convvit_nano", "swin_nano"])
def test_masked_units_reach_no_visible_token(name):
    backbone = built(name, (64, 96))
    stride, grid = backbone.stride, (64 // backbone.stride, 96 // backbone.stride)
    num_units = grid[0] * grid[1]
    keep, _, mask = random_masking(torch.tensor([3, 8]), num_units, 0.5)
    assert not torch.equal(mask[0], mask[1])
    for sample in range(2):
        for place in range(0, keep.shape[1], 5):
            x = torch.randn(2, 3, 64, 96, requires_grad=True)
            backbone(x, keep=keep).tokens[sample, place].square().sum().backward()
            per_unit = x.grad.abs().sum(dim=1).unflatten(2, (-1, stride)).unflatten(1, (-1, stride)).sum(dim=(2, 4))
            reached = per_unit.flatten(1) > 0
            assert torch.equal(reached[sample], mask[sample] == 0)  # all that is visible, nothing else
            assert not reached[1 - sample].any()


@pytest.mark.parametrize("name", ["vit_nano", "convvit_nano", "swin_nano"])
def test_everything_visible_without_fusion_is_the_unmasked_forward(name):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        backbone = build_backbone(name, 3, (64, 96), fusion=False).eval()
    assert not any(key.startswith("fusion") for key in backbone.state_dict())
    x = torch.randn(1, 3, 64, 96)
    num_units = 64 * 96 // backbone.stride**2
    order = torch.randperm(num_units, generator=torch.Generator().manual_seed(4))
    tokens = backbone(x, keep=order[None]).tokens
    torch.testing.assert_close(tokens, backbone(x).tokens[:, order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["vit_nano", "convvit_nano", "swin_nano"])
def test_recomputed_blocks_have_the_same_gradients(name):
    plain = build_backbone(name, 3, (32, 48), drop_path=0.3)
    again = copy.deepcopy(plain)
    for unit in again.shard_units():
        recompute(unit)
    x, stride = torch.randn(2, 3, 32, 48), plain.stride
    keep = torch.stack([torch.randperm(32 * 48 // stride**2)[:3] for _ in range(2)])
    gradients = []
    for backbone in (plain, again):
        with torch.random.fork_rng():
            torch.manual_seed(7)
            (backbone(x).tokens.square().sum() + backbone(x, keep=keep).tokens.square().sum()).backward()
        gradients.append([parameter.grad for parameter in backbone.parameters()])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)


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


def test_without_fusion_the_last_block_stands_alone():
    fused, alone = (ViT(2, 32, 8, 16, depth=3, num_heads=2, fusion=fusion).eval() for fusion in (True, False))
    alone.load_state_dict(fused.state_dict())
    assert alone.fused_blocks == (3,)
    x, keep = torch.randn(1, 2, 32, 32), torch.tensor([[4, 9]])
    tokens = (fused.patch_embed(x) + fused.positions((4, 4)))[:, keep[0]]
    for block in fused.blocks:
        tokens = block(tokens)
    torch.testing.assert_close(alone(x, keep=keep).tokens, fused.norm(tokens))
    assert (fused(x, keep=keep).tokens - fused.norm(tokens)).abs().max() > 1e-3


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
