"""RepGen against the published network: its keys and shapes, and its outputs on made-up weights."""

from __future__ import annotations

import hashlib
import zlib
from argparse import Namespace

import numpy as np
import pytest
import torch

from eventfm.models.evrepsl import RepGen, apply_evrepsl, load_evrepsl
from eventfm.models.importers import CheckpointError

DIGEST = "6e0694b49e37dfafd2878ed9e1baf55b7359385514b51eb2b2089e42e0cef1e9"
"""SHA-256 of the lines `key shape` of the published network's state dict, sorted."""

CHANGE = [
    [0.24157575, 0.11742909, 0.11778869, -0.52109152, -0.31032696],
    [-1.12650311, -0.67752421, 0.21823002, -1.00851691, -0.22045395],
    [-0.23074625, -1.48376310, -0.49152243, 0.24826013, -0.44931060],
    [-0.58556342, -0.11097694, -0.55077583, -0.28490573, 0.35542375],
]
SCALE = [
    [0, 0, 0, 0, 0],
    [0, 1.32024086, 0.26498300, 0.43430695, 0],
    [0, 0, 0, 0.87108546, 0.60965031],
    [0, 0, 0, 0, 0],
]
"""What the published network makes of the first made-up input: every 15th row and 18th column of each map."""


def normal(name, shape):
    rng = np.random.Generator(np.random.Philox(key=[20251027, zlib.crc32(name.encode())]))
    return rng.standard_normal(size=shape).astype(np.float32)


