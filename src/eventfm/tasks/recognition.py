"""Recognition: one class for a whole window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from eventfm.config import Config, ConfigError
from eventfm.models.heads import build_head
from eventfm.protocols import Batch
from eventfm.tasks.dense import padded
from eventfm.tasks.losses import known_classes, soft_cross_entropy, unlabelled
from eventfm.tasks.metric_checks import entry
from eventfm.tasks.mixing import mixup
from eventfm.tasks.objective import TaskObjective
from eventfm.tasks.starting import Start, TaskConfig, assemble, new_backbone


class HeadConfig(Config):
    """What stands on the tokens of the backbone."""

    name: Literal["linear", "mlp", "attentive"] = "linear"
    """`linear` and `mlp` read the mean of the tokens, `attentive` a mean that it weighs itself."""


class RecognitionConfig(TaskConfig):
    """The whole task; defaults are EventPretrain's."""

    name: Literal["recognition"] = "recognition"
    head: HeadConfig = HeadConfig()
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Part of a label that is spread over all classes."""
    mixup: float = Field(default=0.0, ge=0)
    """Alpha of mixup, in training only: how often samples are blended in about equal parts. 0 never blends; what is
    drawn for values below 0.01 is rounding."""


@dataclass(frozen=True)
class Recognition:
    """Cross-entropy of the classes of windows (`tasks.objective.Goal`); a batch has `label` (B,) int64."""

    num_classes: int
    label_smoothing: float = 0.0
    mixup: float = 0.0
    task: str = "recognition"

    def loss(self, networks: TaskObjective, batch: Batch) -> dict[str, Tensor]:
        """Return `loss` and `unlabelled`; labels that are none of the classes count as none."""
        label = entry(batch, "label", "batch", 1)
        known = known_classes(label, self.num_classes)
        targets = functional.one_hot(torch.where(known, label, 0), self.num_classes).float() * known[:, None]
        x = batch["input"]
        if networks.training and self.mixup > 0:
            x, targets = mixup(x, targets, known, self.mixup)
        logits = _logits(networks, x)
        return {
            "loss": soft_cross_entropy(logits, targets, known, self.label_smoothing),
            "unlabelled": unlabelled(known),
        }

    def predict(self, networks: TaskObjective, batch: Batch) -> dict[str, Tensor]:
        """Return `logits` (B, num_classes)."""
        return {"logits": _logits(networks, batch["input"]).float()}


def build(
    config: Mapping[str, Any] | RecognitionConfig,
    in_channels: int,
    image_size: tuple[int, int],
    num_classes: int | None,
    start: Start | None = None,
) -> TaskObjective:
    """Return recognition as `config` says, for inputs (B, in_channels, H, W) of `image_size` (H, W).

    Raises:
        ConfigError: An unknown key, a value out of range, or fewer than two classes.
    """
    if not isinstance(config, RecognitionConfig):
        config = RecognitionConfig.parse(config, under="task")
    if num_classes is None or num_classes < 2:
        raise ConfigError(f"recognition needs at least 2 classes, got {num_classes}")
    backbone = new_backbone(config, in_channels, image_size, start)
    head = build_head(config.head.name, backbone.embed_dim, num_classes)
    goal = Recognition(num_classes, config.label_smoothing, config.mixup)
    return assemble(config, goal, backbone, head, lambda x: [backbone(x).tokens])


def _logits(networks: TaskObjective, x: Tensor) -> Tensor:
    return networks.head(networks.backbone(padded(x, networks.backbone.stride)).tokens)


def wanted(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys of a batch that it learns from."""
    RecognitionConfig.parse(config, under="task")
    return ("label",)


build.wanted = wanted  # type: ignore[attr-defined]
