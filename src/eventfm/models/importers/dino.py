"""Checkpoints of DINOv3, DINOv2 and ScaleEvent under this project's names, and back.

Strict both ways: each key of a file is used once, checked against a table, or refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eventfm.models import build_backbone
from eventfm.models.dino import DINO, NORM_EPS, ROPE_BASE, Generation
from eventfm.models.dino_sizes import SIZES
from eventfm.models.importers.dino_names import (
    LAYOUTS,
    SCALEEVENT,
    Layout,
    StateDict,
    bare_names,
    bias_mask,
    dino_layout,
    from_huggingface,
    from_official,
    generation_of,
    rope_periods,
    to_huggingface,
    to_official,
)
from eventfm.models.importers.eventpretrain import ImportedCheckpoint
from eventfm.models.importers.files import CheckpointError, read_state
from eventfm.models.importers.layout import Part
from eventfm.models.importers.pretrained import read_pretrained
from eventfm.models.importers.recognition import few

INPUT_SIZES: dict[Layout, int | tuple[int, int]] = {"official": 224, "huggingface": 224, "scaleevent": (480, 640)}
"""Pixels (a side, or height and width) of the inputs that the networks of each layout are mostly given."""

_SIZE_OF = {(size.dim, size.depth): name for name, size in SIZES.items()}
_PATCHES = (
    "patch_embed.proj.weight",
    "embeddings.patch_embeddings.weight",
    "embeddings.patch_embeddings.projection.weight",
)
_BLOCK = re.compile(r"(?:^|\.)(?:blocks|layer)\.(\d+)\.")
_REGISTERS = ("register_tokens", "storage_tokens", "embeddings.register_tokens")


def import_dino(
    source: str | Path | Mapping[str, Tensor], *, backbone: str | None = None, in_channels: int | None = None
) -> ImportedCheckpoint:
    """Return the backbone of a DINOv3, DINOv2 or ScaleEvent checkpoint, whichever size and layout it is of.

    `source` is a `.pth` file, a folder that transformers has saved, a name of its hub, or a state dict; tensors are
    not copied. `backbone` (`dinov3`, `dinov2`, or a name such as `dinov3_small`) and `in_channels` are what the caller
    expects, if anything.

    Raises:
        CheckpointError: It cannot be read, is of another project, not what was expected, or has a key too many, too
            few, or of another shape; the message names the keys.
    """
    found, config = _read(source)
    layout = dino_layout(found)
    if layout is None:
        raise CheckpointError(
            "not a checkpoint of DINOv3, DINOv2 or ScaleEvent: expected keys that end in 'ls1.gamma' or, by "
            f"transformers, 'layer_scale1.lambda1'; the first of its {len(found)} keys are {few(found)}"
        )
    names = bare_names(found, layout)
    state = {name: found[key] for name, key in names.items()}
    generation = generation_of(state)
    name, arguments, module = _backbone_of(state, generation, INPUT_SIZES[layout])
    _check_expected(name, state, names, backbone, in_channels)
    ours = module.state_dict()
    _check_keys(state, _laid_out(ours, generation, layout, module.head_dim), names, name)
    if layout == "huggingface":
        _check_config(config, name, generation)
        weights = from_huggingface(state, ours, generation)
    else:
        _check_tables(state, module.head_dim, names)
        weights = from_official(state, ours, generation)
    return ImportedCheckpoint(name, "encoder", {"backbone": Part(weights, arguments)})


def export_dino(state: Mapping[str, Tensor], layout: Layout) -> StateDict:
    """Return the state dict of a DINO backbone as files of `layout` hold it.

    Raises:
        CheckpointError: It is of another backbone or size, or there are no such files: ScaleEvent has no DINOv2.
    """
    if layout not in LAYOUTS:
        raise CheckpointError(f"expected one of the layouts {list(LAYOUTS)}, got {layout!r}")
    generation = generation_of(state)
    name, _, module = _backbone_of(state, generation, INPUT_SIZES[layout])
    _check_keys(state, module.state_dict(), {}, name)
    if layout == "scaleevent" and generation == 2:
        raise CheckpointError(f"a {name} is none of ScaleEvent's encoders; write it as official or huggingface")
    exported = _laid_out({key: value.detach() for key, value in state.items()}, generation, layout, module.head_dim)
    return {f"{SCALEEVENT}{key}": value for key, value in exported.items()} if layout == "scaleevent" else exported


def _read(source: str | Path | Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
    """Return the tensors of `source`, and the config beside them, if any."""
    if isinstance(source, Mapping):
        return source, {}
    if Path(source).is_file():
        return read_state(source), {}
    return read_pretrained(source)


def _backbone_of(
    state: Mapping[str, Tensor], generation: Generation, image_size: int | tuple[int, int]
) -> tuple[str, dict[str, Any], DINO]:
    """Return name, arguments and, without memory, the backbone that `state` fits by its shapes, in any layout."""
    key, depth = _kernel(state), _depth(state)
    dim, channels, patch, _ = state[key].shape
    if (dim, depth) not in _SIZE_OF:
        raise CheckpointError(
            f"no DINO that is {dim} wide, by {key!r} of shape {tuple(state[key].shape)}, and {depth} blocks deep; "
            f"known: {', '.join(f'{size.dim} wide and {size.depth} deep' for size in SIZES.values())}"
        )
    name = f"dinov{generation}_{_SIZE_OF[dim, depth]}"
    arguments: dict[str, Any] = {"in_channels": channels, "image_size": image_size, "patch_size": patch}
    if generation == 2:
        registers = [state[key] for key in _REGISTERS if key in state]
        arguments["registers"] = registers[0].shape[1] if registers else 0
    with torch.device("meta"):
        module = build_backbone(name, **arguments)
    assert isinstance(module, DINO)
    return name, arguments, module


def _kernel(state: Mapping[str, Tensor]) -> str:
    """Return the name of the kernel of the patches, from which sizes are read."""
    for key in _PATCHES:
        if key in state and state[key].ndim == 4:
            return key
    raise CheckpointError(
        f"expected the kernel of the patches under one of {list(_PATCHES)}, with 4 axes, to read sizes from; "
        f"the keys are {few(state)}"
    )


def _depth(state: Mapping[str, Tensor]) -> int:
    return len({found[1] for found in map(_BLOCK.search, state) if found})


def _laid_out(state: Mapping[str, Tensor], generation: Generation, layout: Layout, head_dim: int) -> StateDict:
    """Return our `state` in `layout`, without a prefix."""
    if layout == "huggingface":
        return to_huggingface(state, generation)
    return to_official(state, generation, head_dim)


def _check_expected(
    name: str, state: Mapping[str, Tensor], names: Mapping[str, str], backbone: str | None, in_channels: int | None
) -> None:
    """Refuse another backbone or number of channels than the expected, by the kernel of the patches."""
    key = _kernel(state)
    evidence = f"{names[key]!r} of shape {tuple(state[key].shape)}"
    if backbone not in (None, name, name.split("_")[0]):
        raise CheckpointError(
            f"expected a {backbone}, but the checkpoint is a {name}, by {evidence} and its {_depth(state)} blocks"
        )
    if in_channels not in (None, state[key].shape[1]):
        raise CheckpointError(f"expected a backbone for {in_channels} input channels (bins), but there is {evidence}")


def _check_keys(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor], names: Mapping[str, str], what: str
) -> None:
    """Refuse other keys or shapes than the `expected`; `names` are those in the file."""
    told = []
    if missing := [key for key in expected if key not in state]:
        told.append(f"{len(missing)} keys missing: {few(missing)}")
    if unknown := [names.get(key, key) for key in state if key not in expected]:
        told.append(f"{len(unknown)} keys too many: {few(unknown)}")
    shapes = [(key, state[key].shape, right.shape) for key, right in expected.items() if key in state]
    told += [
        f"expected {names.get(key, key)!r} of shape {tuple(right)}, got {tuple(found)}"
        for key, found, right in shapes
        if found != right
    ][:8]
    if told:
        raise CheckpointError(f"not quite a {what}: {'; '.join(told)}")


def _check_tables(state: Mapping[str, Tensor], head_dim: int, names: Mapping[str, str]) -> None:
    """Refuse other tables than DINOv3's, which would be dropped unseen."""
    for key, found in state.items():
        if key == "rope_embed.periods":
            periods = rope_periods(head_dim)
            # Files may hold them in half precision.
            if not torch.allclose(found.float().cpu(), periods, rtol=1e-2, atol=0):
                raise CheckpointError(
                    f"expected {names[key]!r} to be {ROPE_BASE:g}**(j/{len(periods)}), from {periods[0]:.3g} to "
                    f"{periods[-1]:.3g}; got {found[0]:.3g} to {found[-1]:.3g}: positions of another kind"
                )
        elif key.endswith(".bias_mask") and not torch.equal(found.float().cpu(), bias_mask(len(found) // 3)):
            raise CheckpointError(
                f"expected {names[key]!r} to be one for queries and values and zero for keys; another mask is not "
                "supported"
            )


def _check_config(config: Mapping[str, Any], name: str, generation: Generation) -> None:
    """Refuse a model whose config says what its shapes do not: another network with tensors of the same names."""
    heads = SIZES[name.split("_")[1]].heads
    expected = {"num_attention_heads": heads, "hidden_act": "gelu", "layer_norm_eps": NORM_EPS[generation]}
    if generation == 3:
        expected["rope_theta"] = ROPE_BASE
    if other := {key: config[key] for key, value in expected.items() if key in config and config[key] != value}:
        wanted = {key: expected[key] for key in other}
        raise CheckpointError(f"config.json says {other}, and a {name} has {wanted}")
