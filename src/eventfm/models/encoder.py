"""The encoder file: a backbone, the representation it was trained on, and where both come from.

A folder with `encoder.safetensors` and `config.json`. Nothing in it is ever unpickled.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from eventfm import __version__
from eventfm.config import Config, ConfigError
from eventfm.models import BACKBONES, build_backbone
from eventfm.models.atomic import new_folder
from eventfm.models.configs import BackboneConfig
from eventfm.models.weights import differences, read_weights, sha256_of_file
from eventfm.protocols import Representation
from eventfm.representations import describe

WEIGHTS = "encoder.safetensors"
CARD = "config.json"
FUSION = "fusion"
"""Part of a backbone that joins its levels in the masked forward; once pretrained, an encoder has no use for it."""


class EncoderError(ValueError):
    """Raised when an encoder cannot be saved, is damaged, or does not fit what it is used with."""


class EncoderCard(Config):
    """What an encoder is, how it must be fed, and what it was made from."""

    backbone: BackboneConfig
    """Registered backbone and its arguments."""
    in_channels: int
    """Channels of the input."""
    input_size: tuple[int, int]
    """Height and width of the inputs it was trained on, pixels."""
    representation: dict[str, Any]
    """Name and fields, as `eventfm.representations.describe` gives them."""
    window: dict[str, Any]
    """How events were cut into windows."""
    polarity: str = "0 = OFF, 1 = ON"
    """Convention of the events that the representation was given."""
    normalisation: str = "none"
    """What was done to the representation before it entered the backbone."""
    sensor: dict[str, Any] = Field(default_factory=dict)
    """Sensor of the training data: width, height, name, inferred."""
    licence: str = ""
    """Licence of the weights."""
    parents: tuple[str, ...] = ()
    """Encoders, teachers and initial weights that this one was made from."""
    code_version: str = __version__
    """Version of eventfm that made it."""
    method: str
    """Objective that it was trained by."""
    recipe: dict[str, Any] = Field(default_factory=dict)
    """The whole config of the run."""
    trained_on: tuple[str, ...] = ()
    """Every file or sample that was trained on."""
    overlaps: tuple[str, ...] = ()
    """Test sequences of benchmarks among that, each with the benchmarks that test on it."""
    trained_on_sha256: str = ""
    """Hash of that list; filled in by `save_encoder`."""
    weights_sha256: str = ""
    """Hash of the weights file; filled in by `save_encoder`."""


def save_encoder(folder: str | Path, backbone: nn.Module | Mapping[str, Tensor], card: EncoderCard) -> EncoderCard:
    """Write `backbone` and `card` to `folder` and return the card with its hashes filled in.

    `backbone` is the module, or its whole state dict where the module itself is sharded over ranks; what only masked
    pretraining uses is left out, and the card says so (`fusion=False`). All is written
    beside the folder first and then takes its place in one step, so that an older encoder there is readable up to
    the moment when the new one is.

    Raises:
        EncoderError: The files could not be written, for instance on a full disk; an older encoder is untouched.
    """
    folder = Path(folder).absolute()
    state = backbone.state_dict() if isinstance(backbone, nn.Module) else backbone
    weights = {
        name: value.detach().cpu().contiguous() for name, value in state.items() if not name.startswith(f"{FUSION}.")
    }
    card = card.model_copy(update={"backbone": without_fusion(card.backbone)})
    try:
        with new_folder(folder) as temporary:
            save_file(weights, temporary / WEIGHTS)
            card = card.model_copy(
                update={
                    "weights_sha256": sha256_of_file(temporary / WEIGHTS),
                    "trained_on_sha256": sha256_of_list(card.trained_on),
                }
            )
            (temporary / CARD).write_text(json.dumps(card.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise EncoderError(
            f"cannot save the encoder to {folder} ({error}); what was there before is untouched"
        ) from error
    return card


def load_encoder(folder: str | Path) -> tuple[nn.Module, EncoderCard]:
    """Return the backbone, on the CPU in eval mode, and the card of the encoder in `folder`.

    Raises:
        EncoderError: No encoder there, or one whose card, weights or lists are damaged or do not fit together.
    """
    folder = Path(folder)
    card = read_card(folder)
    if sha256_of_list(card.trained_on) != card.trained_on_sha256:
        raise EncoderError(f"{folder / CARD}: the list of training samples does not match its hash; it was changed")
    weights = read_weights(folder / WEIGHTS, card.weights_sha256, EncoderError)
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn and thrown away; leave the caller's draws alone
        backbone = build_backbone(card.backbone.name, card.in_channels, card.input_size, **card.backbone.arguments)
    assert isinstance(backbone, nn.Module)
    _load_weights(backbone, weights, folder)
    return backbone.eval(), card


def without_fusion(backbone: BackboneConfig) -> BackboneConfig:
    """Return the config of the same backbone without what joins its levels in the masked forward."""
    if FUSION not in inspect.signature(BACKBONES.get(backbone.name)).parameters:
        return backbone
    return backbone.model_copy(update={"arguments": {**backbone.arguments, FUSION: False}})


def initialise(backbone: nn.Module, folder: str | Path, representation: Representation) -> EncoderCard:
    """Give `backbone` the weights of the encoder in `folder`, and return its card.

    What joins levels in the masked forward keeps its own weights: an encoder has none.

    Raises:
        EncoderError: No encoder there, or one of another backbone, size or representation; the message names the keys.
    """
    found, card = load_encoder(folder)
    check_representation(card, representation)
    ours = {name: value for name, value in backbone.state_dict().items() if not name.startswith(f"{FUSION}.")}
    theirs = found.state_dict()
    if said := differences(theirs, ours):
        raise EncoderError(
            f"the encoder in {folder} is a {card.backbone.name} for {card.in_channels} channels and does not fit; "
            f"{said}"
        )
    backbone.load_state_dict(theirs, strict=False)
    return card


def read_card(folder: str | Path) -> EncoderCard:
    """Return the card of the encoder in `folder` without touching its weights.

    Raises:
        EncoderError: No card there, or one that is not valid.
    """
    path = Path(folder) / CARD
    try:
        return EncoderCard.parse(json.loads(path.read_text(encoding="utf-8")), str(path))
    except OSError as error:
        raise EncoderError(f"no encoder in {folder}: expected {CARD} and {WEIGHTS} there ({error})") from error
    except (json.JSONDecodeError, UnicodeDecodeError, ConfigError) as error:
        raise EncoderError(f"{path} is not a valid encoder card: {error}") from error


def check_representation(card: EncoderCard, representation: Representation) -> None:
    """Do nothing if `representation` is the one that the encoder was trained on.

    Raises:
        EncoderError: It is another one, or has other fields; the message names both.
    """
    given = json.loads(json.dumps(describe(representation)))  # as it would stand in a card
    if given != card.representation:
        raise EncoderError(
            f"the encoder was trained on {_written(card.representation)} and cannot read {_written(given)}; "
            "use its own representation, or train another encoder"
        )


def sha256_of_list(samples: Iterable[str]) -> str:
    """Return the SHA-256 of `samples` in their order, as hexadecimal digits."""
    return hashlib.sha256(json.dumps(list(samples)).encode()).hexdigest()


def _load_weights(backbone: nn.Module, weights: dict[str, Tensor], folder: Path) -> None:
    expected = backbone.state_dict()
    missing = sorted(expected.keys() - weights.keys())
    unknown = sorted(weights.keys() - expected.keys())
    if missing or unknown:
        raise EncoderError(
            f"{folder / WEIGHTS} does not fit the backbone of its card: {len(missing)} keys missing {missing[:5]}, "
            f"{len(unknown)} unknown {unknown[:5]}"
        )
    for name, value in weights.items():
        if value.shape != expected[name].shape:
            raise EncoderError(
                f"{folder / WEIGHTS}: expected {name!r} of shape {tuple(expected[name].shape)}, "
                f"got {tuple(value.shape)}"
            )
    backbone.load_state_dict(weights)


def _written(config: dict[str, Any]) -> str:
    fields = ", ".join(f"{key}={value!r}" for key, value in config.items() if key != "name")
    return f"{config.get('name')}({fields})"
