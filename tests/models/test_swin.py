"""Swin: equal to the reference without a mask, to a slow account of itself with one, and tight between units."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from eventfm.engine.parallel import recompute
from eventfm.models.masked_decoder import MaskedDecoder
from eventfm.models.masking import random_masking
from eventfm.models.swin import Swin, swin_nano, swin_small, swin_tiny
from eventfm.protocols import Backbone

DEPTHS = (2, 2, 2, 2)
HEADS = (1, 2, 2, 4)


def scattered(module, seed=0):
    """Return `module` in evaluation, with all its parameters random: no bias is zero, no norm is one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            norm = parameter.ndim == 1 and name.endswith("weight")
            spread = parameter[0].numel() ** -0.5 if parameter.ndim > 1 and "position" not in name else 0.5
            parameter.copy_(noise * spread + norm)
    return module.eval()


def small(window=7, fusion=True, depths=DEPTHS, dim=8, channels=2, seed=0):
    """Return a Swin with patches of a pixel and units of 8."""
    return scattered(Swin(channels, 8, 8, dim, depths, HEADS, window=window, mlp_ratio=2, fusion=fusion), seed)


def keeps(batch, num_units, num_keep, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(num_units, generator=generator)[:num_keep] for _ in range(batch)])


def reference(net):
    """Return the `SwinModel` of transformers with the weights of `net`."""
    import transformers

    config = transformers.SwinConfig(
        image_size=64,
        patch_size=1,
        num_channels=net.in_channels,
        embed_dim=net.pyramid_dims[0],
        depths=list(DEPTHS),
        num_heads=list(HEADS),
        mlp_ratio=2.0,
        hidden_act="gelu",
        layer_norm_eps=1e-6,
    )
    model = transformers.SwinModel(config, add_pooling_layer=False).eval()
    for module in model.modules():  # its patches and merging do not follow the config's eps
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
    state = {}
    for key, value in net.state_dict().items():
        name = re.sub(r"^stages\.", "encoder.layers.", key).replace("merge.", "downsample.")
        name = name.replace("patch_embed.proj", "embeddings.patch_embeddings.projection")
        name = name.replace("patch_embed.norm", "embeddings.norm").replace("attn.", "attention.")
        name = name.replace("norm1", "layernorm_before").replace("norm2", "layernorm_after")
        name = name.replace("position_bias", "relative_position_bias.relative_position_bias_table")
        name = re.sub(r"^norm\.", "layernorm.", name).replace("attention.proj", "attention.o_proj")
        if "qkv" in name:
            parts = zip("qkv", value.chunk(3), strict=True)
            state |= {name.replace("qkv", f"{letter}_proj"): part for letter, part in parts}
        else:
            state[name] = value
    model.load_state_dict(state)
    return model


