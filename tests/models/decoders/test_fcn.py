"""The auxiliary head."""

from __future__ import annotations

import torch
from torch.nn import functional

from eventfm.models.decoders.fcn import FCNHead


def test_it_reads_the_third_map_alone():
    torch.manual_seed(0)
    head = FCNHead(4, 2, dim=3).eval()
    levels = [torch.randn(2, dim, side, side) for dim, side in ((2, 8), (3, 4), (4, 3), (5, 2))]
    hidden = functional.relu(
        functional.conv2d(levels[2], head.conv.conv.weight, head.conv.conv.bias, padding=1) / 1.000005
    )
    expected = torch.einsum("oc,bchw->bohw", head.predict.weight[:, :, 0, 0], hidden) + head.predict.bias.view(2, 1, 1)
    torch.testing.assert_close(head(levels), expected)
    assert expected.shape == (2, 2, 3, 3)


def test_it_trains_on_one_picture_of_one_token():
    head = FCNHead(4, 2, dim=3).train()
    head([torch.empty(0), torch.empty(0), torch.randn(1, 4, 1, 1)]).sum().backward()
    assert head.conv.conv.weight.grad is not None
