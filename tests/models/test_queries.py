"""Queries in the last blocks of plain transformers."""

from __future__ import annotations

import pytest
import torch

from eventfm.models import build_backbone
from eventfm.models.queries import run_with_queries

PLAIN = [
    ("vit_nano", {"patch_size": 4}),
    ("convvit_nano", {"patch_size": 4}),
    ("dinov3_nano", {"patch_size": 4}),
    ("dinov2_nano", {"patch_size": 4, "registers": 4}),
]


def built(name, arguments):
    torch.manual_seed(0)
    backbone = build_backbone(name, 3, 16, **arguments).eval()
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.normal_(0, 0.2)
    return backbone


@pytest.mark.parametrize("last", [1, 2])
@pytest.mark.parametrize(("name", "arguments"), PLAIN)
def test_queries_join_what_the_last_blocks_are_given(name, arguments, last):
    backbone = built(name, arguments)
    x, queries = torch.randn(2, 3, 12, 20), torch.randn(3, backbone.embed_dim)
    given = {}

    def remember(block, inputs, keywords):
        given.setdefault(block, (inputs[0], keywords))

    hooks = [block.register_forward_pre_hook(remember, with_kwargs=True) for block in backbone.blocks]
    with torch.no_grad():
        backbone(x)
        for hook in hooks:
            hook.remove()
        tokens, keywords = given[backbone.blocks[-last]]
        tokens = torch.cat([queries.repeat(2, 1, 1), tokens], dim=1)
        for block in backbone.blocks[-last:]:
            tokens = block(tokens, **keywords)
        tokens = backbone.norm(tokens)
        found, patches, grid = backbone.with_queries(x, queries, last)
    assert (found.shape, patches.shape, grid) == ((2, 3, backbone.embed_dim), (2, 15, backbone.embed_dim), (3, 5))
    torch.testing.assert_close(found, tokens[:, :3], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(patches, tokens[:, -15:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "arguments"), PLAIN)
def test_patches_see_the_queries_whose_order_does_not_count(name, arguments):
    backbone = built(name, arguments)
    x, queries = torch.randn(1, 3, 12, 20), torch.randn(3, backbone.embed_dim)
    with torch.no_grad():
        first, patches, _ = backbone.with_queries(x, queries, 2)
        turned, same, _ = backbone.with_queries(x, queries.flip(0), 2)
        _, others, _ = backbone.with_queries(x, queries.flip(1), 2)
    torch.testing.assert_close(turned, first.flip(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(same, patches, rtol=1e-4, atol=1e-5)
    assert (others - patches).abs().max() > 1e-3


@pytest.mark.parametrize("last", [0, 3])
def test_there_must_be_as_many_blocks(last):
    blocks = [torch.nn.Identity(), torch.nn.Identity()]
    with pytest.raises(ValueError, match=f"1 to 2 last blocks, as many as there are, got {last}"):
        run_with_queries(blocks, torch.zeros(1, 4, 8), torch.zeros(2, 8), last)


def test_queries_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"expected queries \(Q, 8\) of the backbone's width, got \(2, 4\)"):
        run_with_queries([torch.nn.Identity()], torch.zeros(1, 4, 8), torch.zeros(2, 4), 1)
