"""Optical flow: where every pixel goes until the end of its window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from eventfm.protocols import Batch
from eventfm.tasks.dense import DenseHead, at_input, build_auxiliary, build_dense_head, padded
from eventfm.tasks.losses import MAX_FLOW, flow_l1, known_flow, sequence_loss, unlabelled
from eventfm.tasks.matching import build_matching
from eventfm.tasks.metric_checks import entry
from eventfm.tasks.objective import TaskObjective
from eventfm.tasks.starting import Start, TaskConfig, assemble, new_backbone


class HeadConfig(DenseHead):
    """What stands on the pyramid of the backbone."""

    name: Literal["upernet", "dpt", "linear", "raft"] = "upernet"
    """`raft` compares the window with the one right before it, and improves its answer step by step."""


class FlowConfig(TaskConfig):
    """The whole task; defaults are EventPretrain's."""

    name: Literal["flow"] = "flow"
    head: HeadConfig = HeadConfig()
    auxiliary: float = Field(default=0.4, ge=0)
    """Weight of a second, shallow head on the third map, which learns along with upernet; 0 for none."""
    max_flow: float = Field(default=MAX_FLOW, gt=0)
    """Pixels of the input; longer flow is taken for a fault of the ground truth and not learned from."""
    gamma: float = Field(default=0.8, gt=0, le=1)
    """Weight of each iteration of raft as a share of the next one's."""


@dataclass(frozen=True)
class DenseFlow:
    """L1 where flow is known (`tasks.objective.Goal`); a batch has `flow` (B, 2, H, W), pixels of the input or NaN."""

    auxiliary: float = 0.4
    max_flow: float = MAX_FLOW
    task: str = "flow"

    def loss(self, networks: TaskObjective, batch: Batch) -> dict[str, Tensor]:
        """Return `loss`, `l1`, `auxiliary` where there is one, and `unlabelled`."""
        target = entry(batch, "flow", "batch", 4)
        x, size = padded(batch["input"], networks.backbone.stride), _size(batch["input"])
        pyramid = networks.backbone.pyramid(x)
        l1 = flow_l1(_in_pixels(networks.head(pyramid), x, size), target, self.max_flow)
        out = {"loss": l1, "l1": l1.detach()}
        if networks.auxiliary is not None:
            beside = flow_l1(_in_pixels(networks.auxiliary(pyramid), x, size), target, self.max_flow)
            out |= {"loss": l1 + self.auxiliary * beside, "auxiliary": beside.detach()}
        return {**out, "unlabelled": unlabelled(known_flow(target, self.max_flow))}

    def predict(self, networks: TaskObjective, batch: Batch) -> dict[str, Tensor]:
        """Return `flow` (B, 2, H, W), pixels of the input."""
        x = padded(batch["input"], networks.backbone.stride)
        return {"flow": _in_pixels(networks.head(networks.backbone.pyramid(x)), x, _size(batch["input"]))}


@dataclass(frozen=True)
class MatchedFlow:
    """The sequence loss of RAFT over the windows `before` and `input` (`tasks.objective.Goal`); `flow` as above.

    Motion from the one to the other stands for the motion within the input: both windows are of one length, and meet at
    the moment whose pixels the flow belongs to. That the earlier is looked up in the later, and that the context is the
    later's, is as in E-RAFT (Gehrig et al., 3DV 2021).
    """

    gamma: float = 0.8
    max_flow: float = MAX_FLOW
    task: str = "flow"

    def loss(self, networks: TaskObjective, batch: Batch) -> dict[str, Tensor]:
        """Return `loss`, `l1` of the last iteration, and `unlabelled`."""
        target = entry(batch, "flow", "batch", 4)
        steps = self._steps(networks, batch)
        return {
            "loss": sequence_loss(steps, target, self.gamma, self.max_flow),
            "l1": flow_l1(steps[-1].detach(), target, self.max_flow),
            "unlabelled": unlabelled(known_flow(target, self.max_flow)),
        }

    def predict(self, networks: TaskObjective, batch: Batch) -> dict[str, Tensor]:
        """Return `flow` (B, 2, H, W), pixels of the input; the batch has `before` beside it."""
        return {"flow": self._steps(networks, batch)[-1]}

    def _steps(self, networks: TaskObjective, batch: Batch) -> list[Tensor]:
        before, now = entry(batch, "before", "batch", 4), batch["input"]
        x = padded(torch.cat([before, now]), networks.backbone.stride)
        rows, cols = _size(now)
        steps = networks.head(networks.backbone.pyramid(x), _size(x))
        return [step.float()[:, :, :rows, :cols] for step in steps]


def build(
    config: Mapping[str, Any] | FlowConfig, in_channels: int, image_size: tuple[int, int], start: Start | None = None
) -> TaskObjective:
    """Return flow as `config` says, for inputs (B, in_channels, H, W) of `image_size` (H, W).

    Raises:
        ConfigError: An unknown key or a value out of range.
    """
    if not isinstance(config, FlowConfig):
        config = FlowConfig.parse(config, under="task")
    backbone = new_backbone(config, in_channels, image_size, start)
    name, dim, arguments = config.head.name, config.head.dim, config.head.arguments
    if name == "raft":
        matching = build_matching(backbone, dim, arguments)
        return assemble(config, MatchedFlow(config.gamma, config.max_flow), backbone, matching, backbone.pyramid)
    head = build_dense_head(name, backbone, 2, dim, arguments)
    auxiliary = build_auxiliary(name, config.auxiliary, backbone, 2)
    goal = DenseFlow(config.auxiliary, config.max_flow)
    return assemble(config, goal, backbone, head, backbone.pyramid, auxiliary)


def wanted(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys of a batch that it learns from, and `seen`, by which it is measured."""
    raft = FlowConfig.parse(config, under="task").head.name == "raft"
    return ("flow", "seen", "before") if raft else ("flow", "seen")


build.wanted = wanted  # type: ignore[attr-defined]


def _in_pixels(maps: Tensor, x: Tensor, size: tuple[int, int]) -> Tensor:
    """Return flow `maps` (B, 2, h, w), in cells of their own grid over the padded input `x`, in pixels of the input."""
    rows, cols = maps.shape[2:]
    flow = at_input(maps, x, size)
    return torch.cat([flow[:, :1] * (x.shape[3] / cols), flow[:, 1:] * (x.shape[2] / rows)], dim=1)


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[2], x.shape[3]
