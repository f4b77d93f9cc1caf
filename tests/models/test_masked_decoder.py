"""The masked decoder: tokens go to their patches, masked patches share one token."""

from __future__ import annotations

import torch

from eventfm.models.masked_decoder import MaskedDecoder
from eventfm.models.masking import random_masking


def decoder(depth=1):
    return MaskedDecoder(in_dim=6, patch_values=4, grid=(3, 4), dim=8, depth=depth, num_heads=2)


def test_without_blocks_each_visible_token_reaches_its_own_patch():
    model = decoder(depth=0)
    keep, restore, mask = random_masking(torch.tensor([3, 4]), 12, 0.5)
    tokens = torch.randn(2, 6, 6)
    out = model(tokens, restore, (3, 4))
    assert out.shape == (2, 12, 4)
    positions = model.positions((3, 4))
    for b in range(2):
        for place, patch in enumerate(keep[b].tolist()):
            expected = model.predict(model.norm(model.embed(tokens[b, place]) + positions[patch]))
            torch.testing.assert_close(out[b, patch], expected)
        for patch in mask[b].nonzero()[:, 0].tolist():
            torch.testing.assert_close(
                out[b, patch], model.predict(model.norm(model.mask_token[0, 0] + positions[patch]))
            )


def test_every_parameter_gets_a_gradient_and_the_mask_token_starts_at_zero():
    model = decoder()
    assert not model.mask_token.any()
    _, restore, _ = random_masking(torch.tensor([3]), 12, 0.5)
    model(torch.randn(1, 6, 6), restore, (3, 4)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_other_grids_are_possible():
    _, restore, _ = random_masking(torch.tensor([3]), 10, 0.5)
    assert decoder()(torch.randn(1, 5, 6), restore, (2, 5)).shape == (1, 10, 4)
