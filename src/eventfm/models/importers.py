"""Official checkpoints under this project's names.

Strict: a key without a place here is an error, and so is a missing one or a shape that does not fit. The `.pth`
files of EventPretrain hold an `argparse.Namespace` beside the weights; that class, and no other, is let through
torch's weights-only unpickler.
"""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Mapping
from math import isqrt
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from eventfm.models.layers import sincos_positions
from eventfm.models.masked_decoder import MaskedDecoder
from eventfm.models.vit import ViT

StateDict = dict[str, Tensor]

_NUM_HEADS = 12
_DECODER_HEADS = {256: 8, 512: 16}
"""Heads leave no trace in the shapes; these are the published ones, by decoder width."""

_ENCODER = r"^(?:backbone|pretrain_encoder|finetune_encoder)\."
_VIT_STAGE1_NAMES = (
    (_ENCODER + r"patch_embed\.(proj|norm)\.", r"backbone.patch_embed.\1."),
    (_ENCODER + r"vit_block\.", "backbone.blocks."),
    (_ENCODER + r"(?:norm_layer|norm_l_h|norm_h)\.", "backbone.norm."),
    (_ENCODER + r"pos_embed$", "backbone.pos_embed"),
    (r"^pretrain_rec_decoder\.patch_embed\.", "decoder.embed."),
    (r"^pretrain_rec_decoder\.vit_block\.", "decoder.blocks."),
    (r"^pretrain_rec_decoder\.pred\.", "decoder.predict."),
    (r"^pretrain_rec_decoder\.(norm\.|mask_token$|pos_embed$)", r"decoder.\1"),
)


class CheckpointError(ValueError):
    """Raised when a checkpoint cannot be read, or does not hold exactly what it should."""


class ImportedParts(NamedTuple):
    """Weights of the parts of one checkpoint, and the arguments of the modules that they fit."""

    backbone: StateDict
    """For `ViT(**backbone_arguments)`."""
    decoder: StateDict
    """For `MaskedDecoder(**decoder_arguments)`."""
    backbone_arguments: dict[str, Any]
    decoder_arguments: dict[str, Any]


def import_vit_stage1(source: str | Path | Mapping[str, Tensor]) -> ImportedParts:
    """Return backbone and decoder of an official EventPretrain stage-1 checkpoint with the `vit` backbone.

    `source` is the `.pth` file or its state dict. Sizes are read off the shapes; heads are the published ones.

    Raises:
        CheckpointError: The file cannot be read, or its keys or shapes are not those of such a checkpoint.
    """
    official = source if isinstance(source, Mapping) else read_state(source)
    state = _renamed(official, _VIT_STAGE1_NAMES)
    embed_dim, in_channels, patch_size, _ = _shape(state, "backbone.patch_embed.proj.weight", 4)
    decoder_dim, _ = _shape(state, "decoder.embed.weight", 2)
    side = isqrt(_shape(state, "backbone.pos_embed", 3)[1])
    for part, dim in (("backbone", embed_dim), ("decoder", decoder_dim)):
        _check_positions(state, f"{part}.pos_embed", side, dim)
    if decoder_dim not in _DECODER_HEADS:
        raise CheckpointError(f"expected a decoder of width {list(_DECODER_HEADS)}, got {decoder_dim}")
    parts = ImportedParts(
        backbone=_part(state, "backbone."),
        decoder=_part(state, "decoder."),
        backbone_arguments={
            "in_channels": in_channels,
            "image_size": side * patch_size,
            "patch_size": patch_size,
            "embed_dim": embed_dim,
            "depth": _depth(state, "backbone.blocks."),
            "num_heads": _NUM_HEADS,
        },
        decoder_arguments={
            "in_dim": embed_dim,
            "patch_values": _shape(state, "decoder.predict.weight", 2)[0],
            "grid": (side, side),
            "dim": decoder_dim,
            "depth": _depth(state, "decoder.blocks."),
            "num_heads": _DECODER_HEADS[decoder_dim],
        },
    )
    with torch.device("meta"):
        backbone, decoder = ViT(**parts.backbone_arguments), MaskedDecoder(**parts.decoder_arguments)
    _check_fit(backbone, parts.backbone, "backbone")
    _check_fit(decoder, parts.decoder, "decoder")
    return parts


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Return the state dict under `model` of an official `.pth` file, on the CPU, without running its pickle.

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
    state = content.get("model") if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"expected {path} to hold a state dict under 'model'; is it an EventPretrain checkpoint?")
    return dict(state)


def _renamed(official: Mapping[str, Tensor], names: tuple[tuple[str, str], ...]) -> StateDict:
    """Return `official` under our names; every key is renamed once, by the first pattern that fits."""
    state: StateDict = {}
    unknown: list[str] = []
    for key, value in official.items():
        pattern, name = next(((p, n) for p, n in names if re.match(p, key)), ("", ""))
        if not pattern:
            unknown.append(key)
            continue
        renamed = re.sub(pattern, name, key)
        if renamed in state:
            raise CheckpointError(f"two keys of the checkpoint are both {renamed!r}, the second is {key!r}")
        state[renamed] = value
    if unknown:
        raise CheckpointError(f"{len(unknown)} keys have no place in a stage-1 ViT: {_few(unknown)}")
    return state


def _shape(state: StateDict, key: str, num_axes: int) -> tuple[int, ...]:
    if key not in state:
        raise CheckpointError(f"the checkpoint lacks what becomes {key!r}; is it a stage-1 ViT?")
    if state[key].ndim != num_axes:
        raise CheckpointError(f"expected {key!r} to have {num_axes} axes, got shape {tuple(state[key].shape)}")
    return tuple(state[key].shape)


def _depth(state: StateDict, prefix: str) -> int:
    numbers = {key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)}
    return len(numbers)


def _part(state: StateDict, prefix: str) -> StateDict:
    return {
        key.removeprefix(prefix): value
        for key, value in state.items()
        if key.startswith(prefix) and not key.endswith(".pos_embed")
    }


def _check_positions(state: StateDict, key: str, side: int, dim: int) -> None:
    """Refuse positions other than the fixed ones: this project works them out anew and would drop them."""
    shape = _shape(state, key, 3)
    if shape != (1, side * side, dim):
        raise CheckpointError(f"expected {key!r} of shape (1, {side * side}, {dim}), got {shape}")
    if not torch.allclose(state[key][0].float(), sincos_positions((side, side), dim), atol=1e-4):
        raise CheckpointError(f"{key!r} is not the fixed sine-cosine table; learned positions are not supported")


def _check_fit(module: nn.Module, state: StateDict, part: str) -> None:
    expected = module.state_dict()
    if missing := sorted(expected.keys() - state.keys()):
        raise CheckpointError(f"the {part} lacks {len(missing)} keys: {_few(missing)}")
    if unknown := sorted(state.keys() - expected.keys()):
        raise CheckpointError(f"the {part} has {len(unknown)} keys too many: {_few(unknown)}")
    for key, value in state.items():
        if value.shape != expected[key].shape:
            raise CheckpointError(
                f"the {part}'s {key!r}: expected shape {tuple(expected[key].shape)}, got {tuple(value.shape)}"
            )


def _few(keys: list[str]) -> str:
    return ", ".join(keys[:8]) + (", ..." if len(keys) > 8 else "")
