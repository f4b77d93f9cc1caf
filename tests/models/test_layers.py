"""Layers against the formulas they stand for, in plain numpy and Python."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from torch import nn

from eventfm.models.convvit import convvit_nano
from eventfm.models.layers import (
    NO_DECAY,
    Attention,
    Block,
    DropPath,
    PatchEmbed,
    Positions,
    patchwise,
    sincos_positions,
)
from eventfm.models.masked_decoder import MaskedDecoder
from eventfm.models.swin import swin_nano
from eventfm.models.vit import vit_nano


@pytest.mark.parametrize("grid", [(2, 3), (1, 1), (5, 2)])
def test_positions_encode_the_column_then_the_row(grid):
    dim, (rows, cols) = 12, grid
    table = sincos_positions(grid, dim)
    assert table.shape == (rows * cols, dim)
    for row in range(rows):
        for col in range(cols):
            expected = []
            for place in (col, row):
                angles = [place / 10000 ** (k / (dim // 4)) for k in range(dim // 4)]
                expected += [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
            np.testing.assert_allclose(table[row * cols + col].numpy(), expected, atol=1e-6)


def test_positions_of_another_grid_are_worked_out():
    positions = Positions((2, 2), 8)
    torch.testing.assert_close(positions((3, 5)), sincos_positions((3, 5), 8))
    assert positions((2, 2)) is positions.table
    assert not positions.state_dict()


def test_positions_need_a_width_of_fours():
    with pytest.raises(ValueError, match="multiple of 4"):
        sincos_positions((2, 2), 6)


def test_attention_equals_softmax_by_hand():
    dim, heads = 8, 2
    attention = Attention(dim, heads).double()
    x = torch.randn(2, 5, dim, dtype=torch.float64)
    weight, bias = attention.qkv.weight.detach().numpy(), attention.qkv.bias.detach().numpy()
    expected = np.zeros((2, 5, dim))
    for b in range(2):
        query, key, value = np.split(x[b].numpy() @ weight.T + bias, 3, axis=1)
        for h in range(heads):
            part = slice(h * dim // heads, (h + 1) * dim // heads)
            scores = query[:, part] @ key[:, part].T / math.sqrt(dim // heads)
            scores = np.exp(scores - scores.max(axis=1, keepdims=True))
            expected[b, :, part] = scores / scores.sum(axis=1, keepdims=True) @ value[:, part]
    expected = expected @ attention.proj.weight.detach().numpy().T + attention.proj.bias.detach().numpy()
    np.testing.assert_allclose(attention(x).detach().numpy(), expected, atol=1e-12)


def test_attention_refuses_heads_that_do_not_divide():
    with pytest.raises(ValueError, match="3 heads divide, got 8"):
        Attention(8, 3)


def test_norms_have_the_published_eps():
    assert PatchEmbed(2, 8, 4).norm.eps == 1e-5
    assert {module.eps for module in Block(8, 2).modules() if isinstance(module, nn.LayerNorm)} == {1e-6}


def test_drop_path_drops_whole_samples_and_keeps_the_expectation():
    x = torch.ones(4000, 2, 3)
    layer = DropPath(0.25)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        out = layer(x)
    per_sample = out.flatten(1)
    assert ((per_sample == per_sample[:, :1]).all(dim=1)).all()
    assert {round(value, 4) for value in out.unique().tolist()} == {0.0, 1.3333}
    assert out.mean().item() == pytest.approx(1, abs=0.05)
    assert layer.eval()(x) is x
    with pytest.raises(ValueError, match="drop-path"):
        DropPath(1.0)


def test_drop_path_grows_with_depth_only_in_training():
    backbone = vit_nano(2, 16, drop_path=0.5)
    assert [block.drop_path.rate for block in backbone.blocks] == [0.0, 0.5]
    x = torch.randn(1, 2, 16, 16)
    backbone.eval()
    torch.testing.assert_close(backbone(x).tokens, backbone(x).tokens, rtol=0, atol=0)


def test_no_decay_names_are_exactly_the_vectors_and_the_learned_tables():
    backbones = {"vit": vit_nano(2, 16), "convvit": convvit_nano(2, 16), "swin": swin_nano(2, 16)}
    parts = nn.ModuleDict({**backbones, "decoder": MaskedDecoder(64, 4, (2, 2), 8, 1, 2)})
    learned = ("mask_token", "position_bias")
    for name, parameter in parts.named_parameters():
        assert bool(re.search(NO_DECAY, name)) == (parameter.ndim <= 1 or name.endswith(learned)), name
    for name in learned:
        assert any(key.endswith(name) and parameter.ndim > 1 for key, parameter in parts.named_parameters())


@pytest.mark.parametrize("kernel", [(2, 2), (4, 2)])
@pytest.mark.parametrize("channels_last", [True, False])
def test_patchwise_is_the_convolution(kernel, channels_last):
    convolution = nn.Conv2d(3, 5, kernel, stride=kernel).double()
    x = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    last = x.permute(0, 2, 3, 1)
    found = patchwise(last.contiguous() if channels_last else last, convolution)
    torch.testing.assert_close(found, convolution(x).flatten(2).transpose(1, 2))
