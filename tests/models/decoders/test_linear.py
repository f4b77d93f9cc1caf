"""The linear probe of dense features."""

from __future__ import annotations

import pytest
import torch

from eventfm.models.decoders.linear import LinearHead


def test_it_is_a_linear_layer_on_normed_cells_of_the_last_map():
    torch.manual_seed(0)
    head = LinearHead((2, 3, 4, 5), 6)
    last = 3 * torch.randn(2, 5, 3, 7) + 1
    found = head([torch.empty(0), torch.empty(0), torch.empty(0), last])
    cells = last.permute(0, 2, 3, 1).reshape(-1, 5).double()
    normed = (cells - cells.mean(dim=0)) / (cells.var(dim=0, correction=0) + 1e-5).sqrt()
    expected = normed @ head.predict.weight[:, :, 0, 0].double().T + head.predict.bias.double()
    torch.testing.assert_close(found.double(), expected.view(2, 3, 7, 6).permute(0, 3, 1, 2), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(head.norm.running_mean.double(), 0.1 * cells.mean(dim=0), rtol=1e-4, atol=1e-5)


def test_every_parameter_has_a_gradient_and_evaluation_uses_what_was_stored():
    torch.manual_seed(0)
    head = LinearHead((4,), 3)
    head([torch.randn(2, 4, 3, 3)]).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in head.parameters())
    head.eval()
    maps = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(head([maps])[:1], head([maps[:1]]))


def test_a_map_of_another_width_is_refused():
    with pytest.raises(ValueError, match=r"expected a last map of 4 channels, got shape \(1, 3, 2, 2\)"):
        LinearHead((4,), 3)([torch.zeros(1, 3, 2, 2)])
