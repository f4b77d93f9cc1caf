"""What a checkpoint holds of a run, and taking it up again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from eventfm.engine.checkpoint import Checkpoints
from eventfm.engine.distributed import from_main
from eventfm.engine.guard import FiniteGuard
from eventfm.engine.loss_scale import LossScale
from eventfm.engine.run_folder import config_hash, plain, refuse_other
from eventfm.engine.window import Window

FLAT = StateDictOptions(flatten_optimizer_state_dict=True)


@dataclass
class BestSoFar:
    """The best validated step of a run."""

    step: int | None = None
    value: float | None = None


@dataclass(frozen=True)
class RunState:
    """Everything that changes while a run goes on."""

    objective: nn.Module
    optimizer: torch.optim.Optimizer
    scale: LossScale
    guard: FiniteGuard
    window: Window
    best: BestSoFar
    config: Mapping[str, Any]
    may_differ: Collection[str]

    def save(self, checkpoints: Checkpoints, step: int) -> None:
        """Write the checkpoint of `step`; called on every rank."""
        state = {
            "config_hash": config_hash(self.config, self.may_differ),
            "config": plain(self.config),
            "best": {"step": self.best.step, "value": self.best.value},
            "loss_scale": self.scale.state_dict(),
            "guard": self.guard.state_dict(),
            "window": self.window.state_dict(),
        }
        checkpoints.save(step, {**self._model(), **self._optimizer(self._flat())}, state)

    def resume(self, checkpoints: Checkpoints) -> int:
        """Take up the last checkpoint; return its step, or 0 where there is none. Called on every rank.

        Raises:
            RunFolderError: The checkpoint belongs to a run with another config; the message names the keys.
            CheckpointError: It is not this run's, or does not fit the model.
        """
        steps = from_main(checkpoints.steps())
        if not steps:
            return 0
        step = steps[-1]
        state = checkpoints.state(step)
        if state["config_hash"] != config_hash(self.config, self.may_differ):
            what = f"the checkpoint of step {step} in {checkpoints.folder} is of a run"
            refuse_other(state["config"], self.config, self.may_differ, what, "remove it")
        flat = self._flat()
        tensors = {**self._model(), **self._optimizer(flat)}
        checkpoints.load(step, tensors)
        self._set_model(tensors)
        moments = {name: tensors.get(f"optimizer.{name}", value) for name, value in flat.items()}
        set_optimizer_state_dict(self.objective, self.optimizer, moments, options=FLAT)
        self.scale.load_state_dict(state["loss_scale"])
        self.guard.load_state_dict(state["guard"])
        self.window.load_state_dict(state["window"])
        self.best.step, self.best.value = state["best"]["step"], state["best"]["value"]
        return step

    def load_weights(self, checkpoints: Checkpoints, step: int) -> None:
        """Give the objective the weights of the checkpoint of `step`; called on every rank."""
        tensors = self._model()
        checkpoints.load(step, tensors)
        self._set_model(tensors)

    def _model(self) -> dict[str, Tensor]:
        state = get_model_state_dict(self.objective)
        if strange := [name for name, value in state.items() if not isinstance(value, Tensor)]:
            raise ValueError(f"expected the objective's state to be tensors only, got others in {strange}")
        return {f"model.{name}": value for name, value in state.items() if isinstance(value, Tensor)}

    def _set_model(self, tensors: Mapping[str, Tensor]) -> None:
        prefix = "model."
        named: dict[str, Any] = {
            name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)
        }
        set_model_state_dict(self.objective, named)

    def _flat(self) -> dict[str, Any]:
        return get_optimizer_state_dict(self.objective, self.optimizer, options=FLAT)

    def _optimizer(self, flat: Mapping[str, Any]) -> dict[str, Tensor]:
        # Tensors only: rates and decays come from the config, and what is no tensor would be stored as a pickle.
        return {f"optimizer.{name}": value for name, value in flat.items() if isinstance(value, Tensor)}
