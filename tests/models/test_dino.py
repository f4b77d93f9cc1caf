"""DINO backbones: the contract, transformers' own networks as the oracle, and positions."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
)

from eventfm.engine.parallel import recompute
from eventfm.models import build_backbone
from eventfm.models.dino import DINO
from eventfm.models.importers import import_dino
from eventfm.protocols import Backbone

NANO = [("dinov3_nano", {}), ("dinov2_nano", {}), ("dinov2_nano", {"registers": 4})]
COMMON = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter random values, so that none can be left out unseen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.2, generator=generator)
    return module


def built(name, arguments, in_channels=3):
    backbone = build_backbone(name, in_channels, 28, **{"patch_size": 4, **arguments})
    return randomised(backbone, 1)


def published(name, arguments, patch):
    """Return a network of transformers of the same size."""
    if name == "dinov3_nano":
        config = DINOv3ViTConfig(**COMMON, intermediate_size=256, num_register_tokens=4, patch_size=patch)
        return randomised(DINOv3ViTModel(config)).eval()
    sizes = {**COMMON, "mlp_ratio": 4, "patch_size": patch, "image_size": 37 * patch}
    if arguments:
        return randomised(Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**sizes, num_register_tokens=4))).eval()
    return randomised(Dinov2Model(Dinov2Config(**sizes))).eval()


@pytest.mark.parametrize(("name", "arguments"), NANO)
def test_contract(name, arguments):
    backbone = build_backbone(name, 5, (28, 42), patch_size=14, **arguments)
    x = torch.randn(2, 5, 28, 42, generator=torch.Generator().manual_seed(3))
    assert isinstance(backbone, Backbone)
    assert (backbone.in_channels, backbone.embed_dim, backbone.stride) == (5, 64, 14)
    features = backbone(x)
    assert features.tokens.shape == (2, 6, 64)
    assert features.cls.shape == (2, 64)
    assert features.grid == (2, 3)
    maps = backbone.pyramid(x)
    assert [m.shape for m in maps] == [(2, 64, 2, 3)] * 4
    assert backbone.pyramid_dims == (64,) * 4
    assert backbone.shard_units() == list(backbone.blocks)
    seen = backbone(x, keep=torch.tensor([[4, 0, 1], [2, 5, 3]]))
    assert seen.tokens.shape == (2, 3, 64)
    (features.tokens.square().sum() + seen.tokens.square().sum()).backward()
    for key, parameter in backbone.named_parameters():
        assert parameter.requires_grad == (key != "embeddings.mask_token"), key
        assert not parameter.requires_grad or parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize(
    ("size", "depth", "taps"), [("nano", 2, (1, 1, 2, 2)), ("base", 12, (3, 6, 9, 12)), ("large", 24, (5, 12, 18, 24))]
)
@pytest.mark.parametrize("family", ["dinov2", "dinov3"])
def test_depth_and_taps(family, size, depth, taps):
    with torch.device("meta"):
        backbone = build_backbone(f"{family}_{size}", 3, 224)
    assert (len(backbone.blocks), backbone.taps) == (depth, taps)
    assert backbone.layers() == [["embeddings."], *([f"blocks.{i}."] for i in range(depth))]


@pytest.mark.parametrize(
    ("name", "millions"), [("dinov3_small", 21.60), ("dinov3_base", 85.67), ("dinov3_large", 303.15)]
)
def test_published_numbers_of_parameters(name, millions):
    with torch.device("meta"):
        backbone = build_backbone(name, 3, 224)
    assert sum(parameter.numel() for parameter in backbone.parameters()) / 1e6 == pytest.approx(millions, abs=0.03)


@pytest.mark.parametrize("size", [(148, 148), (32, 48), (44, 20)])
@pytest.mark.parametrize(("name", "arguments"), NANO)
def test_outputs_are_those_of_transformers(name, arguments, size):
    theirs = published(name, arguments, 4)
    ours = import_dino(theirs.state_dict()).build("backbone")
    x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        hidden = theirs(pixel_values=x).last_hidden_state
        for mode in (True, False):  # positions of ours are never stretched at random
            features = ours.train(mode)(x)
            torch.testing.assert_close(features.cls, hidden[:, 0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(features.tokens, hidden[:, ours.num_prefix :], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "arguments"), NANO)
def test_tokens_after_each_block_and_the_pyramid(name, arguments):
    backbone = built(name, arguments).eval()
    x = torch.randn(2, 3, 16, 24)
    first, last, again = backbone.tokens_at(x, (1, 2, 1))
    torch.testing.assert_close(last, backbone(x).tokens)
    torch.testing.assert_close(first, again)
    seen = []
    backbone.blocks[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    maps = backbone.pyramid(x)
    torch.testing.assert_close(first, backbone.norm(seen[0])[:, backbone.num_prefix :])
    torch.testing.assert_close(maps[0][1, :, 2, 5], first[1, 2 * 6 + 5])
    torch.testing.assert_close(maps[3][1, :, 2, 5], last[1, 2 * 6 + 5])
    for layers in ((), (0,), (1, 3)):
        with pytest.raises(ValueError, match="expected blocks between 1 and 2"):
            backbone.tokens_at(x, layers)


@pytest.mark.parametrize(("name", "arguments"), NANO)
def test_everything_visible_is_the_plain_forward(name, arguments):
    backbone = built(name, arguments).eval()
    x = torch.randn(2, 3, 16, 24)
    order = torch.stack([torch.randperm(24, generator=torch.Generator().manual_seed(i)) for i in (4, 5)])
    plain, seen = backbone(x), backbone(x, keep=order)
    rows = torch.arange(2)[:, None]
    torch.testing.assert_close(seen.tokens, plain.tokens[rows, order], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(seen.cls, plain.cls, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "arguments"), NANO)
def test_hidden_patches_reach_no_token(name, arguments):
    backbone = built(name, arguments)
    keep = torch.tensor([[5, 0, 11], [2, 3, 8]])
    for pick in (lambda features: features.tokens[0, 1], lambda features: features.cls[0]):
        x = torch.randn(2, 3, 12, 16, requires_grad=True)
        pick(backbone(x, keep=keep)).square().sum().backward()
        reached = x.grad.abs().sum(1).unflatten(2, (4, 4)).unflatten(1, (3, 4)).sum((2, 4)).flatten(1) > 0
        assert reached[0].nonzero().flatten().tolist() == [0, 5, 11]
        assert not reached[1].any()


@pytest.mark.parametrize(("name", "arguments"), NANO)
def test_visible_patches_are_as_if_the_others_were_masked_in_attention(name, arguments):
    """Each at its own place: the oracle runs all tokens, and lets none attend to what is hidden."""
    backbone = built(name, arguments).eval()
    x, kept = torch.randn(1, 3, 12, 16), [7, 2, 9]
    prefix = backbone.num_prefix
    hidden = torch.full((1, 1, 1, prefix + 12), float("-inf"))
    hidden[..., [*range(prefix), *(prefix + k for k in kept)]] = 0
    tokens = backbone.embeddings(x)
    turns = backbone.rope(x) if backbone.rope else (torch.empty(0, 32), torch.empty(0, 32))
    for block in backbone.blocks:
        tokens = block(tokens, attention_mask=hidden, position_embeddings=turns)
    tokens = backbone.norm(tokens)
    seen = backbone(x, keep=torch.tensor([kept]))
    torch.testing.assert_close(seen.tokens[0], tokens[0, [prefix + k for k in kept]], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(seen.cls, tokens[:, 0], rtol=1e-4, atol=1e-5)


def test_training_draws_nothing_without_drop_path():
    backbone = built("dinov3_nano", {})
    x = torch.randn(2, 3, 16, 24)
    outputs = [backbone.train(mode)(x).tokens for mode in (True, True, False)]
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


def test_drop_path_grows_with_depth_and_drops_in_training_alone():
    backbone = build_backbone("dinov3_nano", 3, 32, drop_path=0.6)
    assert [block.drop_path.rate for block in backbone.blocks] == [0, 0.6]
    x = torch.randn(4, 3, 32, 32)
    assert not torch.equal(backbone(x).tokens, backbone(x).tokens)
    backbone.eval()
    assert torch.equal(backbone(x).tokens, backbone(x).tokens)


def test_first_weights_are_drawn_as_published():
    """Standing alone, some of transformers' layers leave theirs unset."""
    backbone = build_backbone("dinov3_small", 3, 224)
    state = backbone.state_dict()
    assert all(value.isfinite().all() for value in state.values())
    for key in ("embeddings.cls_token", "embeddings.register_tokens", "blocks.3.attention.q_proj.weight"):
        assert state[key].std().item() == pytest.approx(0.02, rel=0.2)
    assert not state["embeddings.mask_token"].any()
    assert (state["blocks.11.layer_scale2.lambda1"] == 1e-5).all()
    assert "blocks.0.attention.k_proj.bias" not in state


