"""The loop: what it computes, skips, keeps and resumes."""

from __future__ import annotations

import copy
import os
import signal

import numpy as np
import pytest
import torch
from engine_toy import (
    ToyBatches,
    ToyObjective,
    assert_same_bits,
    batch_of,
    batches_for,
    final_tensors,
    losses,
    metrics,
    run,
    settings_of,
)

from eventfm.engine import Hooks, RunFolderError, TrainingError, train
from eventfm.engine.hooks import Best
from eventfm.engine.optim import schedule
from eventfm.engine.parallel import recompute
from eventfm.protocols import Progress


def test_the_loop_is_plain_adamw(tmp_path):
    """Every weight equals a loop written with nothing but PyTorch's own parts."""
    objective, result = run(tmp_path / "run", clip_norm=0.5)
    twin = ToyObjective()
    decayed = [p for p in twin.parameters() if p.requires_grad and p.ndim > 1 and p is not twin.student.embed.weight]
    plain = [p for p in twin.parameters() if p.requires_grad and p.ndim <= 1 and p is not twin.student.embed.bias]
    optimizer = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": 0.05, "scale": 1.0},
            {"params": plain, "weight_decay": 0.0, "scale": 1.0},
            {"params": [twin.student.embed.weight], "weight_decay": 0.05, "scale": 0.5},
            {"params": [twin.student.embed.bias], "weight_decay": 0.0, "scale": 0.5},
        ],
        betas=(0.9, 0.95),
    )
    want = []
    for step in range(10):
        for group in optimizer.param_groups:
            group["lr"] = schedule(step, 10, 2, 1e-2) * group["scale"]
        progress = Progress(step, 10)
        loss = twin(batch_of(range(8 * step, 8 * step + 8)), progress)["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in twin.parameters() if p.requires_grad], 0.5)
        optimizer.step()
        twin.after_step(progress)
        want.append(loss.item())
    np.testing.assert_allclose(losses(tmp_path / "run"), want, rtol=1e-6)
    torch.testing.assert_close(objective.student.embed.weight, twin.student.embed.weight, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(objective.teacher.embed.weight, twin.teacher.embed.weight, rtol=1e-4, atol=1e-6)
    assert result.step == 10
    assert not result.interrupted
    assert objective.num_updates == 10


def test_accumulated_micro_batches_equal_one_big_batch(tmp_path):
    run(tmp_path / "whole", clip_norm=0.5)
    run(tmp_path / "parts", clip_norm=0.5, accumulate=4)
    np.testing.assert_allclose(losses(tmp_path / "parts"), losses(tmp_path / "whole"), rtol=1e-6)


def test_clipping_changes_the_run_and_reports_the_norm_before_it(tmp_path):
    run(tmp_path / "free")
    run(tmp_path / "clipped", clip_norm=1e-3)
    first = [metrics(tmp_path / name)[0]["grad_norm"] for name in ("free", "clipped")]
    assert first[0] == first[1] > 1e-3
    # AdamW hardly minds the scale of gradients; it does mind that the factor differs from step to step.
    assert losses(tmp_path / "free") != losses(tmp_path / "clipped")


class Stopping(ToyObjective):
    """Asks the run to stop, as a scheduler would, in the step `stop_at`."""

    stop_at = 5

    def forward(self, batch, progress):
        if progress.step == self.stop_at:
            os.kill(os.getpid(), signal.SIGUSR1)
        return super().forward(batch, progress)


@pytest.mark.parametrize("changes", [{}, {"accumulate": 2, "precision": "bf16", "log_every": 4}])
def test_a_stopped_run_resumes_to_the_same_bits(tmp_path, changes):
    run(tmp_path / "straight", dropout=0.2, **changes)
    settings = settings_of(**changes)
    before = signal.getsignal(signal.SIGUSR1)
    result = train(Stopping(0.2), batches_for(settings), settings, tmp_path / "stopped")
    assert (result.interrupted, result.step) == (True, 6)
    assert signal.getsignal(signal.SIGUSR1) is before
    torch.manual_seed(99)  # what the process has drawn before must not matter
    run(tmp_path / "stopped", dropout=0.2, **changes)
    assert_same_bits(final_tensors(tmp_path / "stopped"), final_tensors(tmp_path / "straight"))
    assert losses(tmp_path / "stopped") == losses(tmp_path / "straight")
    assert [record["step"] for record in metrics(tmp_path / "stopped")] == [
        record["step"] for record in metrics(tmp_path / "straight")
    ]


def test_a_run_reads_from_where_it_stopped_and_draws_nothing_globally(tmp_path):
    settings = settings_of(accumulate=2)
    source = ToyBatches(4)
    train(Stopping(), lambda rank, size: ToyBatches(4), settings, tmp_path / "run")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(ToyObjective(0.5), lambda rank, size: source, settings, tmp_path / "run")
    assert source.started == [12]
    assert torch.equal(torch.rand(3), expected)


def test_a_complete_run_is_left_as_it_is(tmp_path):
    exported = []
    hooks = Hooks(export=lambda objective, step: exported.append(step))
    run(tmp_path / "run", hooks=hooks)
    before = (tmp_path / "run/metrics.jsonl").read_bytes()
    objective, result = run(tmp_path / "run", hooks=hooks)
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == before
    assert exported == [4, 8, 10, 10]
    assert torch.equal(objective.head.weight, final_tensors(tmp_path / "run")["model.head.weight"])
    assert result.step == 10


def test_another_config_is_refused_and_free_keys_may_change(tmp_path):
    run(tmp_path / "run")
    with pytest.raises(RunFolderError, match=r"lr: 0\.01 there, 0\.02 now"):
        run(tmp_path / "run", lr=0.02)
    run(tmp_path / "run", log_every=3, keep_last=1, accumulate=2)
    assert "log_every: 3" in (tmp_path / "run/config.yaml").read_text()


class Broken(ToyObjective):
    bad_steps = (3,)

    def forward(self, batch, progress):
        outputs = super().forward(batch, progress)
        if progress.step in self.bad_steps:
            outputs["loss"] = outputs["loss"] * torch.inf
        return outputs

    def after_step(self, progress):
        assert progress.step not in self.bad_steps
        super().after_step(progress)


def test_a_step_that_is_not_finite_is_skipped(tmp_path):
    settings = settings_of(log_every=2)
    seen = []
    objective = Broken()
    hooks = Hooks(validate=lambda net, step: seen.append(copy.deepcopy(net.state_dict())) or {}, validate_every=1)
    train(objective, batches_for(settings), settings, tmp_path / "run", hooks=hooks)
    assert_same_bits(seen[3], seen[4])  # the first is from before the first step
    assert not torch.equal(seen[4]["head.weight"], seen[5]["head.weight"])
    assert objective.num_updates == 9
    assert metrics(tmp_path / "run")[-1]["skipped"] == 1
    assert all(np.isfinite(losses(tmp_path / "run")))


def test_too_many_steps_that_are_not_finite_end_the_run(tmp_path):
    settings = settings_of(max_nonfinite=2)
    objective = Broken()
    objective.bad_steps = (1, 2, 4, 5, 6, 7)
    with pytest.raises(TrainingError, match=r"3 steps in a row, up to step 6 .*learning rate"):
        train(objective, batches_for(settings), settings, tmp_path / "run")
    assert objective.num_updates == 2


def test_bf16_runs_on_the_cpu_near_the_fp32_curve(tmp_path):
    dtypes = set()

    class Watching(ToyObjective):
        def forward(self, batch, progress):
            dtypes.add(self.student.embed(batch["input"]).dtype)
            return super().forward(batch, progress)

    settings = settings_of(precision="bf16")
    objective = Watching()
    train(objective, batches_for(settings), settings, tmp_path / "bf16")
    run(tmp_path / "fp32")
    assert dtypes == {torch.bfloat16}
    assert {p.dtype for p in objective.parameters()} == {torch.float32}
    assert losses(tmp_path / "bf16") != losses(tmp_path / "fp32")
    np.testing.assert_allclose(losses(tmp_path / "bf16"), losses(tmp_path / "fp32"), rtol=0.05)


def test_fp16_scales_the_loss_and_keeps_the_scale(tmp_path):
    run(tmp_path / "fp32")
    run(tmp_path / "fp16", precision="fp16")
    lines = metrics(tmp_path / "fp16")
    # 2**16 itself is beyond float16: the first step, whose learning rate is 0, finds the scale.
    assert "loss" not in lines[0]
    assert {line["loss_scale"] for line in lines} == {2.0**15}
    np.testing.assert_allclose([line["loss"] for line in lines[1:]], losses(tmp_path / "fp32")[1:], rtol=0.1)

    class Overflowing(ToyObjective):
        """Has gradients that float16 cannot hold until the scale has come down to 2**13."""

        def forward(self, batch, progress):
            outputs = super().forward(batch, progress)
            if outputs["loss"].requires_grad:
                outputs["loss"].register_hook(lambda grad: grad * torch.where(grad > 2.0**13, torch.inf, 1.0))
            return outputs

    settings = settings_of(precision="fp16", max_nonfinite=0)
    train(Overflowing(), batches_for(settings), settings, tmp_path / "overflow")
    assert [record["loss_scale"] for record in metrics(tmp_path / "overflow")][:4] == [2.0**15, 2.0**14] + [2.0**13] * 2
    assert metrics(tmp_path / "overflow")[-1]["skipped"] == 0


def test_recomputed_blocks_give_the_same_run_and_run_twice(tmp_path):
    plain, _ = run(tmp_path / "plain", dropout=0.3)
    recomputed, _ = run(tmp_path / "recomputed", dropout=0.3, activation_checkpointing=True)
    assert_same_bits(final_tensors(tmp_path / "plain"), final_tensors(tmp_path / "recomputed"))
    assert recomputed.student.blocks[0].num_calls == 2 * plain.student.blocks[0].num_calls
    block = ToyObjective().student.blocks[0]
    names = [name for name, _ in block.named_parameters()]
    recompute(block)
    twin = copy.deepcopy(block)
    with torch.no_grad():
        twin.linear.weight.zero_()
    x = torch.ones(1, 2, 8)
    assert [name for name, _ in block.named_parameters()] == names
    assert not torch.equal(twin(x), block(x))


def test_best_checkpoint_is_kept_exported_and_ended_with(tmp_path):
    values = {0: 0.1, 2: 0.5, 4: 0.9, 6: 0.7, 8: float("nan"), 10: 0.9}
    seen, exported = {}, []

    def validate(objective, step):
        assert not objective.training
        seen[step] = objective.head.weight.detach().clone()
        return {"val_accuracy": values[step]}

    hooks = Hooks(
        validate=validate,
        validate_every=2,
        export=lambda objective, step: exported.append((step, objective.head.weight.detach().clone())),
        best=Best("val_accuracy", "max"),
    )
    for _ in range(2):  # the second call finds the run complete, and ends the same
        objective, result = run(tmp_path / "run", hooks=hooks, keep_last=1, save_every=3)
        assert result.best_step == 4
        assert torch.equal(objective.head.weight, seen[4])
    assert [step for step, _ in exported] == [2, 4, 4, 4]
    assert torch.equal(exported[-1][1], seen[4])
    kept = sorted(path.name for path in (tmp_path / "run/checkpoints").glob("step_*"))
    assert kept == ["step_00000004", "step_00000010"]
    assert metrics(tmp_path / "run")[4]["val_accuracy"] == 0.9
    assert metrics(tmp_path / "run")[8]["val_accuracy"] is None
    assert objective.training


def test_hooks_are_called_when_they_should(tmp_path):
    calls = []
    hooks = Hooks(
        on_log=lambda step, line: calls.append(("log", step, "loss" in line)),
        validate=lambda objective, step: calls.append(("validate", step)) or {"val_x": 1.0},
        validate_every=6,
        pictures=lambda objective, step: calls.append(("pictures", step)),
    )
    run(tmp_path / "run", hooks=hooks, log_every=5)
    assert calls == [
        ("validate", 0),
        ("pictures", 0),
        ("log", 0, False),
        ("log", 5, True),
        ("validate", 6),
        ("pictures", 6),
        ("log", 6, True),
        ("validate", 10),
        ("pictures", 10),
        ("log", 10, True),
    ]


def test_a_run_killed_before_its_first_checkpoint_says_once_where_it_started(tmp_path):
    hooks = Hooks(validate=lambda objective, step: {"val_x": float(step)}, validate_every=100)
    for _ in range(2):
        settings = settings_of(save_every=100)
        stop = Hooks(validate=hooks.validate, validate_every=100, on_log=_kill_at(3))
        with pytest.raises(KeyboardInterrupt):
            train(ToyObjective(), batches_for(settings), settings, tmp_path / "run", hooks=stop)
    run(tmp_path / "run", hooks=hooks, save_every=100)
    assert [line["step"] for line in metrics(tmp_path / "run")].count(0) == 1
    assert metrics(tmp_path / "run")[0]["val_x"] == 0.0


def _kill_at(last):
    def on_log(step, line):
        if step >= last:
            raise KeyboardInterrupt

    return on_log


def test_a_run_of_no_steps_keeps_what_it_starts_from(tmp_path):
    looked, exported = [], []
    hooks = Hooks(
        validate=lambda objective, step: looked.append(step) or {"val_x": 1.0},
        export=lambda objective, step: exported.append((step, objective.head.weight.detach().clone())),
    )
    before, result = run(tmp_path / "run", hooks=hooks, num_steps=0, warmup_steps=0)
    assert (result.step, result.interrupted, looked) == (0, False, [0])
    assert exported[0][0] == 0
    assert torch.equal(exported[0][1], before.head.weight)


def test_mistakes_in_hooks_and_batches_have_clear_errors(tmp_path):
    with pytest.raises(ValueError, match="no validate hook"):
        Hooks(best=Best("val_x", "min"))
    hooks = Hooks(validate=lambda objective, step: {"val_y": 0.0}, validate_every=1, best=Best("val_x", "min"))
    with pytest.raises(ValueError, match=r"'val_x', got \['val_y'\]"):
        run(tmp_path / "hooks", hooks=hooks)

    class Ending(ToyBatches):
        def __call__(self, start):
            yield from (batch for batch, _ in zip(super().__call__(start), range(3), strict=False))

    settings = settings_of()
    with pytest.raises(ValueError, match="no batch 3"):
        train(ToyObjective(), lambda rank, size: Ending(8), settings, tmp_path / "ending")


def test_the_log_means_over_the_steps_since_the_last_line(tmp_path):
    run(tmp_path / "each")
    run(tmp_path / "some", log_every=4)
    each = losses(tmp_path / "each")
    want = [np.mean(each[:4]), np.mean(each[4:8]), np.mean(each[8:])]
    np.testing.assert_allclose(losses(tmp_path / "some"), want, rtol=1e-6)


@pytest.mark.slow
def test_compiled_blocks_give_the_same_curve(tmp_path):
    run(tmp_path / "plain", num_steps=3)
    run(tmp_path / "compiled", num_steps=3, compile=True, activation_checkpointing=True)
    np.testing.assert_allclose(losses(tmp_path / "compiled"), losses(tmp_path / "plain"), rtol=1e-5)
    assert final_tensors(tmp_path / "plain").keys() == final_tensors(tmp_path / "compiled").keys()
