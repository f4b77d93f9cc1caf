"""UPerNet's head against an oracle on plain arrays, and on single pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from eventfm.models.decoders.upernet import UPerHead, resize
from eventfm.models.importers.names import official_name

DIMS, SIZES = (2, 3, 4, 5), ((12, 10), (6, 5), (3, 3), (2, 2))


def maps(batch):
    return [torch.randn(batch, dim, *size) for dim, size in zip(DIMS, SIZES, strict=True)]


def random_head(**arguments):
    torch.manual_seed(0)
    head = UPerHead(DIMS, 3, dim=4, **arguments)
    for key, value in head.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape) + 0.5 if key.endswith("running_var") else torch.randn(value.shape) / 2)
    return head


def bilinear(size, out):
    """Return the matrix (out, size) of linear interpolation between cell centres, the outermost repeated."""
    matrix = np.zeros((out, size))
    for i in range(out):
        place = min(max((i + 0.5) * size / out - 0.5, 0), size - 1)
        low = int(place)
        matrix[i, low] += 1 - (place - low)
        matrix[i, min(low + 1, size - 1)] += place - low
    return matrix


def resized(x, size):
    return np.einsum("hi,wj,bcij->bchw", bilinear(x.shape[2], size[0]), bilinear(x.shape[3], size[1]), x)


def pooled(x, scale):
    """Mean over the scale x scale parts, whose bounds are rounded outwards."""

    def parts(size):
        return [slice(i * size // scale, -(-(i + 1) * size // scale)) for i in range(scale)]

    rows = [np.stack([x[:, :, r, c].mean(axis=(2, 3)) for c in parts(x.shape[3])], axis=2) for r in parts(x.shape[2])]
    return np.stack(rows, axis=2)


class Oracle:
    """The head as published, read off the official names of its weights."""

    def __init__(self, state):
        self.weights = {
            official_name("vit", "segmentation_head", key).removeprefix("decode_head."): value.double()
            for key, value in state.items()
        }

    def conv(self, name, x):
        weight = self.weights[f"{name}.weight"]
        out = functional.conv2d(torch.from_numpy(x), weight, self.weights[f"{name}.bias"], padding=weight.shape[2] // 2)
        return out.numpy()

    def layer(self, name, x):
        mean, variance, scale, offset = (
            self.weights[f"{name}.norm_layer.{key}"].numpy()[:, None, None]
            for key in ("running_mean", "running_var", "weight", "bias")
        )
        x = self.conv(f"{name}.conv_layer", x)
        return np.maximum((x - mean) / np.sqrt(variance + 1e-5) * scale + offset, 0)

    def __call__(self, levels):
        last = levels[3]
        pools = [
            resized(self.layer(f"psp_modules.{i}.1", pooled(last, scale)), last.shape[2:])
            for i, scale in enumerate((1, 2, 3, 6))
        ]
        last = self.layer("psp_bottleneck", np.concatenate([last, *pools], axis=1))
        third = self.layer("lateral_convs.2", levels[2]) + resized(last, SIZES[2])
        second = self.layer("lateral_convs.1", levels[1]) + resized(third, SIZES[1])
        first = self.layer("lateral_convs.0", levels[0]) + resized(second, SIZES[0])
        smoothed = [self.layer(f"fpn_convs.{i}", x) for i, x in enumerate((first, second, third))]
        joined = np.concatenate([resized(x, SIZES[0]) for x in (*smoothed, last)], axis=1)
        return self.conv("conv_dense", self.layer("fpn_bottleneck", joined))


def test_equals_the_oracle():
    head = random_head().eval()
    levels = maps(2)
    with torch.no_grad():
        found = head(levels)
    assert found.shape == (2, 3, 12, 10)
    expected = Oracle(head.state_dict())([level.double().numpy() for level in levels])
    torch.testing.assert_close(found.double(), torch.from_numpy(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch", [1, 2])
def test_trains_on_any_batch(batch):
    head = random_head().train()
    whole = head.pools[0].norm.running_mean.clone()
    head(maps(batch)).square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())
    assert head.pools[0].conv.weight.grad.any()
    assert torch.equal(head.pools[0].norm.running_mean, whole) == (batch == 1)
    assert head.fuse.norm.num_batches_tracked == 1


def test_in_training_alone_whole_channels_are_dropped():
    head = random_head(dropout=0.5)
    before, after = [], []
    head.fuse.register_forward_hook(lambda *call: before.append(call[2]))
    head.predict.register_forward_pre_hook(lambda _, inputs: after.append(inputs[0]))
    levels = maps(8)
    head.train()(levels)
    head.eval()(levels)
    dropped = (after[0] == 0).flatten(2).all(dim=2)
    assert dropped.sum() > (before[0] == 0).flatten(2).all(dim=2).sum()
    torch.testing.assert_close(after[0], torch.where(dropped[:, :, None, None], 0, 2 * before[0]))
    torch.testing.assert_close(after[1], before[1])


def test_maps_of_other_widths_are_refused():
    with pytest.raises(ValueError, match=r"expected maps of \(2, 3, 4, 5\) channels"):
        random_head()(maps(1)[::-1])


def test_resizing_keeps_corners_unaligned():
    x = torch.tensor([0.0, 4.0]).view(1, 1, 1, 2)
    assert resize(x, torch.empty(1, 1, 1, 4)).flatten().tolist() == [0, 1, 3, 4]
