"""Heads: the layers they are made of, and the names that importers rely on."""

from __future__ import annotations

import torch
from torch import nn

from eventfm.models.contrast_heads import Predictor, Projector, TeacherProjection


def keys_of(numbers_linear, numbers_norm, last):
    stored = ["num_batches_tracked", "running_mean", "running_var"]
    names = {f"layers.{n}.weight" for n in numbers_linear}
    names |= {f"layers.{n}.{key}" for n in numbers_norm for key in ["weight", "bias", *stored]}
    return names | {f"layers.{last}.{key}" for key in stored}


def reference(head):
    """Return the same layers of PyTorch's own, with the same state."""
    layers = []
    for layer in head.layers:
        if isinstance(layer, nn.Linear):
            layers.append(nn.Linear(layer.in_features, layer.out_features, bias=False))
        elif isinstance(layer, nn.ReLU):
            layers.append(nn.ReLU())
        else:
            layers.append(nn.BatchNorm1d(len(layer.running_mean), affine=layer.weight is not None))
    module = nn.Sequential(*layers)
    module.load_state_dict({key.removeprefix("layers."): value for key, value in head.state_dict().items()})
    return module


def test_names_and_widths_as_published():
    projector, predictor = Projector(6, 20), Predictor(6, 20)
    assert set(projector.state_dict()) == keys_of((0, 3, 6), (1, 4), 7)
    assert set(predictor.state_dict()) == keys_of((0, 3), (1,), 4)
    assert [tuple(unit.weight.shape) for unit in projector.shard_units()] == [(20, 6), (20, 20), (6, 20)]
    assert [tuple(unit.weight.shape) for unit in predictor.shard_units()] == [(20, 6), (6, 20)]
    with torch.device("meta"):
        assert Projector(8).layers[0].out_features == Predictor(8).layers[0].out_features == 4096


def test_heads_normalise_over_batch_and_positions():
    x = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0))
    for head in (Projector(6, 20), Predictor(6, 20)):
        twin = reference(head)
        out = head(x)
        torch.testing.assert_close(out, twin(x.view(20, 6)).view(4, 5, 6))
        torch.testing.assert_close(out.mean((0, 1)), torch.zeros(6), atol=1e-5, rtol=0)
        torch.testing.assert_close(head.eval()(x), twin.eval()(x.view(20, 6)).view(4, 5, 6))


def test_teacher_projection_without_and_with_joining():
    tokens = torch.randn(2, 24, 5, generator=torch.Generator().manual_seed(0))
    plain = TeacherProjection(5, 3)
    assert {name: tuple(value.shape) for name, value in plain.state_dict().items()} == {
        "norm.weight": (5,), "norm.bias": (5,), "proj.weight": (3, 5),
    }  # fmt: skip
    normed = nn.functional.layer_norm(tokens, (5,))
    torch.testing.assert_close(plain(tokens, (4, 6)), normed @ plain.proj.weight.T)

    joining = TeacherProjection(5, 3, patch=2)
    assert joining.proj.weight.shape == (3, 5, 2, 2)
    out = joining(tokens, (4, 6))
    assert out.shape == (2, 6, 3)
    grid = normed.view(2, 4, 6, 5)
    for row in range(2):
        for col in range(3):
            cell = grid[:, 2 * row : 2 * row + 2, 2 * col : 2 * col + 2]
            want = torch.einsum("bijc,ocij->bo", cell, joining.proj.weight) + joining.proj.bias
            torch.testing.assert_close(out[:, 3 * row + col], want, rtol=1e-4, atol=1e-5)
