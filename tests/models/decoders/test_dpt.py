"""DPT's head against transformers' Depth Anything and DPT, and on the maps of all kinds of backbones."""

from __future__ import annotations

import pytest
import torch
from tiny_decoders import CHANNELS, depth_anything, dpt, fitting_dpt

from eventfm.models import build_backbone
from eventfm.models.decoders.dpt import DPTHead
from eventfm.models.importers.decoders import load_decoder


def tokens_of(maps):
    """Return maps as transformers' neck takes them: a class token, then cells in raster order."""
    return [torch.cat([torch.randn(len(m), 1, m.shape[1]), m.flatten(2).transpose(1, 2)], dim=1) for m in maps]


@pytest.mark.parametrize("grid", [(5, 7), (4, 6), (1, 3)])
def test_it_is_depth_anything(grid):
    theirs = depth_anything()
    head = fitting_dpt(14)
    load_decoder(head, theirs.state_dict())
    maps = [torch.randn(2, 24, *grid) for _ in range(4)]
    with torch.no_grad():
        expected = theirs.head(theirs.neck(tokens_of(maps), *grid), *grid)
        found = head(maps)
    assert found.shape == (2, 1, 14 * grid[0], 14 * grid[1])
    torch.testing.assert_close(found[:, 0].sigmoid() * 80, expected, rtol=1e-5, atol=1e-5)
    assert expected.std() > 1


def test_it_is_dpt_on_even_grids():
    theirs = dpt("ignore")
    head = fitting_dpt(16, hidden=32)
    load_decoder(head, theirs.state_dict())
    maps = [torch.randn(2, 24, 4, 6) for _ in range(4)]
    with torch.no_grad():
        expected = theirs.head(theirs.neck(tokens_of(maps), 4, 6))
        found = head(maps)
    assert (expected > 0).any()
    torch.testing.assert_close(found[:, 0].relu(), expected, rtol=1e-5, atol=1e-5)


def test_maps_of_a_hierarchical_backbone_keep_their_sizes():
    theirs = depth_anything(reassemble_factors=(1, 1, 1, 1), patch_size=16)
    head = DPTHead((24,) * 4, (4, 8, 16, 32), dim=16, channels=CHANNELS, hidden=4)
    load_decoder(head, theirs.state_dict())
    maps = [torch.randn(1, 24, *size) for size in ((20, 12), (10, 6), (5, 3), (3, 2))]
    with torch.no_grad():
        levels = [
            conv(layer(level))
            for conv, layer, level in zip(theirs.neck.convs, theirs.neck.reassemble_stage.layers, maps, strict=True)
        ]
        expected = theirs.head(theirs.neck.fusion_stage(levels), 5, 3)
        found = head(maps)
    assert found.shape == (1, 1, 80, 48)
    torch.testing.assert_close(found[:, 0].sigmoid() * 80, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "arguments", "strides"),
    [
        ("vit_nano", {"patch_size": 8}, (8, 8, 8, 8)),
        ("convvit_nano", {}, (4, 8, 16, 32)),
        ("swin_nano", {"patch_size": 16}, (2, 4, 8, 16)),
        ("swin_nano", {"patch_size": 32}, (4, 8, 16, 32)),
        ("dinov2_nano", {"patch_size": 16}, (16, 16, 16, 16)),
    ],
)
def test_every_backbone_and_every_gradient(name, arguments, strides):
    torch.manual_seed(0)
    size = (96, 160)
    backbone = build_backbone(name, 2 if name[0] != "d" else 3, size, **arguments)
    assert backbone.pyramid_strides == strides
    maps = backbone.pyramid(torch.randn(2, backbone.in_channels, *size))
    sizes = [(-(-size[0] // stride), -(-size[1] // stride)) for stride in strides]
    assert [tuple(level.shape[2:]) for level in maps] == sizes
    head = DPTHead(backbone.pyramid_dims, backbone.pyramid_strides, 2, dim=8, channels=(4, 5, 6, 7))
    found = head(maps)
    assert found.shape == (2, 2, *size)
    found.square().mean().backward()
    for key, parameter in head.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().sum() > 0, key


def test_strides_that_are_no_multiples_and_other_numbers_of_maps_are_refused():
    with pytest.raises(ValueError, match=r"whole multiples of each other, got a ratio of 0\.75"):
        DPTHead((4,) * 4, (16, 16, 16, 24))
    with pytest.raises(ValueError, match="expected four maps"):
        DPTHead((4,) * 3, (16,) * 3)


def test_other_maps_are_refused():
    head = DPTHead((4,) * 4, (16,) * 4, dim=8, channels=(4, 4, 4, 4))
    with pytest.raises(ValueError, match=r"expected maps of \(4, 4, 4, 4\) channels"):
        head([torch.zeros(1, 4, 2, 2)] * 3)
