"""Downstream tasks and their metrics."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from eventfm.registry import Registry

if TYPE_CHECKING:
    from torch import nn

    from eventfm.tasks.objective import TaskObjective

TASKS = Registry(
    "task",
    {
        "recognition": "eventfm.tasks.recognition:build",
        "segmentation": "eventfm.tasks.segmentation:build",
        "flow": "eventfm.tasks.flow:build",
        "depth": "eventfm.tasks.depth:build",
    },
)

__all__ = ["TASKS", "build_task", "wanted"]


def build_task(
    config: Mapping[str, Any],
    in_channels: int,
    image_size: tuple[int, int],
    num_classes: int | None = None,
    start: Callable[[nn.Module], Any] | None = None,
) -> TaskObjective:
    """Return the task that `config` names under `name`, for inputs (B, in_channels, H, W) of `image_size` (H, W).

    `num_classes` is for tasks that have classes. `start` gives the new backbone the weights that it starts from,
    before it is adapted.

    Raises:
        UnknownNameError: No task of that name.
        ConfigError: A key or value that the task does not know, or no number of classes where it needs one.
    """
    builder = TASKS.get(str(config.get("name")))
    classes = {"num_classes": num_classes} if "num_classes" in inspect.signature(builder).parameters else {}
    objective: TaskObjective = builder(config, in_channels, image_size, **classes, start=start)
    return objective


def wanted(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the task that `config` names needs in a batch beside `input`, for learning and for its metrics.

    Raises:
        UnknownNameError: No task of that name.
        ConfigError: A key or value that the task does not know.
    """
    keys: tuple[str, ...] = TASKS.get(str(config.get("name"))).wanted(config)
    return keys
