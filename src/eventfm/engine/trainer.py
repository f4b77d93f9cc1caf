"""The one training loop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from torch import nn

from eventfm.engine.checkpoint import Checkpoints
from eventfm.engine.console import ProgressLine
from eventfm.engine.distributed import is_main, session, together, world
from eventfm.engine.feed import Feed
from eventfm.engine.guard import FiniteGuard, StopRequest
from eventfm.engine.hooks import Hooks
from eventfm.engine.loggers import BestEffort, Logger, open_loggers
from eventfm.engine.loss_scale import LossScale
from eventfm.engine.optim import build_optimizer, set_lr
from eventfm.engine.parallel import prepare
from eventfm.engine.plan import Decision, resolve
from eventfm.engine.reporter import Reporter
from eventfm.engine.run_folder import RunFolder
from eventfm.engine.run_state import BestSoFar, RunState
from eventfm.engine.settings import MAY_DIFFER, TrainSettings
from eventfm.engine.step import Stepper, seeded
from eventfm.engine.window import Window
from eventfm.protocols import BatchSource, Objective, Progress

log = logging.getLogger(__name__)

NO_HOOKS = Hooks()


@dataclass(frozen=True)
class TrainResult:
    """How a run ended."""

    out: Path
    step: int
    """Optimiser steps done."""
    interrupted: bool = False
    """Whether a signal ended it early; the same call resumes it."""
    best_step: int | None = None
    """Step of the best checkpoint, whose weights a complete run ends with; None without `hooks.best`."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """The last line of metrics that this call wrote."""
    decisions: tuple[Decision, ...] = ()
    """What `auto` became, and why."""


def train(
    objective: nn.Module,
    make_batches: Callable[[int, int], BatchSource],
    settings: TrainSettings,
    out: str | Path,
    *,
    config: Mapping[str, Any] | None = None,
    may_differ: Collection[str] = MAY_DIFFER,
    hooks: Hooks = NO_HOOKS,
) -> TrainResult:
    """Train `objective` (an `Objective`) in the run folder `out`, from the start or from its last checkpoint.

    `make_batches(rank, world_size)` gives a rank's batches of `settings.per_rank(world_size)` samples; step `s` takes
    the micro-batches `s * accumulate + i`. `config` is what the run is known by (the settings alone by default): a
    folder with another one is refused, except for the keys in `may_differ`. Resumed on as many ranks and threads, a run
    ends with the same bits as one that was never stopped. SIGTERM and SIGUSR1 save after the step under way and return;
    SIGINT (Ctrl-C) saves, too, and goes on as KeyboardInterrupt; a second one stops at once.

    Raises:
        KeyboardInterrupt: Somebody pressed Ctrl-C.
        ValueError: Settings, folder, checkpoint or batches do not fit together; or the loss stays infinite or NaN.
        CheckpointWriteError: A checkpoint cannot be written, for want of room or else; the earlier ones are whole.
    """
    place = world()
    source = make_batches(place.rank, place.size)
    plan = resolve(settings, source.batches_per_epoch, place)
    folder = RunFolder(Path(out))
    checkpoints = Checkpoints(folder.checkpoints)
    config = settings.model_dump(mode="json") if config is None else config

    with session(place, plan.device), StopRequest() as stop, ExitStack() as at_end:
        with together():
            if is_main():
                folder.claim(config, may_differ)
        checkpoints.clean()
        rules = cast(Objective, objective).parameter_rules()
        prepared = prepare(objective, settings, plan.device, place)
        optimizer = build_optimizer(objective, rules, settings.weight_decay, settings.betas)
        state = RunState(
            objective=objective,
            optimizer=optimizer,
            scale=LossScale(enabled=plan.precision == "fp16"),
            guard=FiniteGuard(settings.max_nonfinite),
            window=Window(plan.device),
            best=BestSoFar(),
            config=config,
            may_differ=may_differ,
        )
        step = first_step = state.resume(checkpoints)

        loggers: list[Logger] = []
        if is_main():
            loggers = open_loggers(folder, first_step, settings.tensorboard, settings.trackers, config)
            loggers.append(BestEffort("the progress line", lambda: ProgressLine(plan.num_steps, first_step)))
        for logger in loggers:
            at_end.callback(logger.close)
        reporter = Reporter(prepared, state, checkpoints, loggers, hooks, settings, plan)
        micro = settings.accumulate
        feed = Feed(source, first_step * micro, plan.num_steps * micro, plan.device)
        take_step = Stepper(prepared, state, feed, stop, plan, micro, settings.clip_norm)

        if step == 0:
            reporter.start()
        stopping = False
        while step < plan.num_steps and not stopping:
            lr = plan.lr_at(step)
            set_lr(optimizer, lr)
            with seeded(settings.seed, step, place.rank, plan.device):
                values, stopping = take_step(Progress(step, plan.num_steps))
            state.window.add(values)
            step += 1
            reporter.after(step, lr, stopping)
        if step == plan.num_steps:
            reporter.finish()
    interrupted = step < plan.num_steps
    if interrupted and is_main():
        log.warning("stopped; step %d of %d is saved, and the same command resumes there", step, plan.num_steps)
    if interrupted and stop.by_user:
        raise KeyboardInterrupt
    return TrainResult(folder.path, step, interrupted, state.best.step, reporter.metrics, plan.decisions)
