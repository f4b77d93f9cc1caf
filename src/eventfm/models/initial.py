"""Weights that a backbone starts from: an encoder's, or those of a network for pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from eventfm.models.encoder import CARD, WEIGHTS, EncoderCard, EncoderError, initialise
from eventfm.models.importers import Layout, dino_layout, import_dino
from eventfm.models.importers.files import read_state
from eventfm.models.importers.pretrained import WEIGHTS as PRETRAINED
from eventfm.models.importers.pretrained import is_hub_name, pretrained_file
from eventfm.models.weights import differences, sha256_of_file
from eventfm.protocols import Representation

_PATCHES = "embeddings.patch_embeddings."
_WHOSE: dict[Layout, str] = {
    "official": "official checkpoint",
    "huggingface": "model of transformers",
    "scaleevent": "ScaleEvent encoder",
}


def start_from(backbone: nn.Module, source: str | Path, representation: Representation) -> EncoderCard | dict[str, Any]:
    """Give `backbone` the weights of `source`, and return where they come from.

    `source` is the folder of an encoder, whose card is returned (see `encoder.initialise`); or a DINOv2, DINOv3 or
    ScaleEvent checkpoint: a `.pth` file, a folder that transformers has saved, or a name of its hub. Of these, plain
    JSON values are returned: `source`, its last part where it is a path; `kind`; `backbone`; `in_channels` of the
    source; `weights_sha256`, of the file; and `changes`, in words.

    Where a checkpoint has another number s of input channels than the C of `backbone`, its patch kernel becomes, for
    every channel, its mean over channels times s / C: a constant input gives the tokens that it gave.

    Raises:
        EncoderError: No encoder there, or another one; or a checkpoint that does not fit. The message names the keys.
        CheckpointError: A checkpoint that cannot be read, or is none of DINO's.
        MissingExtraError: It is on the hub, and transformers is not installed.
    """
    folder = Path(source).expanduser()
    if (folder / WEIGHTS).exists() or not (_is_pretrained(folder) or folder.is_file() or is_hub_name(source)):
        return initialise(backbone, folder, representation)
    file = folder if folder.is_file() else pretrained_file(source, PRETRAINED)
    content: Any = read_state(file) if folder.is_file() else source
    found = import_dino(content)
    state, changes = _fitted(found.parts["backbone"].state, backbone)
    _check(state, backbone, f"the {found.backbone} in {source}")
    backbone.load_state_dict(state)
    layout = dino_layout(content) if isinstance(content, Mapping) else "huggingface"
    assert layout is not None
    return {
        "source": folder.resolve().name if folder.exists() else str(source),
        "kind": _WHOSE[layout],
        "backbone": found.backbone,
        "in_channels": found.parts["backbone"].arguments["in_channels"],
        "weights_sha256": sha256_of_file(file),
        "changes": changes,
    }


def _is_pretrained(folder: Path) -> bool:
    return (folder / CARD).is_file() and (folder / PRETRAINED).is_file()


def _fitted(state: Mapping[str, Tensor], backbone: nn.Module) -> tuple[dict[str, Tensor], list[str]]:
    """Return `state` with its patch kernel for the channels of `backbone`, and what was changed."""
    kernels = [key for key in state if key.startswith(_PATCHES) and key.endswith("weight")]
    ours = backbone.state_dict()
    fitted, changes = dict(state), []
    for key in kernels:
        old, new = state[key], ours.get(key)
        if new is None or old.shape[1] == new.shape[1] or (old.shape[0], *old.shape[2:]) != (len(new), *new.shape[2:]):
            continue
        source, target = old.shape[1], new.shape[1]
        fitted[key] = (old.float().mean(dim=1, keepdim=True) * (source / target)).expand(-1, target, -1, -1)
        changes.append(f"patch kernel: the mean over its {source} channels, times {source}/{target}, for all {target}")
    return fitted, changes


def _check(state: Mapping[str, Tensor], backbone: nn.Module, what: str) -> None:
    """Refuse weights that are not those of `backbone`, by name."""
    if said := differences(state, backbone.state_dict()):
        raise EncoderError(f"{what} does not fit; {said}; choose method.backbone to be of its kind, size and patch")
