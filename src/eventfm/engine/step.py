"""One optimiser step: gradients of its micro-batches, agreement that they are finite, update."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from eventfm.engine.distributed import any_rank
from eventfm.engine.feed import Feed
from eventfm.engine.guard import StopRequest
from eventfm.engine.optim import clip_gradients, gradient_norm, trainable
from eventfm.engine.parallel import Prepared, gradient_exchange
from eventfm.engine.plan import Plan
from eventfm.engine.run_state import RunState
from eventfm.protocols import Objective, Progress
from eventfm.random import derive

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Stepper:
    """What every step of a run has at hand."""

    prepared: Prepared
    state: RunState
    feed: Feed
    stop: StopRequest
    plan: Plan
    accumulate: int
    clip_norm: float | None

    def __call__(self, progress: Progress) -> tuple[dict[str, Tensor], bool]:
        """Take one step; return its values to log, none where it was skipped, and whether to stop after it.

        A step whose loss or gradient is not finite on any rank changes no weight on any rank. To know that, the host
        waits for the device once per step; this is the only wait, and the request to stop travels with it.

        Raises:
            TrainingError: Too many steps in a row were not finite.
        """
        optimizer, scale = self.state.optimizer, self.state.scale
        values = self._gradients(progress)
        parameters = trainable(optimizer)
        if scale.value != 1.0:
            torch._foreach_mul_([p.grad for p in parameters if p.grad is not None], 1.0 / scale.value)
        norm = gradient_norm(parameters)
        bad_loss = ~torch.isfinite(values["loss"])
        bad_gradient = ~torch.isfinite(norm)
        loss_is_bad, gradient_is_bad, stopping = any_rank(
            bad_loss, bad_gradient, self.stop.requested, device=self.plan.device
        )
        finite = not (loss_is_bad or gradient_is_bad)
        overflow = scale.update(finite) and not loss_is_bad
        if not overflow:
            self.state.guard.note(finite, progress.step)
        if finite:
            if self.clip_norm is not None:
                clip_gradients(parameters, self.clip_norm, norm)
            optimizer.step()
            cast(Objective, self.state.objective).after_step(progress)
        optimizer.zero_grad(set_to_none=True)
        return {**values, "grad_norm": norm} if finite else {}, stopping

    def _gradients(self, progress: Progress) -> dict[str, Tensor]:
        """Leave the mean gradient of the micro-batches in the parameters; return the means of the outputs."""
        totals: dict[str, Tensor] = {}
        for i in range(self.accumulate):
            batch = self.feed.take()
            with gradient_exchange(self.prepared.forward, needed=i == self.accumulate - 1):
                with self._autocast():
                    outputs = self.prepared.forward(batch, progress)
                (outputs["loss"].float() * (self.state.scale.value / self.accumulate)).backward()  # type: ignore[no-untyped-call]
            for name, value in outputs.items():
                part = value.detach().float() / self.accumulate
                totals[name] = totals[name] + part if name in totals else part
            self.feed.prefetch()
        return totals

    def _autocast(self) -> Any:
        dtype = AUTOCAST.get(self.plan.precision)
        return nullcontext() if dtype is None else torch.autocast(self.plan.device.type, dtype=dtype)


@contextmanager
def seeded(seed: int, step: int, rank: int, device: torch.device) -> Iterator[None]:
    """Let PyTorch's default generators start from (seed, step, rank) in the block, and from where they were after it.

    Dropout and its kin draw from these generators. Seeded for each step they need no state in a checkpoint, and
    nobody else's draws change: this is no global seeding.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        number = derive(seed, "step", step, rank)
        torch.default_generator.manual_seed(number)
        for each in devices:
            with torch.cuda.device(each):
                torch.cuda.manual_seed(number)
        yield
