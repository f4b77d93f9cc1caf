"""Pretraining objectives, one file each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from eventfm.registry import Registry

if TYPE_CHECKING:
    from eventfm.protocols import Objective

METHODS = Registry("method", {"difference": "eventfm.methods.difference:build"})

__all__ = ["METHODS", "build_method"]


def build_method(config: Mapping[str, Any], in_channels: int, image_size: tuple[int, int]) -> Objective:
    """Return the objective that `config` names under `name`, for inputs (B, in_channels, H, W) of `image_size`.

    Raises:
        UnknownNameError: No method of that name.
        ConfigError: A key or value that the method does not know.
    """
    objective: Objective = METHODS.get(str(config.get("name")))(config, in_channels, image_size)
    return objective
