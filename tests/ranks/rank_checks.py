"""What two ranks do, run by torchrun: `rank_checks.py OUT CHECK...`; the test reads the run folders afterwards."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import torch
from engine_toy import ToyObjective, batches_for, run, settings_of

from eventfm.engine import Hooks, train
from eventfm.engine.hooks import Best

RANK = int(os.environ["RANK"])


class Interrupted(ToyObjective):
    """Gets SIGTERM on rank 1 alone."""

    def forward(self, batch, progress):
        if RANK == 1 and progress.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().forward(batch, progress)


class Broken(ToyObjective):
    """Has one loss that is not finite, on rank 1 alone."""

    def forward(self, batch, progress):
        outputs = super().forward(batch, progress)
        if RANK == 1 and progress.step == 3:
            outputs["loss"] = outputs["loss"] * torch.nan
        return outputs


class Failing(ToyObjective):
    def forward(self, batch, progress):
        if RANK == 1 and progress.step == 3:
            raise RuntimeError("this rank fails")
        return super().forward(batch, progress)


def train_class(objective: ToyObjective, out: Path, **changes):
    settings = settings_of(**changes)
    return train(objective, batches_for(settings), settings, out)


def ddp(out: Path) -> None:
    run(out / "ddp", clip_norm=0.5)


def ddp_accumulate(out: Path) -> None:
    run(out / "ddp_accumulate", clip_norm=0.5, accumulate=2)


def fsdp2(out: Path) -> None:
    """Run sharded, with hooks that look at the weights and use the encoder by itself."""
    seen: dict[int, dict[str, list[float]]] = {}

    def validate(objective, step):
        assert not objective.training
        seen[step] = {name: tensor.flatten().tolist() for name, tensor in objective.state_dict().items()}
        x = torch.ones(1, 3, 8)
        return {"val_out": objective.encoder()(x).sum().item(), "val_rank": float(RANK), "val_step": float(step)}

    def export(objective, step):
        torch.save(objective.encoder().state_dict(), out / f"encoder_{step}.pt")

    hooks = Hooks(validate=validate, validate_every=5, export=export, best=Best("val_step", "min"))
    run(out / "fsdp2", clip_norm=0.5, parallel="fsdp2", accumulate=2, hooks=hooks)
    (out / f"seen_{RANK}.json").write_text(json.dumps(seen))


def fsdp2_resume(out: Path) -> None:
    for name, objective in (
        ("straight", ToyObjective(0.1)),
        ("stopped", Interrupted(0.1)),
        ("stopped", ToyObjective(0.1)),
    ):
        result = train_class(
            objective, out / f"fsdp2_{name}", parallel="fsdp2", precision="fp16", activation_checkpointing=True
        )
        assert result.interrupted == isinstance(objective, Interrupted), name
        assert result.step == (6 if result.interrupted else 10)


def ddp_stopped(out: Path) -> None:
    assert train_class(Interrupted(), out / "ddp_stopped", clip_norm=0.5).interrupted


def nonfinite(out: Path) -> None:
    train_class(Broken(), out / "nonfinite")


def failing(out: Path) -> None:
    train_class(Failing(), out / "failing")


def refused(out: Path) -> None:
    """Rank 0 finds the folder taken; both ranks stop with an error that says so."""
    try:
        run(out / "ddp", clip_norm=0.25)
    except (ValueError, RuntimeError) as error:
        (out / f"refused_{RANK}.txt").write_text(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    for check in sys.argv[2:]:
        globals()[check](Path(sys.argv[1]))
