"""One rank's batch normalisation against PyTorch's; several ranks' are in `tests/ranks`."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from eventfm.models.batch_norm import BatchNorm


def pair(affine):
    ours, theirs = BatchNorm(6, affine), nn.BatchNorm1d(6, affine=affine)
    if affine:
        with torch.no_grad():
            ours.weight.uniform_(0.5, 2)
            ours.bias.normal_()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("affine", [True, False])
def test_it_is_batch_norm_over_all_but_the_last_axis(affine):
    ours, theirs = pair(affine)
    x = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0)) * 3 + 1
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    for _ in range(3):
        left, right = ours(a), theirs(b.view(20, 6)).view(4, 5, 6)
    torch.testing.assert_close(left, right)
    weight = torch.randn_like(left)
    (left * weight).sum().backward()
    (right * weight).sum().backward()
    torch.testing.assert_close(a.grad, b.grad)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for key, value in ours.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[key])
    before = {key: value.clone() for key, value in ours.state_dict().items()}
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x.view(20, 6)).view(4, 5, 6))
    assert all(torch.equal(value, before[key]) for key, value in ours.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_statistics_are_float32_under_autocast(dtype):
    ours, _ = pair(True)
    x = (torch.randn(64, 6) * 0.1 + 8).to(dtype)
    with torch.autocast("cpu", dtype=dtype):
        out = ours(x)
    assert out.dtype == dtype
    assert ours.running_mean.dtype == ours.running_var.dtype == torch.float32
    torch.testing.assert_close(ours.running_var, 0.9 + 0.1 * x.float().var(0), rtol=1e-4, atol=1e-5)


def test_a_single_row_is_refused_as_pytorch_does():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        BatchNorm(6)(torch.zeros(1, 1, 6))
