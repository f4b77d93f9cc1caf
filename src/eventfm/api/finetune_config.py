"""What a run on labels is: the schema of its recipes, and which encoder it starts from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt

from eventfm.api.run_config import AUTO_SIDE, one_of_two, read_recipe
from eventfm.config import Config, ConfigError, apply_overrides, recipe_names
from eventfm.data.build import DataConfig
from eventfm.engine.settings import TrainSettings
from eventfm.models.configs import BackboneConfig
from eventfm.models.encoder import CARD, EncoderCard, read_card
from eventfm.registry import did_you_mean

FOLDER = "finetune"
"""Where recipes of tasks are, among the recipes; they are named without it."""


class FewLabels(Config):
    """How few of the labelled windows are trained on: a share of them, or so many of each class."""

    share: float | None = Field(default=None, gt=0, le=1)
    """Share of the windows, chosen by a hash of their names; a smaller share is part of a larger one."""
    shots: PositiveInt | None = None
    """Windows of each class, of recognition."""
    seed: int = 0
    """Which ones."""


class FinetuneConfig(Config):
    """A whole run on labels."""

    task: dict[str, Any]
    """`name` of the task, its head, how the backbone is adapted, and the task's own settings."""
    encoder: str | None = None
    """Folder of the encoder to start from; without one, `task.backbone` and `representation` say what is built."""
    weights: Literal["pretrained", "scratch"] = "pretrained"
    """`scratch` builds the encoder's network anew, with weights drawn from the seed: what pretraining is to beat."""
    representation: dict[str, Any] | None = None
    """`name` of the representation, and its fields; the encoder's where there is one."""
    drop_path: float | None = Field(default=None, ge=0, lt=1)
    """Stochastic depth of the network while it learns; as in the encoder's own training where it is not given."""
    classes: tuple[str, ...] | None = None
    """Names of the classes of a segmentation, by number; where they are not given, those that the recordings have with
    their track `semantic`, and else as many as the training labels have."""
    data: DataConfig = DataConfig()
    labels: FewLabels = FewLabels()
    train: TrainSettings
    validate_every: PositiveInt | None = None
    """Steps between two scorings of the validation windows; ten a run where it is not given."""
    out: str
    """The run's folder: a new one, or one of the same run, which is then resumed."""


def parse_finetune(recipe: str | Path, overrides: Mapping[str, Any]) -> FinetuneConfig:
    """Return the run that `recipe` and the dotted `overrides` describe; a task's name stands for its recipe.

    Raises:
        ConfigError: No such recipe, a key that does not exist, or a value of the wrong kind.
    """
    values, changes = read_recipe(named(recipe), overrides)
    return FinetuneConfig.parse(apply_overrides(values, one_of_two(changes)), f"recipe {recipe}")


def named(recipe: str | Path) -> str | Path:
    """Return the recipe that `recipe` means: the one of that name for a task, or the path of a YAML file.

    Raises:
        ConfigError: It is neither.
    """
    names = recipe_names(FOLDER)
    if str(recipe) in names:
        return f"{FOLDER}/{recipe}"
    if Path(recipe).suffix not in (".yaml", ".yml"):
        raise ConfigError(f"unknown recipe {str(recipe)!r} of a task{did_you_mean(str(recipe), names)}")
    return recipe


class Beginning(Config):
    """What a run on labels starts from."""

    backbone: BackboneConfig
    representation: dict[str, Any]
    input_size: tuple[int, int]
    """Height and width, pixels."""
    card: EncoderCard | None = None
    """Of the encoder, where there is one, even if its weights are drawn anew."""


def beginning_of(config: FinetuneConfig, sensor: tuple[int, int]) -> Beginning:
    """Return network, representation and input size of a run; `sensor` is (height, width).

    Raises:
        ConfigError: There is neither an encoder nor a backbone and a representation, or both and they disagree.
        EncoderError: No encoder in the folder.
    """
    if config.encoder is None:
        if "backbone" not in config.task or config.representation is None:
            raise ConfigError(
                "expected encoder=FOLDER (what `eventfm pretrain` or `eventfm import` made), or task.backbone and "
                "representation for a network without pretraining"
            )
        backbone = BackboneConfig.parse(config.task["backbone"], under="task.backbone")
        return Beginning(
            backbone=_with_drop_path(backbone, config.drop_path),
            representation=config.representation,
            input_size=_size(config, backbone, sensor, None),
        )
    card = read_card(encoder_folder(config.encoder))
    if given := [name for name in ("representation",) if getattr(config, name) is not None]:
        raise ConfigError(f"the encoder in {config.encoder} has a {given[0]} of its own; leave {given[0]} out")
    if "backbone" in config.task:
        raise ConfigError(f"the encoder in {config.encoder} is a {card.backbone.name}; leave task.backbone out")
    return Beginning(
        backbone=_with_drop_path(card.backbone, config.drop_path),
        representation=card.representation,
        input_size=_size(config, card.backbone, sensor, card),
        card=card,
    )


def _with_drop_path(backbone: BackboneConfig, rate: float | None) -> BackboneConfig:
    if rate is None:
        return backbone
    return backbone.model_copy(update={"arguments": {**backbone.arguments, "drop_path": rate}})


def encoder_folder(path: str | Path) -> Path:
    """Return the folder of the encoder at `path`: that itself, or `encoder` in it where it is a run's."""
    folder = Path(path)
    return folder / "encoder" if not (folder / CARD).exists() and (folder / "encoder").is_dir() else folder


def _size(
    config: FinetuneConfig, backbone: BackboneConfig, sensor: tuple[int, int], card: EncoderCard | None
) -> tuple[int, int]:
    patch = backbone.arguments.get("patch_size")
    if not isinstance(patch, int):
        raise ConfigError(f"expected task.backbone.arguments.patch_size as a number of pixels, got {patch!r}")
    size = config.data.image_size
    if size == "auto" and card is not None:
        return card.input_size
    if size == "auto":
        longest = max(sensor)
        height, width = (max(patch, side * min(AUTO_SIDE, longest) // longest // patch * patch) for side in sensor)
    else:
        height, width = (size, size) if isinstance(size, int) else size
    if height % patch or width % patch:
        raise ConfigError(
            f"expected data.image_size to be a multiple of the patch of {patch} pixels, got {width}x{height}"
        )
    return height, width
