"""Two gloo processes on this machine do what one does."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_toy import DIM, ToyObjective, assert_same_bits, final_tensors, losses, metrics, run
from launching import launch

SCRIPT = Path(__file__).with_name("rank_checks.py")
CHECKS = ("ddp", "ddp_accumulate", "fsdp2", "fsdp2_resume", "ddp_stopped", "nonfinite", "refused")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Return the folder with what two ranks have left, from one launch."""
    out = tmp_path_factory.mktemp("ranks")
    status, output = launch(SCRIPT, out, *CHECKS)
    assert status == 0, output
    return out


@pytest.fixture(scope="module")
def one_rank(tmp_path_factory):
    out = tmp_path_factory.mktemp("one") / "run"
    run(out, clip_norm=0.5)
    return out


@pytest.mark.parametrize("name", ["ddp", "ddp_accumulate", "fsdp2"])
def test_two_ranks_have_the_loss_curve_of_one(ranks, one_rank, name):
    np.testing.assert_allclose(losses(ranks / name), losses(one_rank), rtol=1e-5)
    norms = [[record["grad_norm"] for record in metrics(out) if record["step"]] for out in (ranks / name, one_rank)]
    np.testing.assert_allclose(norms[0], norms[1], rtol=1e-4)


@pytest.mark.parametrize("name", ["ddp", "fsdp2"])
def test_two_ranks_end_with_the_weights_of_one(ranks, one_rank, name):
    got, want = final_tensors(ranks / name), final_tensors(one_rank)
    assert got.keys() == want.keys()
    for key in want:
        if "in_proj_bias" in key and want[key].ndim:
            # A bias on the keys leaves attention as it is: its gradient is rounding, which AdamW makes large.
            got[key][DIM : 2 * DIM] = want[key][DIM : 2 * DIM] = 0.0
        torch.testing.assert_close(got[key], want[key], rtol=1e-3, atol=1e-5)


def test_fsdp2_resumes_to_the_same_bits(ranks):
    assert_same_bits(final_tensors(ranks / "fsdp2_stopped"), final_tensors(ranks / "fsdp2_straight"))
    lines = [
        [(line["step"], line.get("loss"), line["loss_scale"]) for line in metrics(ranks / name)]
        for name in ("fsdp2_stopped", "fsdp2_straight")
    ]
    assert lines[0] == lines[1]
    assert len(lines[0]) == 10


def test_a_checkpoint_of_two_ranks_goes_on_on_one(ranks, one_rank):
    state = json.loads((ranks / "ddp_stopped/checkpoints/step_00000006/state.json").read_text())
    assert state["world_size"] == 2
    run(ranks / "ddp_stopped", clip_norm=0.5)
    np.testing.assert_allclose(losses(ranks / "ddp_stopped"), losses(one_rank), rtol=1e-5)


def test_hooks_see_the_whole_objective_under_fsdp2(ranks):
    seen = [json.loads((ranks / f"seen_{rank}.json").read_text()) for rank in range(2)]
    assert seen[0] == seen[1]
    assert list(seen[0]) == ["0", "5", "10"]
    want = final_tensors(ranks / "fsdp2")
    assert seen[0]["10"].keys() == ToyObjective().state_dict().keys()
    for name, values in seen[0]["10"].items():
        assert values == want[f"model.{name}"].flatten().tolist()
    assert metrics(ranks / "fsdp2")[-1]["val_rank"] == 0.0
    # The best step was 5: the run ends with its weights, and those are what is exported.
    encoder = torch.load(ranks / "encoder_5.pt")
    assert not (ranks / "encoder_10.pt").exists()
    for name, tensor in encoder.items():
        assert tensor.flatten().tolist() == seen[0]["5"][f"student.{name}"]


def test_a_loss_that_is_nan_on_one_rank_skips_the_step_on_all(ranks):
    records = metrics(ranks / "nonfinite")
    assert [record["skipped"] for record in records] == [0] * 3 + [1] * 7
    assert "loss" not in records[3]
    assert all(np.isfinite(record["loss"]) for record in records[4:])


def test_an_error_of_rank_0_is_raised_on_all(ranks):
    first, second = ((ranks / f"refused_{rank}.txt").read_text() for rank in range(2))
    assert first.startswith("RunFolderError")
    assert "clip_norm: 0.5 there, 0.25 now" in first
    assert second.startswith("RankError: rank 0 failed: RunFolderError")


def test_a_failing_rank_ends_the_run(tmp_path):
    begin = time.monotonic()
    status, output = launch(SCRIPT, tmp_path, "failing")
    assert status != 0
    assert "this rank fails" in output
    assert time.monotonic() - begin < 60
