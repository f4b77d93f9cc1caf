"""`import` and `export`: weights in the layout of the official EventPretrain code, in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, PositiveInt

from eventfm.api.settings import nested
from eventfm.config import Config
from eventfm.models.configs import BackboneConfig
from eventfm.models.encoder import EncoderCard, load_encoder, save_encoder, without_fusion
from eventfm.models.importers import export_eventpretrain, import_eventpretrain, write_official
from eventfm.models.importers.recognition import Stage
from eventfm.representations import build as build_representation
from eventfm.representations import describe

WINDOW_US = 33_333
"""Windows of the official pretraining: between the frames of a video at 30 per second."""


class ImportConfig(Config):
    """Settings of `import`."""

    backbone: str | None = None
    """What the checkpoint is expected to be: vit, convvit, swin, or a size such as `vit_small`."""
    stage: Stage | None = None
    """What stage it is expected to be of: rec (stage 1), con (stages 2 and 3), classification, dense."""
    in_channels: PositiveInt | None = None
    """How many bins it is expected to read."""
    representation: dict[str, Any] = Field(default_factory=dict)
    """What it was trained on, where that was no voxel grid of its number of bins."""


def import_weights(checkpoint: str | Path, out: str | Path, **settings: Any) -> EncoderCard:
    """Make an encoder folder of an official EventPretrain checkpoint, and return its card.

    The backbone alone is kept; heads are reached through `eventfm.models.importers`. The card says what is known:
    which data the checkpoint was trained on is published by name only.

    Args:
        checkpoint: The `.pth` file; nothing in it is run.
        out: Folder of the encoder.
        **settings: What the checkpoint is expected to be, if anything: `backbone`, `stage`, `in_channels`; and
            `representation`, if it reads anything else than voxel grids.

    Raises:
        CheckpointError: It is damaged, of another project, or not what was expected; the message names the keys.
        EncoderError: The encoder could not be written.
    """
    config = ImportConfig.parse(nested(settings), "import")
    found = import_eventpretrain(
        checkpoint, backbone=config.backbone, stage=config.stage, in_channels=config.in_channels
    )
    arguments = dict(found.parts["backbone"].arguments)
    channels, side = arguments.pop("in_channels"), arguments.pop("image_size")
    voxels = {"name": "voxel_grid", "num_bins": channels, "span": "events"}
    representation = build_representation(config.representation or voxels)
    if representation.channels != channels:
        raise ValueError(
            f"the checkpoint reads {channels} channels, and {config.representation} has {representation.channels}"
        )
    card = EncoderCard(
        backbone=without_fusion(BackboneConfig(name=found.backbone, arguments=arguments)),
        in_channels=channels,
        input_size=(side, side),
        representation=describe(representation),
        window={"by": "time", "duration_us": WINDOW_US},
        licence="as the authors of EventPretrain say; their code comes without one",
        parents=(f"official EventPretrain checkpoint {Path(checkpoint).name}, stage {found.stage}",),
        method=f"eventpretrain (official, {found.stage})",
        trained_on=("EF-ImageNet and what the official code trained it on; no list is published",),
    )
    return save_encoder(out, found.parts["backbone"].state, card)


def export_weights(encoder: str | Path, out: str | Path) -> Path:
    """Write an encoder as the official EventPretrain code would find it, `{"model": {"backbone....": ...}}`.

    Raises:
        EncoderError: There is no encoder.
        CheckpointError: It is of no size that the official code has; or the file could not be written.
    """
    folder = Path(encoder)
    folder = folder / "encoder" if (folder / "encoder").is_dir() else folder
    backbone, card = load_encoder(folder)
    write_official(out, export_eventpretrain(card.backbone.name, {"backbone": backbone}))
    return Path(out)
