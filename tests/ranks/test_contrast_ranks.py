"""Contrasts on two gloo processes do what they do on one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from contrast_checks import MAKERS, norm_case, norm_result, run
from engine_toy import final_tensors, losses, metrics
from launching import launch
from torch import nn

SCRIPT = Path(__file__).with_name("contrast_checks.py")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Return the folder with what two ranks have left, from one launch."""
    out = tmp_path_factory.mktemp("ranks")
    status, output = launch(SCRIPT, out, "norms", "gathered", "runs", "queues")
    assert status == 0, output
    return out


@pytest.fixture(scope="module")
def one_rank(tmp_path_factory):
    """Return the folder of the same runs on one rank, done as they are asked for."""
    out = tmp_path_factory.mktemp("one")

    def folder(name):
        if not (out / name).exists():
            run(name, out, parallel="ddp")
        return out / name

    return folder


def free_of_gradient(name):
    """Return weights whose gradient is but rounding, which AdamW makes large.

    A bias on the keys of attention changes nothing, nor does that of the last norm before a batch norm, but for the
    mean that this takes away.
    """
    keys = {f"model.backbone.blocks.{n}.attn.qkv.bias" for n in range(2)}
    return keys if "joint" in name else keys | {"model.backbone.norm.bias", "model.projector.layers.1.running_mean"}


@pytest.mark.parametrize("name", list(MAKERS))
def test_two_ranks_have_the_curve_of_one(ranks, one_rank, name):
    np.testing.assert_allclose(losses(ranks / name), losses(one_rank(name)), rtol=2e-4)
    norms = [[record["grad_norm"] for record in metrics(out)] for out in (ranks / name, one_rank(name))]
    np.testing.assert_allclose(norms[0], norms[1], rtol=2e-3)
    assert losses(ranks / name)[-1] < losses(ranks / name)[0]


@pytest.mark.parametrize("name", list(MAKERS))
def test_two_ranks_end_with_the_state_of_one(ranks, one_rank, name):
    got, want = final_tensors(ranks / name), final_tensors(one_rank(name))
    assert got.keys() == want.keys()
    for key in want.keys() - free_of_gradient(name):
        if key.startswith("model."):
            torch.testing.assert_close(got[key], want[key], rtol=1e-2, atol=1e-3, msg=lambda text, key=key: key + text)
    if "model.queue.pointer" in want:
        assert want["model.queue.pointer"].item() == 6 * 8 % 32


def test_every_rank_has_the_same_queue(ranks):
    left, right = (torch.load(ranks / f"queue_{rank}.pt") for rank in range(2))
    assert torch.equal(left["entries"], right["entries"])
    assert torch.equal(left["pointer"], right["pointer"])


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_is_that_of_the_joined_batch(ranks, affine):
    rows, weight, state = norm_case(affine)
    norm = nn.BatchNorm1d(6, affine=affine).double()
    norm.load_state_dict(state)
    want = norm_result(norm, rows, weight)
    parts = [torch.load(ranks / f"norm_{affine}_{rank}.pt") for rank in range(2)]
    for name, value in want.items():
        if name in ("out", "grad.x", "eval"):
            torch.testing.assert_close(torch.cat([part[name] for part in parts]), value)
        elif name.startswith("grad."):
            torch.testing.assert_close(parts[0][name] + parts[1][name], value)
        else:
            for part in parts:
                torch.testing.assert_close(part[name], value)
    assert parts[0].keys() == want.keys()


def test_batch_norm_in_half_precision_has_float32_statistics(ranks):
    parts = [torch.load(ranks / f"norm_half_{rank}.pt") for rank in range(2)]
    assert {part["out"].dtype for part in parts} == {torch.bfloat16}
    joined = torch.cat([part["in"] for part in parts]).float()
    for part in parts:
        assert part["grad.x"].dtype == torch.bfloat16
        assert part["state.running_var"].dtype == torch.float32
        torch.testing.assert_close(part["state.running_var"], 0.9 + 0.1 * joined.var(0), rtol=1e-4, atol=1e-4)


def test_what_is_gathered_is_in_the_order_of_ranks_and_has_everyones_gradient(ranks):
    parts = [torch.load(ranks / f"gathered_{rank}.pt") for rank in range(2)]
    want = torch.tensor([[0.0, 1, 10, 11], [2, 3, 12, 13]])
    asked = torch.arange(8.0).view(2, 4) * 3
    for rank, part in enumerate(parts):
        assert torch.equal(part["out"], want)
        assert torch.equal(part["grad"], asked[:, 2 * rank : 2 * rank + 2])
