"""The command line under torchrun: two ranks do what one does, and FSDP2 what DDP does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_run
from test_resume import lines

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
COLUMNS = ("loss", "zero_loss", "grad_norm", "held_out/loss")


@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_two_ranks_have_the_curve_of_one(drift: Path, straight: Path, tmp_path: Path, parallel: str) -> None:
    out = tmp_path / parallel
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "eventfm.cli"]
    settings = [f"data={drift}", f"out={out}", f"train.parallel={parallel}", *tiny_run.OVERRIDES]
    done = subprocess.run(
        [*command, "pretrain", "difference-vit-tiny", *settings],
        capture_output=True,
        text=True,
        timeout=180,
        env=ENVIRONMENT,
    )
    assert done.returncode == 0, done.stderr
    alone, together = lines(straight), lines(out)
    assert [record["step"] for record in together] == [record["step"] for record in alone]
    for name in COLUMNS:
        expected = [record[name] for record in alone if name in record]
        np.testing.assert_allclose([record[name] for record in together if name in record], expected, rtol=1e-5)