def test_recomputed_blocks_have_the_same_gradients():
    plain, again = (built("dinov3_nano", {}) for _ in range(2))
    for unit in again.shard_units():
        recompute(unit)
    x = torch.randn(2, 3, 16, 24)
    for backbone in (plain, again):
        backbone(x).tokens.square().sum().backward()
    for first, second in zip(plain.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(first.grad, second.grad)


def test_half_precision_by_autocast_is_near():
    backbone = built("dinov3_nano", {}).eval()
    x, keep = torch.randn(2, 3, 16, 24), torch.tensor([[1, 7], [3, 20]])
    exact = backbone(x, keep=keep).tokens
    with torch.autocast("cpu", torch.bfloat16):
        near = backbone(x, keep=keep).tokens
    assert torch.nn.functional.cosine_similarity(exact, near.float(), dim=2).min() > 0.99


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(1, 5, 16, 16), r"expected an input \(B, 3, H, W\), got \(1, 5, 16, 16\)"),
        (torch.zeros(1, 3, 16, 18), "multiples of the patch of 4, got 16x18"),
        (torch.zeros(1, 3, 0, 16), "multiples of the patch of 4, got 0x16"),
    ],
)
@pytest.mark.parametrize(("name", "arguments"), NANO[:2])
def test_inputs_that_do_not_fit_are_refused(name, arguments, x, message):
    backbone = built(name, arguments)
    for method in (backbone, backbone.pyramid, lambda x: backbone.tokens_at(x, (1,))):
        with pytest.raises(ValueError, match=message):
            method(x)


def test_names_do_not_depend_on_the_version_of_transformers():
    assert {
        key.removeprefix("blocks.0.") for key in built("dinov2_nano", {}).state_dict() if "blocks.1" not in key
    } == {
        "embeddings.cls_token",
        "embeddings.mask_token",
        "embeddings.position_embeddings",
        "embeddings.patch_embeddings.projection.weight",
        "embeddings.patch_embeddings.projection.bias",
        *(f"norm{i}.{kind}" for i in ("1", "2", "") for kind in ("weight", "bias")),
        *(f"attention.{part}_proj.{kind}" for part in "qkvo" for kind in ("weight", "bias")),
        *(f"mlp.{part}_proj.{kind}" for part in ("up", "down") for kind in ("weight", "bias")),
        "layer_scale1.lambda1",
        "layer_scale2.lambda1",
    }
    assert isinstance(built("dinov3_nano", {}), DINO)
