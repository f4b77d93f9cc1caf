"""Runs on labels: two gloo processes do what one does, and what was stopped goes on to the same bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_toy import assert_same_bits, final_tensors, losses, metrics
from finetune_checks import RESUMED, RUNS, figures, run, same_points, write_data
from launching import launch

from eventfm.engine import reporter

SCRIPT = Path(__file__).with_name("finetune_checks.py")
LOOSE = {"upernet": 1e-3}
"""How far figures may be apart besides. A bias before a batch norm has a gradient of rounding, which AdamW makes large;
until running means have followed, answers of single pixels may turn."""
SLOW = ("eomt",)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Return a folder with `data`."""
    folder = tmp_path_factory.mktemp("finetune")
    (folder / "data").mkdir()
    write_data(folder / "data")
    return folder


@pytest.fixture(scope="module")
def two_ranks(out):
    """Return the folder with what two ranks have left, from one launch."""
    status, output = launch(SCRIPT, out, "pooled", "runs")
    assert status == 0, output
    return out / "two"


@pytest.mark.parametrize("name", list(RUNS))
def test_two_ranks_have_the_curve_and_the_figures_of_one(name, out, two_ranks, monkeypatch):
    if name == "eomt":
        monkeypatch.setattr(torch, "rand", torch.rand)  # to be restored
        same_points()
    one = run(name, out / "data/store.h5", out / "one" / name)
    np.testing.assert_allclose(losses(two_ranks / name), losses(one.out), rtol=1e-5)
    assert len(metrics(one.out)) == 5
    for ours, theirs in zip(metrics(one.out), metrics(two_ranks / name), strict=True):
        kept = {key for key in ours if key.startswith("validation/")}
        assert bool(kept) == (ours["step"] % 2 == 0)
        within = {"rel": 1e-5, "abs": LOOSE.get(name)}
        assert {key: theirs[key] for key in kept} == pytest.approx({key: ours[key] for key in kept}, **within)
    norms = [[line["grad_norm"] for line in metrics(folder) if line["step"]] for folder in (one.out, two_ranks / name)]
    np.testing.assert_allclose(norms[1], norms[0], rtol=1e-4)


@pytest.mark.parametrize("task", ["recognition", "segmentation", "flow", "depth"])
def test_metrics_of_two_ranks_are_those_of_all_samples(task, two_ranks):
    first, second = (json.loads((two_ranks.parent / f"pooled_{rank}.json").read_text())[task] for rank in range(2))
    assert first == second
    assert first == pytest.approx(figures(task), rel=1e-12)
    assert first != pytest.approx(figures(task, 0, 2), rel=1e-3), "a rank alone has other figures"


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in RESUMED])
def test_a_run_that_was_stopped_ends_with_the_same_bits(name, out, monkeypatch):
    whole = run(name, out / "data/store.h5", out / "whole" / name, **RESUMED[name])
    after = reporter.Reporter.after

    def stop(self: Any, step: int, lr: float, stopping: bool) -> None:
        after(self, step, lr, stopping)
        if step == 3:  # one more than was saved
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(reporter.Reporter, "after", stop)
        with pytest.raises(KeyboardInterrupt):
            run(name, out / "data/store.h5", out / "halves" / name, **RESUMED[name])
    halves = run(name, out / "data/store.h5", out / "halves" / name, **RESUMED[name])
    assert_same_bits(final_tensors(halves.out), final_tensors(whole.out))
    assert halves.figures == whole.figures
    assert halves.best_step == whole.best_step
    assert losses(halves.out) == losses(whole.out)
