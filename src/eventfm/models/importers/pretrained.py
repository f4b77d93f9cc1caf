"""Models as transformers keeps them: a folder, or a name of its hub, with `config.json` and `model.safetensors`."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from eventfm.io.atomic import WriteError
from eventfm.models.importers.files import CheckpointError
from eventfm.registry import require

CONFIG = "config.json"
WEIGHTS = "model.safetensors"


def read_pretrained(name: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the config of the model in the folder `name`, or of that name on the hub.

    The names of the tensors are those in its file.

    Raises:
        CheckpointError: There is none, or it cannot be read.
        MissingExtraError: It is on the hub, and transformers is not installed.
    """
    weights = pretrained_file(name, WEIGHTS)
    try:
        config = json.loads(pretrained_file(name, CONFIG).read_text(encoding="utf-8"))
        return load_file(weights), config
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"cannot read the model in {name}: {error}") from error


def pretrained_file(name: str | Path, file: str) -> Path:
    """Return the path of a file of that model, fetched from the hub where `name` is no folder.

    Raises:
        CheckpointError: There is none.
        MissingExtraError: It is on the hub, and transformers is not installed.
    """
    if Path(name).expanduser().is_dir():
        path = Path(name).expanduser() / file
        if not path.is_file():
            raise CheckpointError(
                f"{name} holds no model of transformers in one file: expected {CONFIG} and {WEIGHTS} there; save it "
                "again by save_pretrained, with safetensors"
            )
        return path
    if not is_hub_name(name):
        raise CheckpointError(f"there is no file or folder {name}")
    hub = require("transformers.utils", "teachers")
    try:
        return Path(hub.cached_file(str(name), file))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"there is no folder {name}, and the hub does not give {file} of that name: {' '.join(str(error).split())}"
        ) from error


def is_hub_name(name: str | Path) -> bool:
    """Return whether `name` can be one of the hub, such as `facebook/dinov2-small`."""
    text = str(name)
    return (
        not text.startswith((".", "~", os.sep))
        and text.count("/") == 1
        and not text.endswith((".pth", ".pt", ".bin", ".safetensors"))
    )


def write_pretrained(folder: str | Path, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Write a new folder that transformers reads, as a whole or not at all.

    Raises:
        FileExistsError: `folder` exists.
        WriteError: It could not be written.
    """
    folder = Path(folder).absolute()
    if folder.exists():
        raise FileExistsError(f"{folder} exists; choose another one, or delete it")
    temporary = folder.with_name(f".{folder.name}.new-{os.getpid()}")
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    try:
        temporary.mkdir()
        save_file(tensors, temporary / WEIGHTS, metadata={"format": "pt"})
        (temporary / CONFIG).write_text(json.dumps(dict(config), indent=2) + "\n", encoding="utf-8")
        temporary.rename(folder)
    except (OSError, SafetensorError) as error:
        raise WriteError(f"could not write {folder}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
