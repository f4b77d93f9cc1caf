"""ConvViT against a slow, dense forward with a mask multiplied in, as the paper's code computes it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from eventfm.models import batch_norm, build_backbone
from eventfm.models.convvit import ConvBlock, ConvViT, convvit_nano, convvit_small
from eventfm.models.layers import pointwise
from eventfm.models.masking import random_masking

GRID = (4, 6)


def built(**changes):
    arguments = {"dims": (8, 16, 24), "depths": (2, 1, 2), "num_heads": 2, **changes}
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return ConvViT(3, (32, 48), 8, **arguments).eval()


def norm(maps, layer):
    return layer(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def dense(backbone, x, keep=None):
    """Return the three levels, computed everywhere, the mask multiplied in before the depthwise convolution."""
    batch, grid = x.shape[0], (x.shape[2] // backbone.stride, x.shape[3] // backbone.stride)
    seen = torch.ones(batch, grid[0] * grid[1]) if keep is None else torch.zeros(batch, grid[0] * grid[1])
    if keep is not None:
        seen.scatter_(1, keep, 1)
    seen = seen.view(batch, 1, *grid)
    maps, levels = x, []
    for stem, stage, side in zip(backbone.stems, backbone.stages, (4, 2), strict=False):
        maps = functional.gelu(norm(stem.proj(maps), stem.norm))
        mask = functional.interpolate(seen, scale_factor=side, mode="nearest")
        for block in stage:
            maps = maps + block.conv2(block.depthwise(mask * block.conv1(norm(maps, block.norm1))))
            maps = maps + block.mlp.fc2(functional.gelu(block.mlp.fc1(norm(maps, block.norm2))))
        levels.append(maps)
    maps = functional.gelu(norm(backbone.stems[2].proj(maps), backbone.stems[2].norm))
    tokens = backbone.to_tokens(maps.flatten(2).transpose(1, 2)) + backbone.positions(grid)
    if keep is not None:
        tokens = torch.stack([tokens[b, keep[b]] for b in range(batch)])
    for block in backbone.blocks:
        tokens = block(tokens)
    return [*levels, tokens]


def masks(ratio=0.5):
    return random_masking(torch.tensor([1, 2]), GRID[0] * GRID[1], ratio)


@pytest.mark.parametrize("fusion", [True, False])
@pytest.mark.parametrize("ratio", [0.5, 0.9, 0.0])
def test_masked_forward_equals_the_dense_one_and_so_do_its_gradients(fusion, ratio):
    backbone = built(fusion=fusion)
    reference = copy.deepcopy(backbone)
    x = torch.randn(2, 3, 32, 48)
    keep, _, _ = masks(ratio)
    first, second, expected = dense(reference, x, keep)
    if fusion:
        fused = [convolution(maps) for convolution, maps in zip(reference.fusion, (first, second), strict=True)]
        for maps in fused:
            tokens = maps.flatten(2).transpose(1, 2)
            expected = expected + torch.stack([tokens[b, keep[b]] for b in range(2)])
    expected = reference.norm(expected)
    found = backbone(x, keep=keep)
    torch.testing.assert_close(found.tokens, expected, rtol=1e-4, atol=1e-5)
    assert found.grid == GRID
    weight = torch.randn_like(expected)
    (found.tokens * weight).sum().backward()
    (expected * weight).sum().backward()
    for (name, one), two in zip(backbone.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("size", [(32, 48), (8, 8), (40, 16)])
def test_unmasked_forward_and_taps_equal_the_dense_ones(size):
    backbone = built()
    x = torch.randn(2, 3, *size)
    first, second, tokens = dense(backbone, x)
    rows, cols = size[0] // 8, size[1] // 8
    features = backbone(x)
    assert features.grid == (rows, cols)
    torch.testing.assert_close(features.tokens, backbone.norm(tokens), rtol=1e-4, atol=1e-5)
    maps = backbone.pyramid(x)
    for found, expected in zip(maps, (first, second), strict=False):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert [tuple(m.shape) for m in maps] == [
        (2, 8, 4 * rows, 4 * cols),
        (2, 16, 2 * rows, 2 * cols),
        (2, 24, rows, cols),
        (2, 24, -(-rows // 2), -(-cols // 2)),
    ]
    assert torch.equal(maps[2].flatten(2).transpose(1, 2), features.tokens)
    corner = maps[2][:, :, -1 if rows % 2 else -2 :, -1 if cols % 2 else -2 :].mean(dim=(2, 3))
    torch.testing.assert_close(maps[3][:, :, -1, -1], corner)


def test_visible_tokens_follow_the_order_of_keep():
    backbone = built()
    x = torch.randn(2, 3, 32, 48)
    keep, _, _ = masks()
    order = torch.randperm(keep.shape[1], generator=torch.Generator().manual_seed(3))
    turned = backbone(x, keep=keep[:, order]).tokens
    torch.testing.assert_close(turned, backbone(x, keep=keep).tokens[:, order], rtol=1e-4, atol=1e-5)


def test_a_sample_does_not_depend_on_its_batch():
    backbone = built()
    x = torch.randn(2, 3, 32, 48)
    keep, _, _ = masks()
    together = backbone(x, keep=keep).tokens
    for b in range(2):
        alone = backbone(x[b : b + 1], keep=keep[b : b + 1]).tokens
        torch.testing.assert_close(alone, together[b : b + 1], rtol=1e-4, atol=1e-5)


def test_what_is_in_masked_units_is_never_read():
    backbone = built()
    x = torch.randn(2, 3, 32, 48)
    keep, _, mask = masks()
    pixels = mask.view(2, 1, *GRID).repeat_interleave(8, 2).repeat_interleave(8, 3).bool()
    spoilt = x.masked_fill(pixels, float("nan"))
    assert torch.equal(backbone(spoilt, keep=keep).tokens, backbone(x, keep=keep).tokens)


def test_each_stage_has_its_own_depth():
    backbone = ConvViT(2, 32, 16, (8, 12, 16), (1, 3, 2), 2)
    assert [len(stage) for stage in backbone.stages] == [1, 3]
    assert len(backbone.blocks) == 2
    assert len(backbone.shard_units()) == 6
    assert [type(unit).__name__ for unit in backbone.shard_units()] == ["ConvBlock"] * 4 + ["Block"] * 2


def test_layers_of_the_published_size():
    with torch.device("meta"):
        layers = convvit_small(5, 224).layers()
    assert layers[:4] == [["stems.", "to_tokens."], ["stages.0."], ["stages.1."], ["blocks.0."]]
    assert layers[-1] == ["blocks.10."]
    assert len(layers) == 14


def test_published_sizes():
    with torch.device("meta"):
        small, base = (build_backbone(f"convvit_{name}", 5, 224) for name in ("small", "base"))
        whole = convvit_small(5, 224, fusion=False, extra_level=True)
    numbers = {name: parameter.numel() for name, parameter in small.named_parameters()}
    fusion = sum(number for name, number in numbers.items() if name.startswith("fusion."))
    assert fusion == 384 * (128 * 16 + 1) + 384 * (256 * 4 + 1)
    positions = 196 * 384  # which are among the official parameters
    assert round((sum(numbers.values()) - fusion + positions) / 1e6, 2) == 21.95
    extra = 384 * 384 * 9 + 384 + 2 * 384
    assert sum(parameter.numel() for parameter in whole.parameters()) == sum(numbers.values()) - fusion + extra
    assert small.pyramid_dims == (128, 256, 384, 384)
    assert base.pyramid_dims == (256, 384, 768, 768)
    shapes = {name: tuple(value.shape) for name, value in small.state_dict().items()}
    assert shapes["stages.1.0.conv1.weight"] == (256, 256, 1, 1)
    assert shapes["stages.1.0.depthwise.weight"] == (256, 1, 5, 5)
    assert shapes["stages.1.0.mlp.fc1.weight"] == (1024, 256, 1, 1)


def test_extra_level_is_the_published_convolution():
    backbone = built(extra_level=True)
    x = torch.randn(1, 3, 32, 48)
    maps = backbone.pyramid(x)
    published = nn.Sequential(nn.Conv2d(24, 24, 3, stride=2), nn.BatchNorm2d(24), nn.GELU()).eval()
    published.load_state_dict(backbone.extra_level.state_dict())
    torch.testing.assert_close(maps[3], published(maps[2]))
    assert maps[3].shape == (1, 24, 1, 2)
    for part in (backbone, published):
        part.train()
    trained = backbone.pyramid(x)
    torch.testing.assert_close(trained[3], published(trained[2]), rtol=1e-4, atol=1e-5)
    for name, value in published.state_dict().items():
        torch.testing.assert_close(backbone.extra_level.state_dict()[name], value)
    with pytest.raises(ValueError, match="at least 3x3 tokens for the extra level, got 2x6"):
        backbone.pyramid(x[:, :, :16])


def test_extra_level_has_the_statistics_of_all_ranks(monkeypatch):
    """Each of two ranks is given what both say of themselves, as if they had exchanged it."""
    whole = built(extra_level=True).train()
    x = torch.randn(4, 3, 32, 48, generator=torch.Generator().manual_seed(5))
    expected = whole.pyramid(x)[3]
    said = []

    def listen(own):
        said.append(own)
        return own

    monkeypatch.setattr(batch_norm, "num_ranks", lambda: 2)
    monkeypatch.setattr(batch_norm, "gather", listen)
    for half in x.split([1, 3]):
        built(extra_level=True).train().pyramid(half)
    monkeypatch.setattr(batch_norm, "gather", lambda own: torch.cat(said))
    for half, one in zip(x.split([1, 3]), expected.split([1, 3]), strict=True):
        rank = built(extra_level=True).train()
        torch.testing.assert_close(rank.pyramid(half)[3], one, rtol=1e-4, atol=1e-5)
        for name, value in rank.extra_level.state_dict().items():
            torch.testing.assert_close(value, whole.extra_level.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_drop_path_drops_samples_whole_and_grows_with_depth():
    backbone = convvit_nano(3, 64, drop_path=0.3)
    rates = [unit.drop_path.rate for unit in backbone.shard_units()]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3])
    block = ConvBlock(8, drop_path=0.5)
    cells = torch.randn(64, 4, 8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        changed = (block(cells, (2, 2)) != cells).flatten(1)
    assert (changed.all(dim=1) | ~changed.any(dim=1)).all()
    assert 0.5 < changed.any(dim=1).float().mean() < 0.95  # three in four keep at least one of two paths


def test_pointwise_is_the_convolution():
    convolution = torch.nn.Conv2d(6, 10, 1)
    x = torch.randn(2, 6, 3, 5)
    found = pointwise(x.permute(0, 2, 3, 1), convolution).permute(0, 3, 1, 2)
    torch.testing.assert_close(found, convolution(x))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: convvit_nano(3, 30), "multiples of the patch of 16, got 30x30"),
        (lambda: convvit_nano(3, 32)(torch.zeros(1, 3, 16, 24)), "multiples of the patch of 16, got 16x24"),
        (lambda: convvit_nano(3, 32)(torch.zeros(1, 5, 16, 16)), r"expected an input \(B, 3, H, W\)"),
        (lambda: convvit_nano(3, 36, patch_size=6), "a multiple of 4 pixels, got 6"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
