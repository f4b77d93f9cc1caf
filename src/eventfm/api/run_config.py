"""What a pretraining run is: the schema of recipes, and how `auto` values become numbers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import PositiveInt

from eventfm.api.settings import dotted
from eventfm.config import Config, ConfigError, Several, apply_overrides, load_recipe
from eventfm.data.build import DataConfig
from eventfm.engine.settings import TrainSettings
from eventfm.events import Sensor
from eventfm.models import BACKBONES
from eventfm.models.configs import BackboneConfig

AUTO_SIDE = 128
"""Longest side of the input, pixels, where `data.image_size` is auto."""
SMALL_SIDE = 96
"""Up to this longest side an automatic patch is 8 pixels, beyond it the backbone's own, or 16 where that is smaller."""


_PAIRS = (("num_steps", "epochs"), ("warmup_steps", "warmup_fraction"))
_ALTERNATIVES = (*_PAIRS, *(pair[::-1] for pair in _PAIRS))
"""Keys of `train` of which one, once given, takes the place of the other in a recipe."""


class TeacherConfig(Config):
    """The image teacher of methods that have one."""

    name: str | None = None
    """Name on the model hub, or a folder; with a cache alone, the teacher is the one that made it."""
    cache: str | None = None
    """Folder that `eventfm prepare teacher` made: its tokens stand for the teacher."""
    layers: Several[PositiveInt] = ()
    """Blocks of a DINOv2 or DINOv3, counted from 1, whose tokens it gives side by side; the last one's if none."""
    revision: str | None = None
    """Revision on the hub."""
    input_size: PositiveInt | tuple[PositiveInt, PositiveInt] | Literal["data"] | None = None
    """Side or height and width of its pictures, pixels; `data`: as the inputs of the run; its own where it is not
    given."""
    trust_remote_code: bool = False
    """Run code that comes with the weights."""


class RunConfig(Config):
    """A whole pretraining run."""

    method: dict[str, Any]
    """`name` of the objective, and its own settings."""
    representation: dict[str, Any]
    """`name` of the representation, and its fields."""
    data: DataConfig = DataConfig()
    teacher: TeacherConfig = TeacherConfig()
    init: str | None = None
    """Where the backbone starts: the folder of an encoder; a DINOv2, DINOv3 or ScaleEvent checkpoint, as a file, a
    folder of transformers or a name on the hub; or `teacher`, whose weights are then the student's too."""
    train: TrainSettings
    validate_every: PositiveInt | None = None
    """Steps between two looks at the held-out data; ten looks a run where it is not given."""
    out: str
    """The run's folder: a new one, or one of the same run, which is then resumed."""


def read_recipe(recipe: str | Path, overrides: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the values of `recipe` and the dotted overrides, short forms written out.

    `data=PATH` is short for `data.path=PATH`, `teacher=NAME` for `teacher.name=NAME`; `variant=NAME` chooses a variant
    of the recipe. An override that counts the run in steps takes the place of a recipe's epochs, and the other way
    round.

    Raises:
        ConfigError: No such recipe, or `out` is not given.
    """
    changes = dotted(overrides)
    if "out" not in changes:
        raise ConfigError("out=FOLDER is required: where the run is kept")
    variant = changes.pop("variant", None)
    return load_recipe(recipe, variant), changes


def parse_run(values: Mapping[str, Any], changes: Mapping[str, Any], where: str) -> RunConfig:
    """Return the run that `values` describe with the dotted `changes`.

    Raises:
        ConfigError: A key that does not exist, or a value of the wrong kind.
    """
    given = apply_overrides({}, changes)
    name = _mapping(given.get("representation")).get("name")
    if name not in (None, _mapping(values.get("representation")).get("name")):
        values = {**values, "representation": {}}  # another one has other fields
    teacher = _mapping(given.get("teacher"))
    if "cache" in teacher and "name" not in teacher:
        changes = {**changes, "teacher.name": None}  # the one that made the cache, not the recipe's own
    changes = one_of_two(changes)
    return RunConfig.parse(apply_overrides(values, changes), where)


def one_of_two(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the dotted `changes` of a recipe, with what takes the place of another of its keys taking it away.

    A run that is to have so many steps has no epochs any more, and the other way round.
    """
    chosen = _mapping(apply_overrides({}, changes).get("train"))
    taken = {
        f"train.{other}": None for one, other in _ALTERNATIVES if chosen.get(one) is not None and other not in chosen
    }
    return {**changes, **taken}


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
    backbone = BackboneConfig.parse(config.method.get("backbone", {}), under="method.backbone")
    patch = backbone.arguments.get("patch_size", "auto")
    if patch != "auto" and not (isinstance(patch, int) and patch > 0):
        raise ConfigError(f"expected patch_size to be auto or a number of pixels above 0, got {patch!r}")
    if patch == "auto":
        own = _own_patch(backbone.name)
        patch = 8 if max(height, width) <= SMALL_SIDE else own if own > 8 else 16
        decisions.append(f"patch_size: {patch} pixels, for an input of about {width}x{height}")
    if size == "auto":
        height, width = (max(patch, side // patch * patch) for side in (height, width))
        decisions.append(f"image_size: {width}x{height}, for a sensor of {sensor.width}x{sensor.height}")
    if height % patch or width % patch:
        raise ConfigError(
            f"expected data.image_size to be a multiple of the patch of {patch} pixels, got {width}x{height}"
        )
    return (height, width), patch, decisions


def _own_patch(backbone: str) -> int:
    return int(inspect.signature(BACKBONES.get(backbone)).parameters["patch_size"].default)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
