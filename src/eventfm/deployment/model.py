"""The model file: a backbone with the head of a task, what its outputs mean, and where both come from.

A folder with `model.safetensors` and `config.json`. Nothing in it is ever unpickled.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from eventfm import __version__
from eventfm.config import Config, ConfigError
from eventfm.models.atomic import new_folder
from eventfm.models.encoder import EncoderCard, sha256_of_list
from eventfm.models.lora import merged_state
from eventfm.models.weights import differences, read_weights, sha256_of_file
from eventfm.tasks import build_task

WEIGHTS = "model.safetensors"
CARD = "config.json"


class ModelError(ValueError):
    """Raised when a model cannot be saved, is damaged, or is of another task than it is used for."""


class ModelCard(Config):
    """What a model answers, how it must be fed, and what it was made from."""

    task: dict[str, Any]
    """The whole config of the task: its name, backbone and head."""
    encoder: EncoderCard
    """How the backbone must be fed, and what it was pretrained on; its window is the one of the task."""
    classes: tuple[str, ...] = ()
    """Name of each class, by number, of tasks that have such."""
    trained_on: tuple[str, ...] = ()
    """Every recording whose labels were trained on, with a hash of its content."""
    trained_on_sha256: str = ""
    """Hash of that list; filled in by `save_model`."""
    figures: dict[str, float] = Field(default_factory=dict)
    """What it reached on the samples that it was chosen by."""
    chosen_by: str = ""
    """How the best step was chosen, in words."""
    recipe: dict[str, Any] = Field(default_factory=dict)
    """The whole config of the run."""
    code_version: str = __version__
    """Version of eventfm that made it."""
    weights_sha256: str = ""
    """Hash of the weights file; filled in by `save_model`."""


def save_model(folder: str | Path, objective: nn.Module, card: ModelCard) -> ModelCard:
    """Write the networks of a task's `objective` to `folder`, and return the card with its hashes filled in.

    Low-rank updates are merged into the weights that they update, so that what is loaded is a plain network. A model
    that is there already stays readable up to the moment when the new one is.

    Raises:
        ModelError: The files could not be written, for instance on a full disk; an older model is untouched.
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in merged_state(objective).items()}
    card = card.model_copy(update={"task": {**card.task, "adapt": {"mode": "full"}}})
    try:
        with new_folder(Path(folder)) as temporary:
            save_file(weights, temporary / WEIGHTS)
            card = card.model_copy(
                update={
                    "weights_sha256": sha256_of_file(temporary / WEIGHTS),
                    "trained_on_sha256": sha256_of_list(card.trained_on),
                }
            )
            (temporary / CARD).write_text(json.dumps(card.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot save the model to {folder} ({error}); what was there before is untouched") from error
    return card


def load_model(folder: str | Path) -> tuple[Any, ModelCard]:
    """Return the objective of a task, on the CPU in eval mode, and the card of the model in `folder`.

    Raises:
        ModelError: No model there, or one whose card or weights are damaged or do not fit together.
    """
    folder = Path(folder)
    card = read_model_card(folder)
    weights = read_weights(folder / WEIGHTS, card.weights_sha256, ModelError)
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn and thrown away; leave the caller's draws alone
        objective = build_task(card.task, card.encoder.in_channels, card.encoder.input_size, len(card.classes) or None)
    if said := differences(weights, objective.state_dict()):
        raise ModelError(f"{folder / WEIGHTS} does not fit its card; {said}")
    objective.load_state_dict(weights)
    return objective.eval(), card


def model_folder(path: str | Path) -> Path:
    """Return the folder of the model at `path`: that itself, or `model` in it where it is a run's."""
    folder = Path(path)
    return folder / "model" if not (folder / WEIGHTS).exists() and (folder / "model").is_dir() else folder


def read_model_card(folder: str | Path) -> ModelCard:
    """Return the card of the model in `folder` without touching its weights.

    Raises:
        ModelError: No card there, or one that is not valid.
    """
    path = Path(folder) / CARD
    try:
        return ModelCard.parse(json.loads(path.read_text(encoding="utf-8")), str(path))
    except OSError as error:
        raise ModelError(f"no model in {folder}: expected {CARD} and {WEIGHTS} there ({error})") from error
    except (json.JSONDecodeError, UnicodeDecodeError, ConfigError) as error:
        raise ModelError(
            f"{path} is not a valid card of a model of a task: {error}; an encoder alone has no head, "
            "`eventfm finetune` gives it one"
        ) from error
