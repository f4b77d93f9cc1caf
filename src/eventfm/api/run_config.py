"""What a pretraining run is: the schema of recipes, and how `auto` values become numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import PositiveInt

from eventfm.api.settings import dotted
from eventfm.config import Config, ConfigError, apply_overrides, load_recipe
from eventfm.data.build import DataConfig
from eventfm.engine.settings import TrainSettings
from eventfm.events import Sensor
from eventfm.models.configs import BackboneConfig

AUTO_SIDE = 128
"""Longest side of the input, pixels, where `data.image_size` is auto."""
SMALL_SIDE = 96
"""Up to this longest side an automatic patch is 8 pixels, beyond it 16."""


class RunConfig(Config):
    """A whole pretraining run."""

    method: dict[str, Any]
    """`name` of the objective, and its own settings."""
    representation: dict[str, Any]
    """`name` of the representation, and its fields."""
    data: DataConfig = DataConfig()
    train: TrainSettings
    validate_every: PositiveInt | None = None
    """Steps between two looks at the held-out data; ten looks a run where it is not given."""
    out: str
    """The run's folder: a new one, or one of the same run, which is then resumed."""


def read_run_config(recipe: str | Path, overrides: Mapping[str, Any]) -> RunConfig:
    """Return the run that `recipe` and `overrides` (dotted keys) describe; `data=PATH` is short for `data.path=PATH`.

    Raises:
        ConfigError: A key that does not exist, or a value of the wrong kind.
    """
    changes = dotted(overrides)
    if "out" not in changes:
        raise ConfigError("out=FOLDER is required: where the run is kept")
    return RunConfig.parse(apply_overrides(load_recipe(recipe), changes), f"recipe {recipe}")


def resolve_sizes(config: RunConfig, sensor: Sensor) -> tuple[tuple[int, int], int, list[str]]:
    """Return the input size (height, width), the patch, and a line on each decision that was taken for the user.

    Raises:
        ConfigError: The input size is no multiple of the patch, or the backbone is not described by a mapping.
    """
    decisions = []
    size = config.data.image_size
    longest = max(sensor.width, sensor.height)
    if size == "auto":
        # In whole numbers: the longest side is AUTO_SIDE exactly.
        height, width = (side * min(AUTO_SIDE, longest) // longest for side in (sensor.height, sensor.width))
    else:
        height, width = (size, size) if isinstance(size, int) else size
    backbone = BackboneConfig.parse(config.method.get("backbone", {}), "method.backbone")
    patch = backbone.arguments.get("patch_size", "auto")
    if patch != "auto" and not (isinstance(patch, int) and patch > 0):
        raise ConfigError(f"expected patch_size to be auto or a number of pixels above 0, got {patch!r}")
    if patch == "auto":
        patch = 8 if max(height, width) <= SMALL_SIDE else 16
        decisions.append(f"patch_size: {patch} pixels, for an input of about {width}x{height}")
    if size == "auto":
        height, width = (max(patch, side // patch * patch) for side in (height, width))
        decisions.append(f"image_size: {width}x{height}, for a sensor of {sensor.width}x{sensor.height}")
    if height % patch or width % patch:
        raise ConfigError(
            f"expected data.image_size to be a multiple of the patch of {patch} pixels, got {width}x{height}"
        )
    return (height, width), patch, decisions
