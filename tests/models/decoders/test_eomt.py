"""EoMT against transformers' own, and what becomes of queries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_decoders import eomt
from torch import nn

from eventfm.models import build_backbone
from eventfm.models.decoders.eomt import EoMTDecoder
from eventfm.models.dino import DINO
from eventfm.models.importers.decoders import load_decoder


class Given(nn.Module):
    """A backbone that says what it is told to."""

    def __init__(self, queries, tokens, grid):
        super().__init__()
        self.said = queries, tokens, grid

    def with_queries(self, x, queries, last):
        return self.said


def test_it_is_transformers_eomt_on_the_same_hidden_states():
    theirs = eomt()
    decoder = EoMTDecoder(24, 5, num_queries=7, last=2)
    assert load_decoder(decoder, theirs.state_dict()) == ("huggingface", [], [])
    assert torch.equal(decoder.query_tokens, theirs.query.weight)
    x = torch.randn(2, 3, 24, 24)
    with torch.no_grad():
        expected = theirs(pixel_values=x)
        hidden = expected.last_hidden_state
        classes, masks = decoder(Given(hidden[:, :7], hidden[:, 7 + 5 :], (6, 6)), x)
    torch.testing.assert_close(classes, expected.class_queries_logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(masks, expected.masks_queries_logits, rtol=1e-5, atol=1e-5)
    assert masks.shape == (2, 7, 24, 24)


def test_on_a_dinov3_it_is_transformers_eomt_from_the_picture_on():
    module = pytest.importorskip("transformers.models.eomt_dinov3")
    theirs = eomt(
        module.EomtDinov3ForUniversalSegmentation, module.EomtDinov3Config, intermediate_size=96, layer_norm_eps=1e-5
    )
    theirs.attn_mask_probs.zero_()  # as at the end of its training
    backbone = DINO(3, 3, 4, 24, 3, 2, 4).eval()
    names = {"layers": "blocks", "layernorm": "norm"}
    state = {}
    for key, value in theirs.state_dict().items():
        first, _, rest = key.partition(".")
        if first in ("layers", "layernorm", "embeddings"):
            state[f"{names.get(first, first)}.{rest}"] = value
    missing = backbone.load_state_dict(state, strict=False)
    assert (missing.missing_keys, missing.unexpected_keys) == (["embeddings.mask_token"], [])
    decoder = EoMTDecoder(24, 5, num_queries=7, last=2)
    load_decoder(decoder, theirs.state_dict())
    x = torch.randn(2, 3, 24, 24)
    with torch.no_grad():
        expected = theirs(pixel_values=x)
        classes, masks = decoder(backbone, x)
    torch.testing.assert_close(classes, expected.class_queries_logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(masks, expected.masks_queries_logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dim", [None, 32])
@pytest.mark.parametrize("name", ["vit_nano", "convvit_nano", "dinov3_nano"])
def test_shapes_and_every_gradient(name, dim):
    torch.manual_seed(0)
    backbone = build_backbone(name, 3, 32, patch_size=8)
    decoder = EoMTDecoder(64, 5, num_queries=6, last=1, dim=dim)
    classes, masks = decoder(backbone, torch.randn(2, 3, 24, 40))
    assert (classes.shape, masks.shape) == ((2, 6, 6), (2, 6, 12, 20))
    (classes.square().mean() + masks.square().mean()).backward()
    for key, parameter in [*decoder.named_parameters(), *backbone.blocks.named_parameters()]:
        assert parameter.grad.abs().sum() > 0, key
    assert ("transfer.weight" in decoder.state_dict()) == (dim is not None)
    assert decoder.upscale[0].conv1.weight.shape == (dim or 64, dim or 64, 2, 2)


def test_classes_of_cells():
    rng = np.random.default_rng(0)
    classes, masks = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 3, 4, 6))
    shares = np.exp(classes) / np.exp(classes).sum(axis=2, keepdims=True)
    expected = np.zeros((2, 4, 4, 6))
    for b in range(2):
        for query in range(3):
            for c in range(4):
                expected[b, c] += shares[b, query, c] / (1 + np.exp(-masks[b, query]))
    found = EoMTDecoder.semantic(torch.from_numpy(classes), torch.from_numpy(masks))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)


def test_backbones_without_room_for_queries_are_refused():
    swin = build_backbone("swin_nano", 3, 32)
    with pytest.raises(ValueError, match=r"expected a plain transformer .* got Swin; choose another head"):
        EoMTDecoder(128, 5)(swin, torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match="1 to 2 last blocks"):
        EoMTDecoder(64, 5)(build_backbone("vit_nano", 3, 32), torch.zeros(1, 3, 32, 32))
