"""The rows of a transfer suite: encoders, and the same networks without pretraining."""

from __future__ import annotations

import hashlib
import json

from eventfm.api.finetune_config import FinetuneConfig, encoder_folder
from eventfm.api.folder_names import short_names
from eventfm.api.transfer_cells import Row
from eventfm.config import ConfigError
from eventfm.models.encoder import EncoderCard, read_card

_CONTROL = "without pretraining"


def rows_of(encoders: str | list[str]) -> list[Row]:
    """Return the rows: every encoder, and after it the same network without pretraining.

    Encoders of one network and input share their control. Its folder is called by what it is, not by which encoder is
    the first.

    Raises:
        ConfigError: There is no encoder, or one without a name.
        EncoderError: No encoder in a folder.
    """
    given = encoders.split(",") if isinstance(encoders, str) else encoders
    folders = list(dict.fromkeys(path.strip() for path in given))
    if not all(folders):
        raise ConfigError(f"expected encoders=FOLDER[,FOLDER ...], got {encoders!r}")
    rows: list[Row] = []
    controls: dict[str, str] = {}
    for folder, name in zip(folders, short_names([encoder_folder(path) for path in folders], "encoder"), strict=True):
        card = read_card(encoder_folder(folder))
        twin = _network(card)
        known = twin in controls
        number = "" if not controls or known else f" ({card.backbone.name}, {len(controls) + 1})"
        control = controls.setdefault(twin, f"{_CONTROL}{number}")
        rows.append(Row(folder, name, "pretrained", control))
        if not known:
            called = f"{_CONTROL}-{card.backbone.name}-{hashlib.sha256(twin.encode()).hexdigest()[:8]}"
            rows.append(Row(folder, control, "scratch", folder=called))
    return rows


def without_encoder(run: FinetuneConfig) -> FinetuneConfig:
    """Return a run without pretraining that says itself what network and input its encoder has, and not which it is."""
    assert run.encoder is not None
    card = read_card(encoder_folder(run.encoder))
    size = card.input_size if run.data.image_size == "auto" else run.data.image_size
    return run.model_copy(
        update={
            "encoder": None,
            "weights": "scratch",
            "representation": card.representation,
            "task": {**run.task, "backbone": card.backbone.model_dump(mode="json")},
            "data": run.data.model_copy(update={"image_size": size}),
        }
    )


def _network(card: EncoderCard) -> str:
    return json.dumps([card.backbone.model_dump(), card.representation, card.input_size], sort_keys=True)
