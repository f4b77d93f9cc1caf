"""A task as an objective: a backbone, its head, and the goal that says what they are for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from eventfm.protocols import Batch, ParameterRule, Progress


class Goal(Protocol):
    """What one task asks of its networks."""

    task: str

    def loss(self, networks: TaskObjective, batch: Batch) -> dict[str, Tensor]:
        """Return `loss` and further scalars to log, all 0-d."""
        ...

    def predict(self, networks: TaskObjective, batch: Batch) -> dict[str, Tensor]:
        """Return the answers of the task for `batch`."""
        ...


class TaskObjective(nn.Module):
    """Trains the head of a task, and the backbone as far as it is adapted.

    Inputs (B, C, H, W) may have any size that the backbone takes. Sides that its patch does not divide are continued
    with zeros, hence without events, at the right and below, and answers are cropped to the input.

    A frozen backbone stays in evaluation mode whatever the mode of the objective: it drops no paths and gathers no
    statistics. As none of its parameters needs a gradient, autograd keeps nothing of its forward pass.
    """

    def __init__(
        self,
        goal: Goal,
        backbone: nn.Module,
        head: nn.Module,
        auxiliary: nn.Module | None = None,
        *,
        frozen: bool = False,
        rules: Sequence[ParameterRule] = (),
    ) -> None:
        super().__init__()
        self.goal = goal
        self.task = goal.task
        self.backbone: Any = backbone
        self.head: Any = head
        self.auxiliary: Any = auxiliary
        self.frozen = frozen
        self.rules = tuple(rules)

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return `loss`, its terms, and `unlabelled`, the share of samples without any label, all 0-d."""
        return self.goal.loss(self, batch)

    @torch.no_grad()
    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Return the answers for `batch`, of which only what the network reads is needed, as the task defines them."""
        return self.goal.predict(self, batch)

    def train(self, mode: bool = True) -> TaskObjective:
        """Set the mode of everything but a frozen backbone."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def after_step(self, progress: Progress) -> None:
        """Do nothing: all is trained by gradient."""

    def encoder(self) -> nn.Module:
        """Return the backbone."""
        backbone: nn.Module = self.backbone
        return backbone

    def parameter_rules(self) -> list[ParameterRule]:
        """Return the rates of the backbone's layers, and the rule that keeps biases and norms from decaying."""
        return list(self.rules)

    def shard_units(self) -> list[nn.Module]:
        """Return the blocks of the backbone."""
        units: list[nn.Module] = self.backbone.shard_units()
        return units
