"""Official `.pth` files, read without running their pickle, and written.

The files of EventPretrain hold an `argparse.Namespace` beside the weights; that class, and no other, is let through
torch's weights-only unpickler.
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eventfm.io.atomic import atomic_file


class CheckpointError(ValueError):
    """Raised when a checkpoint cannot be read, or does not hold exactly what it should."""


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Return the state dict of a `.pth` file, on the CPU, without running its pickle.

    It is what lies under `model`, as in EventPretrain's files, or the whole of a file that holds nothing but tensors,
    as DINO's and ScaleEvent's.

    Raises:
        CheckpointError: No such file, a damaged one, one that holds other classes, or no state dict in it.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is damaged, or holds more than tensors, plain values and argparse.Namespace, and was not loaded"
        ) from error
    except (OSError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"cannot read {path} as a torch checkpoint: {error}") from error
    if isinstance(content, Mapping):
        state = content.get("model", content)
        if _is_state_dict(state):
            return dict(state)
    raise CheckpointError(
        f"expected {path} to hold a state dict under 'model', as files of EventPretrain do, or tensors alone, as "
        "those of DINOv2, DINOv3 and ScaleEvent do"
    )


def write_official(
    path: str | Path, state: Mapping[str, Tensor], overwrite: bool = False, *, under: str | None = "model"
) -> None:
    """Write `state` to `path` as official code reads it, as a whole or not at all.

    That is `{"model": state}` for EventPretrain's, and the state dict alone, with `under=None`, for DINO's and
    ScaleEvent's. The tensors are written alone: a small part of a large one does not take the large one with it.

    Raises:
        FileExistsError: `path` exists and `overwrite` is not set.
        WriteError: The file could not be written; what was there before is unchanged.
    """
    tensors = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in state.items()}
    with atomic_file(Path(path), overwrite) as temporary:
        torch.save(tensors if under is None else {under: tensors}, temporary)


def _is_state_dict(state: Any) -> bool:
    return isinstance(state, Mapping) and all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    )
