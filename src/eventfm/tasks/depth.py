"""Depth: metres to what every pixel sees."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from eventfm.protocols import Batch
from eventfm.tasks.dense import DenseHead, at_input, build_dense_head, padded
from eventfm.tasks.losses import known_depth, silog, unlabelled
from eventfm.tasks.metric_checks import entry
from eventfm.tasks.objective import TaskObjective
from eventfm.tasks.starting import Start, TaskConfig, assemble, new_backbone

Scale = Literal["metric", "log"]


class HeadConfig(DenseHead):
    """What stands on the pyramid of the backbone."""

    name: Literal["dpt", "upernet", "linear"] = "dpt"


class DepthConfig(TaskConfig):
    """The whole task; defaults are ScaleEvent's, with the loss of Depth Anything V2."""

    name: Literal["depth"] = "depth"
    head: HeadConfig = HeadConfig()
    scale: Scale = "metric"
    """What the head says: `metric`, through a sigmoid the share of `max_depth`; `log`, the logarithm of metres."""
    max_depth: float = Field(default=80.0, gt=0)
    """Metres; what is farther is not learned from, and `metric` never answers more."""
    variance_focus: float = Field(default=0.5, ge=0, le=1)
    """How much of an error in overall scale is forgiven; see `tasks.losses.silog`."""


@dataclass(frozen=True)
class Depth:
    """Scale-invariant error of logarithms (`tasks.objective.Goal`); a batch has `depth` (B, 1, H, W) metres or NaN."""

    scale: Scale = "metric"
    max_depth: float = 80.0
    variance_focus: float = 0.5
    task: str = "depth"

    def loss(self, networks: TaskObjective, batch: Batch) -> dict[str, Tensor]:
        """Return `loss` and `unlabelled`."""
        target = entry(batch, "depth", "batch", 4)
        known = known_depth(target, self.max_depth)
        loss = silog(self._log_depth(networks, batch["input"]), target, known, self.variance_focus)
        return {"loss": loss, "unlabelled": unlabelled(known)}

    def predict(self, networks: TaskObjective, batch: Batch) -> dict[str, Tensor]:
        """Return `depth` (B, 1, H, W), metres."""
        return {"depth": self._log_depth(networks, batch["input"]).exp()}

    def _log_depth(self, networks: TaskObjective, x: Tensor) -> Tensor:
        whole = padded(x, networks.backbone.stride)
        said = at_input(networks.head(networks.backbone.pyramid(whole)), whole, (x.shape[2], x.shape[3]))
        return said if self.scale == "log" else functional.logsigmoid(said) + math.log(self.max_depth)


def build(
    config: Mapping[str, Any] | DepthConfig, in_channels: int, image_size: tuple[int, int], start: Start | None = None
) -> TaskObjective:
    """Return depth as `config` says, for inputs (B, in_channels, H, W) of `image_size` (H, W).

    Raises:
        ConfigError: An unknown key or a value out of range.
    """
    if not isinstance(config, DepthConfig):
        config = DepthConfig.parse(config, under="task")
    backbone = new_backbone(config, in_channels, image_size, start)
    head = build_dense_head(config.head.name, backbone, 1, config.head.dim, config.head.arguments)
    goal = Depth(config.scale, config.max_depth, config.variance_focus)
    return assemble(config, goal, backbone, head, backbone.pyramid)


def wanted(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys of a batch that it learns from."""
    DepthConfig.parse(config, under="task")
    return ("depth",)


build.wanted = wanted  # type: ignore[attr-defined]