@pytest.mark.parametrize(
    "size",
    [
        (56, 56),  # the grids of 224 pixels with patches of 4: all of whole windows, the last without a shift
        (64, 80),  # no side of any grid is of whole windows, and all are shifted
        (56, 96),  # the last grid is 7 x 12: padded, not shifted
    ],
)
def test_unmasked_equals_the_reference(size):
    net = small(fusion=False, channels=5)
    x = torch.randn(2, 5, *size)
    with torch.no_grad():
        expected = reference(net)(x)
        found = net(x)
    assert found.grid == (size[0] // 8, size[1] // 8)
    torch.testing.assert_close(found.tokens, expected.last_hidden_state, rtol=1e-5, atol=1e-5)


def test_full_keep_equals_the_unmasked_forward_in_its_order():
    net = small(fusion=False)
    x = torch.randn(2, 2, 40, 64)
    keep = keeps(2, 40, 40)
    with torch.no_grad():
        expected = torch.stack([net(x).tokens[b, keep[b]] for b in range(2)])
        torch.testing.assert_close(net(x, keep=keep).tokens, expected, rtol=1e-5, atol=1e-5)


def linear(module, x):
    return x @ module.weight.T + (0 if module.bias is None else module.bias)


def normed(module, x):
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
    return x * module.weight + module.bias


def slow_attention(attn, tokens, places, grid, window, shift):
    """Return attended `tokens` that stand at `places` (row, col): all pairs, those of other windows struck out."""
    sides = [min(window, side) for side in grid]
    full = [-(-side // step) * step for side, step in zip(grid, sides, strict=True)]
    padding = [(r, c) for r in range(full[0]) for c in range(full[1]) if r >= grid[0] or c >= grid[1]]
    everyone = torch.tensor(places + padding)
    home = torch.div(everyone - shift, torch.tensor(sides), rounding_mode="floor")
    query, key, value = linear(
        attn.qkv, torch.cat([tokens, torch.zeros(len(padding), tokens.shape[1], dtype=tokens.dtype)])
    ).chunk(3, dim=1)
    away = everyone[:, None] - everyone
    apart = (home[:, None] != home).any(dim=2)
    away = away.masked_fill(apart[:, :, None], 0) + window - 1
    bias = attn.position_bias[away[:, :, 0] * (2 * window - 1) + away[:, :, 1]]
    heads = []
    for h, (q, k, v) in enumerate(
        zip(*(part.chunk(attn.num_heads, dim=1) for part in (query, key, value)), strict=True)
    ):
        logits = (q @ k.T) / q.shape[1] ** 0.5 + bias[:, :, h]
        heads.append(logits.masked_fill(apart, -torch.inf).softmax(dim=1) @ v)
    return linear(attn.proj, torch.cat(heads, dim=1))[: len(places)]


def slow_masked(net, x, keep):
    """Return fused tokens of one sample `x` (C, H, W), place by place; only units `keep` are looked at."""
    rows, cols = x.shape[1] // 8, x.shape[2] // 8
    units = [divmod(unit, cols) for unit in keep]
    side, grid = 8, (rows * 8, cols * 8)
    weight = net.patch_embed.proj.weight[:, :, 0, 0]
    cells = {
        place: normed(net.patch_embed.norm, weight @ x[:, place[0], place[1]] + net.patch_embed.proj.bias)
        for place in sorted((8 * r + i, 8 * c + j) for r, c in units for i in range(8) for j in range(8))
    }
    fused = 0
    for level, stage in enumerate(net.stages):
        places = list(cells)
        tokens = torch.stack(list(cells.values()))
        for number, block in enumerate(stage.blocks):
            shift = net.window // 2 if number % 2 and min(grid) > net.window else 0
            mixed = slow_attention(block.attn, normed(block.norm1, tokens), places, grid, net.window, shift)
            tokens = tokens + mixed
            hidden = functional.gelu(linear(block.mlp.fc1, normed(block.norm2, tokens)))
            tokens = tokens + linear(block.mlp.fc2, hidden)
        cells = dict(zip(places, tokens, strict=True))
        if level == 3:
            break
        kernel = net.fusion[level]
        fused = fused + torch.stack(
            [
                kernel.bias
                + sum(
                    kernel.weight[:, :, i, j] @ cells[r * side + i, c * side + j]
                    for i in range(side)
                    for j in range(side)
                )
                for r, c in units
            ]
        )
        corners = [(0, 0), (1, 0), (0, 1), (1, 1)]
        cells = {
            (r // 2, c // 2): linear(
                stage.merge.reduction, normed(stage.merge.norm, torch.cat([cells[r + i, c + j] for i, j in corners]))
            )
            for r, c in places
            if r % 2 == 0 and c % 2 == 0
        }
        side, grid = side // 2, (grid[0] // 2, grid[1] // 2)
    return normed(net.norm, fused + torch.stack([cells[unit] for unit in units]))


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_masked_equals_attention_over_all_pairs(data):
    rows, cols = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    num_keep = data.draw(st.integers(1, rows * cols))
    keep = torch.tensor([data.draw(st.permutations(range(rows * cols)))[:num_keep] for _ in range(2)])
    window = data.draw(st.integers(2, 7))
    net = small(window, depths=(2, 2, 1, 2), dim=4).double()
    x = torch.rand(2, 2, rows * 8, cols * 8, dtype=torch.float64, generator=torch.Generator().manual_seed(num_keep))
    with torch.no_grad():
        expected = torch.stack([slow_masked(net, x[b], keep[b].tolist()) for b in range(2)])
        torch.testing.assert_close(net(x, keep=keep).tokens, expected, rtol=1e-9, atol=1e-9)


def test_masked_equals_attention_over_all_pairs_at_the_published_window():
    net = small(7, depths=(2, 2, 2, 1), dim=4).double()
    x = torch.randn(1, 2, 24, 32, dtype=torch.float64)  # the shifted grids 24 x 32 and 12 x 16 need padding
    keep = torch.tensor([[7, 2, 3, 10, 0]])
    with torch.no_grad():
        expected = slow_masked(net, x[0], keep[0].tolist())[None]
        torch.testing.assert_close(net(x, keep=keep).tokens, expected, rtol=1e-9, atol=1e-9)


def test_no_visible_token_depends_on_a_masked_unit_or_another_sample():
    net = small()
    x = torch.randn(3, 2, 56, 40)
    keep = keeps(3, 35, 11)
    seen = torch.zeros(3, 35).scatter(1, keep, 1).view(3, 7, 5).bool()
    x.requires_grad_()
    tokens = net(x, keep=keep).tokens
    for b in range(3):
        (grad,) = torch.autograd.grad((tokens[b] * torch.randn_like(tokens[b])).sum(), x, retain_graph=True)
        touched = grad.abs().sum(dim=1).unflatten(2, (5, 8)).unflatten(1, (7, 8)).amax(dim=(2, 4)) > 0
        assert torch.equal(touched[b], seen[b])
        assert not touched[[i for i in range(3) if i != b]].any()
    pixels = seen.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None]
    torch.testing.assert_close(net(x.where(pixels, torch.nan), keep=keep).tokens, tokens, rtol=0, atol=0)


def test_empty_windows_leave_gradients_finite():
    net = small()
    net(torch.randn(1, 2, 56, 56), keep=torch.tensor([[24]])).tokens.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


def without_mixing(module):
    """Return `module` with all its attention silenced, so that each token goes its own way."""
    for name, parameter in module.named_parameters():
        if "attn.proj." in name:
            nn.init.zeros_(parameter)
    return module


@pytest.mark.parametrize("fusion", [True, False])
def test_tokens_keep_their_place_up_to_the_decoder(fusion):
    rows, cols = 4, 6
    net = without_mixing(small(fusion=fusion))
    decoder = without_mixing(scattered(MaskedDecoder(net.embed_dim, 64, (rows, cols), 16, 1, 2)))
    ids_keep, ids_restore, mask = random_masking(torch.tensor([3, 4]), rows * cols, 0.5)
    x = torch.randn(2, 2, rows * 8, cols * 8)

    def run(x):
        tokens = net(x, keep=ids_keep).tokens
        return tokens, decoder(tokens, ids_restore, (rows, cols))

    with torch.no_grad():
        tokens, prediction = run(x)
        for unit in range(rows * cols):
            marked = x.clone()
            row, col = divmod(unit, cols)
            marked[:, :, row * 8 + 5, col * 8 + 2] += 3
            changed_tokens, changed_prediction = run(marked)
            for b in range(2):
                places = (changed_tokens[b] - tokens[b]).abs().amax(dim=1).gt(1e-4).nonzero().flatten().tolist()
                assert places == (ids_keep[b] == unit).nonzero().flatten().tolist()
                found = (changed_prediction[b] - prediction[b]).abs().amax(dim=1).gt(1e-4).nonzero().flatten().tolist()
                assert found == ([] if mask[b, unit] else [unit])


def test_every_parameter_learns_in_the_masked_forward():
    net = small()
    net(torch.randn(2, 2, 64, 64), keep=keeps(2, 64, 32)).tokens.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in net.parameters())


def test_recomputed_blocks_give_the_same_gradients():
    net = small().train()
    again = copy.deepcopy(net)
    for unit in again.shard_units():
        recompute(unit)
    x, keep = torch.randn(2, 2, 64, 32), keeps(2, 32, 9)
    for module in (net, again):
        module(x, keep=keep).tokens.square().sum().backward()
    for (name, parameter), other in zip(net.named_parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, msg=lambda text, name=name: f"{name}: {text}")


def test_contract_and_pyramid():
    net = swin_nano(3, (32, 48)).eval()
    assert isinstance(net, Backbone)
    x = torch.randn(2, 3, 32, 48)
    features = net(x)
    assert (features.grid, features.cls) == ((2, 3), None)
    assert features.tokens.shape == (2, 6, net.embed_dim)
    maps = net.pyramid(x)
    assert net.pyramid_dims == (16, 32, 64, 128)
    assert [tuple(m.shape) for m in maps] == [(2, 16, 16, 24), (2, 32, 8, 12), (2, 64, 4, 6), (2, 128, 2, 3)]
    torch.testing.assert_close(net.norm(maps[3].flatten(2).transpose(1, 2)), features.tokens)
    torch.testing.assert_close(net.stages[2].merge(maps[2].permute(0, 2, 3, 1)[:, None]).shape, (2, 1, 2, 3, 128))


def test_pyramid_keeps_rows_and_columns():
    net = without_mixing(small())
    x = torch.randn(1, 2, 16, 24)
    marked = x.clone()
    marked[:, :, 9, 20] += 3
    with torch.no_grad():
        for level, (before, after) in enumerate(zip(net.pyramid(x), net.pyramid(marked), strict=True)):
            found = (before - after).abs().amax(dim=(0, 1)).gt(1e-4).nonzero().tolist()
            assert found == [[9 >> level, 20 >> level]]


def test_layers_name_every_parameter_but_the_norm_and_the_fusion_once():
    net = swin_tiny(2, 32)
    layers = net.layers()
    assert len(layers) == 13
    assert layers[0] == ["patch_embed."]
    assert layers[2] == ["stages.0.blocks.1.", "stages.0.merge."]
    assert layers[12] == ["stages.3.blocks.1."]
    for name, _ in net.named_parameters():
        owners = [i for i, prefixes in enumerate(layers) if name.startswith(tuple(prefixes))]
        assert len(owners) == (0 if name.startswith(("norm.", "fusion.")) else 1), name
    assert len(net.shard_units()) == 12


@pytest.mark.parametrize(
    ("builder", "depths", "num_parameters"), [(swin_tiny, (2, 2, 6, 2), 27_522_426), (swin_small, (2, 2, 18, 2), None)]
)
def test_shapes_are_the_published_ones(builder, depths, num_parameters):
    with torch.device("meta"):
        plain, fused = builder(5, 224, fusion=False), builder(5, 224)
    expected = {"patch_embed.proj.weight": (96, 5, 4, 4), "norm.weight": (768,), "norm.bias": (768,)}
    expected |= {f"patch_embed.{name}": (96,) for name in ("proj.bias", "norm.weight", "norm.bias")}
    for s, (d, depth, heads) in enumerate(zip((96, 192, 384, 768), depths, (3, 6, 12, 24), strict=True)):
        for b in range(depth):
            shapes = {"norm1.weight": (d,), "norm1.bias": (d,), "norm2.weight": (d,), "norm2.bias": (d,)}
            shapes |= {"attn.qkv.weight": (3 * d, d), "attn.qkv.bias": (3 * d,), "attn.position_bias": (169, heads)}
            shapes |= {"attn.proj.weight": (d, d), "attn.proj.bias": (d,), "mlp.fc1.weight": (4 * d, d)}
            shapes |= {"mlp.fc1.bias": (4 * d,), "mlp.fc2.weight": (d, 4 * d), "mlp.fc2.bias": (d,)}
            expected |= {f"stages.{s}.blocks.{b}.{name}": shape for name, shape in shapes.items()}
        if s < 3:
            merge = {"reduction.weight": (2 * d, 4 * d), "norm.weight": (4 * d,), "norm.bias": (4 * d,)}
            expected |= {f"stages.{s}.merge.{name}": shape for name, shape in merge.items()}
    assert {name: tuple(value.shape) for name, value in plain.state_dict().items()} == expected
    for s, shape in enumerate([(768, 96, 8, 8), (768, 192, 4, 4), (768, 384, 2, 2)]):
        expected |= {f"fusion.{s}.weight": shape, f"fusion.{s}.bias": (768,)}
    assert {name: tuple(value.shape) for name, value in fused.state_dict().items()} == expected
    assert num_parameters in (None, sum(np.prod(value.shape) for value in plain.state_dict().values()))


def test_initial_weights():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = swin_nano(2, 16)
    for module in net.modules():
        if isinstance(module, nn.Linear):
            bound = (6 / (module.in_features + module.out_features)) ** 0.5
            assert module.weight.abs().max() <= bound
            assert module.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
            assert module.bias is None or not module.bias.any()
        if isinstance(module, nn.LayerNorm):
            assert module.eps == 1e-6
            assert (module.weight == 1).all()
    tables = torch.cat([block.attn.position_bias.flatten() for block in net.shard_units()])
    assert tables.std().item() == pytest.approx(0.02, rel=0.05)


def test_drop_path_grows_from_block_to_block_over_all_stages():
    net = swin_nano(2, 16, drop_path=0.7)
    assert [block.drop_path.rate for block in net.shard_units()] == pytest.approx([0.1 * i for i in range(8)])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: swin_nano(3, 40), "multiples of the patch of 16, got 40x40"),
        (lambda: swin_nano(3, 16)(torch.zeros(1, 3, 16, 24)), "multiples of the patch of 16, got 16x24"),
        (lambda: swin_nano(3, 16)(torch.zeros(1, 2, 16, 16)), r"expected an input \(B, 3, H, W\)"),
        (lambda: swin_nano(3, 24, patch_size=12), "multiple of 8 pixels, got 12"),
        (lambda: Swin(3, 8, 8, 9, DEPTHS, (2, 2, 2, 2)), "2 heads divide, got 9"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
