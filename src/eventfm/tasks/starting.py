"""From the config of a task to its networks, ready to learn."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pydantic import Field
from torch import Tensor, nn

from eventfm.config import Config
from eventfm.models import build_backbone
from eventfm.models.configs import BackboneConfig
from eventfm.models.encoder import without_fusion
from eventfm.tasks.adaptation import AdaptConfig, adapt, leave_unread, rules
from eventfm.tasks.objective import Goal, TaskObjective

Start = Callable[[nn.Module], Any]
"""Gives a new backbone the weights that it starts from."""


class TaskConfig(Config):
    """What every task has."""

    backbone: BackboneConfig = BackboneConfig()
    """The network under the head."""
    adapt: AdaptConfig = AdaptConfig()
    """What of the backbone learns."""
    layer_decay: float | None = Field(default=None, gt=0, le=1)
    """Learning rate of each layer of the backbone as a share of the next one's; all alike where none is given."""
    backbone_rate: float = Field(default=1.0, gt=0)
    """Learning rate of the backbone as a share of the head's."""


def new_backbone(config: TaskConfig, in_channels: int, image_size: tuple[int, int], start: Start | None) -> Any:
    """Return the backbone for inputs (B, in_channels, H, W) of `image_size`, with the weights that `start` gives it."""
    plain = without_fusion(config.backbone)
    backbone = build_backbone(plain.name, in_channels, image_size, **plain.arguments)
    if start is not None:
        start(backbone)  # type: ignore[arg-type]
    return backbone


def assemble(
    config: TaskConfig,
    goal: Goal,
    backbone: Any,
    head: nn.Module,
    read: Callable[[Tensor], Iterable[Tensor]],
    auxiliary: nn.Module | None = None,
) -> TaskObjective:
    """Return the objective in which `backbone` is adapted as `config` says; `read` is what the head reads of an input.

    Raises:
        ConfigError: The backbone cannot be adapted so.
    """
    adapt(backbone, config.adapt)
    leave_unread(backbone, backbone.in_channels, read)
    return TaskObjective(
        goal,
        backbone,
        head,
        auxiliary,
        frozen=config.adapt.mode == "frozen",
        rules=rules(backbone, "backbone.", config.layer_decay, config.backbone_rate),
    )