def official_shapes():
    """Return the published state dict's keys and shapes, from its own recipe rather than from our modules."""
    shapes = {"ce_to_f1.k": (1,)}

    def conv(name, out_dim, in_dim, size, bias=True):
        shapes[f"{name}.weight"] = (out_dim, in_dim, size, size)
        if bias:
            shapes[f"{name}.bias"] = (out_dim,)

    def norm(name, dim):
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (dim,)

    def conv_norm(name, out_dim, in_dim, size):
        conv(f"{name}.convna.0", out_dim, in_dim, size)
        norm(f"{name}.convna.1", out_dim)

    def bottleneck(name, in_dim, out_dim, expansion, depthwise):
        wide = in_dim * expansion
        if depthwise:
            conv_norm(f"{name}.mbconv.0", wide, in_dim, 1)
            conv_norm(f"{name}.mbconv.1", wide, 1, 3)
        else:
            conv_norm(f"{name}.mbconv.0", wide, in_dim, 3)
        gate = 2 if depthwise else 1
        shapes[f"{name}.mbconv.{gate}.excitation.0.weight"] = (wide // 12, wide)
        shapes[f"{name}.mbconv.{gate}.excitation.2.weight"] = (wide, wide // 12)
        conv_norm(f"{name}.mbconv.{gate + 1}", out_dim, wide, 1)

    for head, convs in (("inc", [(12, 3, 3), (12, 12, 3)]), ("out_clean_ie", [(12, 12, 3), (12, 12, 3), (1, 12, 1)])):
        for i, (out_dim, in_dim, size) in enumerate(convs):
            conv(f"{head}.double_conv.{3 * i}", out_dim, in_dim, size, bias=False)
            if out_dim > 1:
                norm(f"{head}.double_conv.{3 * i + 1}", out_dim)
    down = [(12, 24, 1, False, 2), (24, 48, 2, False, 2), (48, 96, 4, True, 4), (96, 96, 4, True, 4)]
    for i, (in_dim, out_dim, expansion, depthwise, number) in enumerate(down):
        for j in range(number):
            bottleneck(f"downs.{i}.mbd.mbconv_{j}", out_dim if j else in_dim, out_dim, expansion, depthwise)
    up = [(192, 48, 4, True, 6), (96, 24, 4, True, 4), (48, 12, 2, False, 4), (24, 12, 1, False, 2)]
    for way in ("ups", "c_ups"):
        for i, (in_dim, out_dim, expansion, depthwise, number) in enumerate(up):
            for j in range(number):
                width = out_dim if j == number - 1 else in_dim
                bottleneck(f"{way}.{i}.mbd.mbconv_{j}", in_dim, width, expansion, depthwise)
    conv_norm("c_out.matrix_c_conv.0", 6, 12, 1)
    conv_norm("c_out.matrix_c_conv.1", 1, 6, 1)
    return shapes


def made_up(key, shape):
    v = normal(key, shape)
    if len(shape) > 1:
        return torch.from_numpy((v / np.sqrt(np.prod(shape[1:]))).astype(np.float32))
    return torch.from_numpy(1 + 0.1 * v if key.endswith("weight") else 0.02 * v)


@pytest.fixture(scope="module")
def official():
    return {key: made_up(key, shape) for key, shape in official_shapes().items()}


@pytest.fixture(scope="module")
def network(official):
    return load_evrepsl(official)


def test_keys_and_shapes_are_the_published_ones():
    lines = [f"{key} {shape}" for key, shape in sorted(official_shapes().items())]
    assert len(lines) == 574
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == DIGEST


def test_output_equals_the_published_networks(network):
    evrep = torch.from_numpy(normal("input.evrep", (2, 3, 48, 75)))
    out = apply_evrepsl(network, evrep)
    assert out.shape == (2, 5, 48, 75)
    assert torch.equal(out[:, :3], evrep)
    torch.testing.assert_close(out[0, 3, ::15, ::18], torch.tensor(CHANGE), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(out[0, 4, ::15, ::18], torch.tensor(SCALE), rtol=1e-3, atol=1e-4)


def test_a_sample_does_not_depend_on_its_batch(network):
    evrep = torch.from_numpy(normal("input.evrep", (2, 3, 48, 75)))
    torch.testing.assert_close(apply_evrepsl(network, evrep[1:]), apply_evrepsl(network, evrep)[1:])


def test_is_frozen_in_eval_mode_and_gives_no_gradient(network):
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not apply_evrepsl(network, torch.zeros(1, 3, 36, 36, requires_grad=True)).requires_grad
    assert not apply_evrepsl(RepGen(), torch.zeros(1, 3, 36, 36)).requires_grad


def test_an_empty_input_of_any_size_is_finite(network):
    out = apply_evrepsl(network, torch.zeros(1, 3, 36, 53))
    assert out.shape == (1, 5, 36, 53)
    assert out.isfinite().all()


@pytest.mark.parametrize("shape", [(1, 5, 48, 48), (1, 3, 35, 48), (3, 48, 48)])
def test_an_input_that_does_not_fit_is_refused(network, shape):
    with pytest.raises(ValueError, match=r"expected EvRep \(B, 3, H, W\) of at least 36 pixels a side"):
        apply_evrepsl(network, torch.zeros(shape))


def test_a_file_gives_what_its_state_dict_gives(official, network, tmp_path):
    torch.save(official, tmp_path / "RepGen.pth")
    loaded = load_evrepsl(tmp_path / "RepGen.pth").state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in network.state_dict().items())


def test_keys_or_shapes_that_do_not_fit_are_refused(official):
    lacking = {
        key: value for key, value in official.items() if key != "ups.0.mbd.mbconv_5.mbconv.2.excitation.0.weight"
    }
    with pytest.raises(CheckpointError, match=r"lacks 1 keys of RepGen: ups\.0\.mbd\.mbconv_5"):
        load_evrepsl(lacking)
    with pytest.raises(CheckpointError, match=r"lacks 1 keys of RepGen: ce_to_f1\.k"):
        load_evrepsl({key: value for key, value in official.items() if key != "ce_to_f1.k"})
    with pytest.raises(CheckpointError, match=r"1 keys have no place in RepGen: stem\.0\.weight"):
        load_evrepsl(official | {"stem.0.weight": official["inc.double_conv.0.weight"]})
    with pytest.raises(CheckpointError, match=r"inc\.double_conv\.0\.weight.*expected shape \(12, 3, 3, 3\)"):
        load_evrepsl(official | {"inc.double_conv.0.weight": torch.zeros(24, 3, 3, 3)})


def test_files_that_are_no_state_dict_are_refused(tmp_path):
    path = tmp_path / "RepGen.pth"
    with pytest.raises(CheckpointError, match="cannot read"):
        load_evrepsl(path)
    torch.save({"model": {}}, path)
    with pytest.raises(CheckpointError, match="state dict of tensors"):
        load_evrepsl(path)
    torch.save(Namespace(a=1), path)
    with pytest.raises(CheckpointError, match="more than tensors"):
        load_evrepsl(path)
