"""Pretraining objectives, one file each."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from eventfm.registry import Registry

if TYPE_CHECKING:
    from eventfm.protocols import Objective, Teacher

METHODS = Registry(
    "method",
    {
        "difference": "eventfm.methods.difference:build",
        "transition": "eventfm.methods.contrast:build_transition",
        "contrast": "eventfm.methods.contrast:build_contrast",
        "joint": "eventfm.methods.joint:build",
        "distillation": "eventfm.methods.distillation:build",
    },
)

__all__ = ["METHODS", "build_method", "has_teacher", "needs_activity"]


def build_method(
    config: Mapping[str, Any], in_channels: int, image_size: tuple[int, int], teacher: Teacher | None = None
) -> Objective:
    """Return the objective that `config` names under `name`, for inputs (B, in_channels, H, W) of `image_size`.

    `teacher` is what the student learns from, in methods that have one; the others leave it alone.

    Raises:
        UnknownNameError: No method of that name.
        ConfigError: A key or value that the method does not know.
    """
    name = str(config.get("name"))
    learns_from = (teacher,) if has_teacher(name) else ()
    objective: Objective = METHODS.get(name)(config, in_channels, image_size, *learns_from)
    return objective


def has_teacher(name: str) -> bool:
    """Return whether the method `name` learns from an image teacher: whether its builder takes one.

    Raises:
        UnknownNameError: No method of that name.
    """
    return "teacher" in inspect.signature(METHODS.get(name)).parameters


def needs_activity(config: Mapping[str, Any]) -> bool:
    """Return whether the method that `config` names has to be told which patches are active.

    Its builder then has a function `needs_activity` of the config.

    Raises:
        UnknownNameError: No method of that name.
        ConfigError: A key or value that the method does not know.
    """
    asked = getattr(METHODS.get(str(config.get("name"))), "needs_activity", None)
    return asked is not None and bool(asked(config))
