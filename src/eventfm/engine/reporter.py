"""What happens between steps: validation, metrics, checkpoints, export."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from torch import nn

from eventfm.engine.checkpoint import Checkpoints
from eventfm.engine.console import memory_gib
from eventfm.engine.distributed import from_main, is_main, together
from eventfm.engine.hooks import Hooks
from eventfm.engine.loggers import Logger
from eventfm.engine.parallel import Prepared, whole
from eventfm.engine.plan import Plan
from eventfm.engine.run_state import RunState
from eventfm.engine.settings import TrainSettings


class Reporter:
    """Called after every step, on every rank."""

    def __init__(
        self,
        prepared: Prepared,
        state: RunState,
        checkpoints: Checkpoints,
        loggers: Sequence[Logger],
        hooks: Hooks,
        settings: TrainSettings,
        plan: Plan,
    ) -> None:
        self._prepared, self._state, self._checkpoints = prepared, state, checkpoints
        self._loggers, self._hooks, self._settings, self._plan = loggers, hooks, settings, plan
        self.metrics: dict[str, float] = {}
        self._steps, self._seconds, self._since = 0, 0.0, time.perf_counter()

    def start(self) -> None:
        """Look at what a new run starts from, which its end is compared with."""
        figures = self._validate(0)
        if self._hooks.validate is None:
            self._on_main(self._hooks.pictures, 0)
        if figures:
            self._write(0, {"epoch": 0.0, **figures})
        self._since = time.perf_counter()

    def after(self, step: int, lr: float, stopping: bool) -> None:
        """Report on and save the run after `step` steps, where it is time to.

        The metrics are written before the checkpoint: a run that resumes from it must not miss a line.
        """
        self._steps += 1
        self._seconds += time.perf_counter() - self._since
        last = step == self._plan.num_steps
        figures = self._validate(step) if last or step % self._hooks.validate_every == 0 else {}
        improved = self._note_best(step, figures)
        if figures or last or step % self._settings.log_every == 0:
            self._log(step, lr, figures)
        if improved or last or stopping or step % self._settings.save_every == 0:
            self._state.save(self._checkpoints, step)
            self._checkpoints.prune(self._settings.keep_last, self._state.best.step)
            if self._hooks.validate is None:
                self._on_main(self._hooks.pictures, step)
            if not last and (improved or self._hooks.best is None):
                self._on_main(self._hooks.export, step)
        self._since = time.perf_counter()

    def finish(self) -> None:
        """End a complete run: take the best weights, if a best is kept, and export."""
        step = self._plan.num_steps
        best = self._state.best.step
        if best is not None and best != step:
            self._state.load_weights(self._checkpoints, best)
            step = best
        self._on_main(self._hooks.export, step)

    def _validate(self, step: int) -> dict[str, float]:
        if self._hooks.validate is None:
            return {}
        with whole(self._prepared, self._plan.device) as objective:
            figures = dict(self._hooks.validate(objective, step))
        self._on_main(self._hooks.pictures, step)
        return from_main({name: float(value) for name, value in figures.items()})

    def _note_best(self, step: int, figures: Mapping[str, float]) -> bool:
        best = self._hooks.best
        if best is None or not figures:
            return False
        if best.metric not in figures:
            raise ValueError(f"expected validate to return the metric {best.metric!r}, got {sorted(figures)}")
        value = figures[best.metric]
        if not best.improves(value, self._state.best.value):
            return False
        self._state.best.step, self._state.best.value = step, value
        return True

    def _log(self, step: int, lr: float, figures: Mapping[str, float]) -> None:
        samples = self._settings.batch_size
        metrics = {
            "epoch": step / self._plan.steps_per_epoch,
            **self._state.window.flush(),
            "lr": lr,
            "samples": step * samples,
            "samples_per_s": self._steps * samples / max(self._seconds, 1e-9),
            "memory_gib": memory_gib(self._plan.device),
            "skipped": self._state.guard.skipped,
            **({"loss_scale": self._state.scale.value} if self._state.scale.enabled else {}),
            **figures,
        }
        self._steps, self._seconds = 0, 0.0
        self._write(step, metrics)

    def _write(self, step: int, metrics: dict[str, float]) -> None:
        self.metrics = metrics
        for logger in self._loggers:
            logger.write(step, self.metrics)
        if self._hooks.on_log is not None and is_main():
            self._hooks.on_log(step, self.metrics)

    def _on_main(self, hook: Callable[[nn.Module, int], None] | None, step: int) -> None:
        if hook is None:
            return
        with whole(self._prepared, self._plan.device) as objective, together():
            if is_main():
                hook(objective, step)
