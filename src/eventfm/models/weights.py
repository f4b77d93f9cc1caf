"""Files of weights that are known by their hash, and how the weights of two networks differ."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

_NAMED = 5


def read_weights(file: Path, sha256: str, refusal: type[ValueError]) -> dict[str, Tensor]:
    """Return the tensors in `file`, whose hash must be `sha256`.

    Raises:
        refusal: The file is not there, damaged, or another one.
    """
    try:
        if (found := sha256_of_file(file)) != sha256:
            raise refusal(f"{file} is damaged or not the file of this card: expected SHA-256 {sha256}, got {found}")
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise refusal(f"cannot read {file}: {error}") from error


def differences(there: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> str:
    """Return in which names and shapes two states differ, in words; nothing where they do not."""
    found = [
        f"{name}: {_shape(there, name)} there, {_shape(here, name)} here"
        for name in sorted(here.keys() | there.keys())
        if _shape(there, name) != _shape(here, name)
    ]
    return f"{len(found)} weights differ: {'; '.join(found[:_NAMED])}" if found else ""


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _shape(state: Mapping[str, Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(state[name].shape) if name in state else None
