"""`import` and `export`: weights in the layouts of other projects, in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, PositiveInt

from eventfm.api.settings import nested
from eventfm.config import Config
from eventfm.models.configs import BackboneConfig
from eventfm.models.encoder import EncoderCard, load_encoder, save_encoder, without_fusion
from eventfm.models.importers import (
    CheckpointError,
    ImportedCheckpoint,
    Layout,
    dino_layout,
    export_dino,
    export_eventpretrain,
    import_dino,
    import_eventpretrain,
    read_state,
    write_official,
)
from eventfm.models.importers.pretrained import write_pretrained
from eventfm.models.importers.recognition import Stage
from eventfm.representations import build as build_representation
from eventfm.representations import describe

WINDOW_US = 33_333
"""Windows of EventPretrain's pretraining: between the frames of a video at 30 per second. ScaleEvent's are not
published."""


class ImportConfig(Config):
    """Settings of `import`."""

    backbone: str | None = None
    """What the checkpoint is expected to be: vit, convvit, swin, dinov3, dinov2, or a size such as `vit_small`."""
    stage: Stage | None = None
    """What stage it is expected to be of: rec (stage 1), con (stages 2 and 3), classification, dense; or encoder."""
    in_channels: PositiveInt | None = None
    """How many bins it is expected to read."""
    representation: dict[str, Any] = Field(default_factory=dict)
    """What it was trained on, where that was no voxel grid (EventPretrain) or event volume (ScaleEvent, DINO) of its
    number of bins."""


class _Origin(NamedTuple):
    """What is known of a checkpoint beside its weights."""

    checkpoint: ImportedCheckpoint
    representation: dict[str, Any]
    """What it reads, as far as is known."""
    kind: str
    method: str
    licence: str
    trained_on: str


def import_weights(checkpoint: str | Path, out: str | Path, **settings: Any) -> EncoderCard:
    """Make an encoder folder of a checkpoint of EventPretrain, ScaleEvent, DINOv3 or DINOv2, and return its card.

    Which of them it is shows in its keys. The backbone alone is kept; heads are reached through
    `eventfm.models.importers`. The card says what is known: which data the checkpoint was trained on is published by
    name only.

    Args:
        checkpoint: The `.pth` file, in which nothing is run; of DINO also a folder of transformers or a name of its
            hub.
        out: Folder of the encoder.
        **settings: What the checkpoint is expected to be, if anything: `backbone`, `stage`, `in_channels`; and
            `representation`, if it reads anything else than voxel grids (EventPretrain) or event volumes.

    Raises:
        CheckpointError: It is damaged, of another project, or not what was expected; the message names the keys.
        EncoderError: The encoder could not be written.
    """
    config = ImportConfig.parse(nested(settings), "import")
    origin = _origin(checkpoint, config)
    found = origin.checkpoint
    arguments = dict(found.parts["backbone"].arguments)
    channels, size = arguments.pop("in_channels"), arguments.pop("image_size")
    representation = build_representation(config.representation or origin.representation)
    if representation.channels != channels:
        raise ValueError(
            f"the checkpoint reads {channels} channels, and {config.representation} has {representation.channels}"
        )
    card = EncoderCard(
        backbone=without_fusion(BackboneConfig(name=found.backbone, arguments=arguments)),
        in_channels=channels,
        input_size=(size, size) if isinstance(size, int) else size,
        representation=describe(representation),
        window={"by": "time", "duration_us": WINDOW_US},
        licence=origin.licence,
        parents=(f"{origin.kind} {_name(checkpoint)}, stage {found.stage}",),
        method=origin.method,
        trained_on=(origin.trained_on,),
    )
    return save_encoder(out, found.parts["backbone"].state, card)


def export_weights(encoder: str | Path, out: str | Path, layout: Layout | None = None) -> Path:
    """Write an encoder as the project that its backbone comes from would find it.

    EventPretrain's backbones as `{"model": {"backbone....": ...}}`; DINOv3 and DINOv2 in the `layout` `official` (if
    none is given), `scaleevent`, both `.pth` files of tensors alone, or `huggingface`, a new folder for transformers.

    Raises:
        EncoderError: There is no encoder.
        CheckpointError: It is of no size or layout that the project has; or the file could not be written.
    """
    folder = Path(encoder)
    folder = folder / "encoder" if (folder / "encoder").is_dir() else folder
    backbone, card = load_encoder(folder)
    name = card.backbone.name
    if not name.startswith("dino"):
        if layout not in (None, "official"):
            raise CheckpointError(f"a {name} is written in the layout official alone, got {layout!r}")
        write_official(out, export_eventpretrain(name, {"backbone": backbone}))
        return Path(out)
    layout = layout or "official"
    state = export_dino(backbone.state_dict(), layout)
    if layout == "huggingface":
        write_pretrained(out, state, backbone.published_config())
    else:
        write_official(out, state, under=None)
    return Path(out)


def _origin(checkpoint: str | Path, config: ImportConfig) -> _Origin:
    """Read `checkpoint`, whichever project it is of."""
    state = read_state(checkpoint) if Path(checkpoint).is_file() or Path(checkpoint).suffix == ".pth" else None
    layout = dino_layout(state) if state is not None else "huggingface"
    if layout is None:
        assert state is not None
        return _of_eventpretrain(
            import_eventpretrain(state, backbone=config.backbone, stage=config.stage, in_channels=config.in_channels)
        )
    if config.stage not in (None, "encoder"):
        raise CheckpointError(
            f"expected stage {config.stage} of EventPretrain, but {_name(checkpoint)} holds a backbone of DINO alone"
        )
    found = import_dino(
        checkpoint if state is None else state, backbone=config.backbone, in_channels=config.in_channels
    )
    return _of_dino(found, layout)


def _of_eventpretrain(found: ImportedCheckpoint) -> _Origin:
    channels = found.parts["backbone"].arguments["in_channels"]
    return _Origin(
        found,
        {"name": "voxel_grid", "num_bins": channels, "span": "events"},
        "official EventPretrain checkpoint",
        f"eventpretrain (official, {found.stage})",
        "as the authors of EventPretrain say; their code comes without one",
        "EF-ImageNet and what the official code trained it on; no list is published",
    )


def _of_dino(found: ImportedCheckpoint, layout: Layout) -> _Origin:
    family, channels = found.backbone.split("_")[0], found.parts["backbone"].arguments["in_channels"]
    volume = {"name": "event_volume", "num_bins": channels, "coding": "imagenet" if channels == 3 else "signed"}
    if layout == "scaleevent":
        return _Origin(
            found,
            volume,
            "ScaleEvent encoder",
            "scaleevent (official)",
            "as the authors of ScaleEvent say, whose code comes without one; it was made from DINOv3",
            "what ScaleEvent trained it on; no list is published",
        )
    return _Origin(
        found,
        volume,
        f"{family} checkpoint",
        f"{family} (pictures)",
        f"as the authors of {family.replace('dino', 'DINO')} say",
        f"pictures, as {family.replace('dino', 'DINO')} was; no events that are known of",
    )


def _name(checkpoint: str | Path) -> str:
    """Return the file's or folder's name, or that of the hub."""
    return Path(checkpoint).name if Path(checkpoint).exists() else str(checkpoint)
