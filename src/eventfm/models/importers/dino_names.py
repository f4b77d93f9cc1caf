"""What DINO's own code, transformers and ScaleEvent call the parameters of our `DINO`, and how they cut them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from eventfm.models.dino import ROPE_BASE, Generation
from eventfm.models.importers.files import CheckpointError
from eventfm.models.importers.recognition import few

Layout = Literal["official", "huggingface", "scaleevent"]
"""`official`: the files of DINOv2 and DINOv3; `scaleevent`: the same names behind a prefix; `huggingface`: the names
of the files on the hub, which differ from those that some versions of transformers have in memory."""
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
SCALEEVENT = "module.event_encoder."

Rules = tuple[tuple[str, str], ...]
StateDict = dict[str, Tensor]

_PREFIXES = (SCALEEVENT, "event_encoder.")
_MARKS: dict[Layout, tuple[str, str]] = {
    "official": ("attn.qkv.weight", "ls1.gamma"),
    "huggingface": ("layer.0.norm1.weight", "layer_scale1.lambda1"),
}
"""Ends of names that are together in every file of the layout."""

_MEMORY_OF: dict[Generation, Rules] = {
    3: ((r"^model\.layer\.", "layer."),),
    2: (
        (r"(?<=\d\.)attention\.q_proj\.", "attention.attention.query."),
        (r"(?<=\d\.)attention\.k_proj\.", "attention.attention.key."),
        (r"(?<=\d\.)attention\.v_proj\.", "attention.attention.value."),
        (r"(?<=\d\.)attention\.o_proj\.", "attention.output.dense."),
    ),
}
"""From names that transformers has in memory to those of the hub."""

_HUGGINGFACE: dict[Generation, Rules] = {
    3: ((r"^blocks\.", "layer."),),
    2: (
        *_MEMORY_OF[2],
        (r"^blocks\.", "encoder.layer."),
        (r"^norm\.", "layernorm."),
        (r"\.mlp\.up_proj\.", ".mlp.fc1."),
        (r"\.mlp\.down_proj\.", ".mlp.fc2."),
    ),
}
"""From our names to those of the hub."""

_OFFICIAL: dict[Generation, Rules] = {
    generation: (
        (r"^embeddings\.register_tokens$", "storage_tokens" if generation == 3 else "register_tokens"),
        (r"^embeddings\.position_embeddings$", "pos_embed"),
        (r"^embeddings\.patch_embeddings\.(?:projection\.)?", "patch_embed.proj."),
        (r"^embeddings\.", ""),
        (r"\.attention\.o_proj\.", ".attn.proj."),
        (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
        (r"\.mlp\.up_proj\.", ".mlp.fc1."),
        (r"\.mlp\.down_proj\.", ".mlp.fc2."),
    )
    for generation in (2, 3)
}
"""From our names to the official ones, but for queries, keys and values, which are one matrix there."""

_PARTS = ("q_proj", "k_proj", "v_proj")


def dino_layout(names: Iterable[str]) -> Layout | None:
    """Return the layout of a DINO checkpoint with these names; None if it is of anything else."""
    names = list(names)
    for layout, marks in _MARKS.items():
        if all(any(name.endswith(mark) for name in names) for mark in marks):
            inside = layout == "official" and any(name.startswith(_PREFIXES) for name in names)
            return "scaleevent" if inside else layout
    return None


def generation_of(names: Iterable[str]) -> Generation:
    """Return 2 for names with a table of positions, which DINOv3 has not, and else 3."""
    return 2 if any(name.endswith(("pos_embed", "position_embeddings")) for name in names) else 3


def bare_names(names: Iterable[str], layout: Layout) -> dict[str, str]:
    """Return the names in the file by those that they stand for: no prefix, and the hub's, not transformers' own.

    Raises:
        CheckpointError: Some names are without the prefix of the others, or two stand for one.
    """
    names = list(names)
    if layout == "scaleevent":
        prefix = next(prefix for prefix in _PREFIXES if any(name.startswith(prefix) for name in names))
        if others := [name for name in names if not name.startswith(prefix)]:
            raise CheckpointError(
                f"expected every key to begin with {prefix!r}, as in the encoders of ScaleEvent, but {len(others)} do "
                f"not: {few(others)}"
            )
        return {name.removeprefix(prefix): name for name in names}
    rules = _MEMORY_OF[generation_of(names)] if layout == "huggingface" else ()
    bare = {_renamed(name, rules): name for name in names}
    if len(bare) != len(names):
        raise CheckpointError(f"keys that stand for one weight: {few(sorted(set(names) - set(bare.values())))}")
    return bare


def to_huggingface(state: Mapping[str, Tensor], generation: Generation) -> StateDict:
    """Return our `state` under the names of the hub."""
    return {_renamed(key, _HUGGINGFACE[generation]): value for key, value in state.items()}


def from_huggingface(state: Mapping[str, Tensor], ours: Mapping[str, Tensor], generation: Generation) -> StateDict:
    """Return what `to_huggingface` made `state` of; `ours` has our names, in their order."""
    return {key: state[_renamed(key, _HUGGINGFACE[generation])] for key in ours}


def to_official(state: Mapping[str, Tensor], generation: Generation, head_dim: int) -> StateDict:
    """Return our `state` as official files hold it, with the tables that DINOv3 has beside its weights.

    DINOv3 has no bias of keys: the place for it holds zeros, which a mask hides once more.
    """
    official: StateDict = {}
    for key, value in state.items():
        if not key.endswith(tuple(f".{part}.{kind}" for part in _PARTS for kind in ("weight", "bias"))):
            official[_renamed(key, _OFFICIAL[generation])] = value
        elif key.endswith(".q_proj.weight"):
            stem = key.removesuffix("q_proj.weight")
            to = stem.replace(".attention.", ".attn.") + "qkv."
            bias = state[f"{stem}q_proj.bias"]
            parts = [state.get(f"{stem}{part}.bias", torch.zeros_like(bias)) for part in _PARTS]
            official[f"{to}weight"] = torch.cat([state[f"{stem}{part}.weight"] for part in _PARTS])
            official[f"{to}bias"] = torch.cat(parts)
            if generation == 3:
                official[f"{to}bias_mask"] = bias_mask(len(bias)).to(bias)
    official["mask_token"] = official["mask_token"].flatten(0, -2)
    if generation == 3:
        official["rope_embed.periods"] = rope_periods(head_dim).to(official["cls_token"].device)
    return official


def from_official(state: Mapping[str, Tensor], ours: Mapping[str, Tensor], generation: Generation) -> StateDict:
    """Return what `to_official` made `state` of; `ours` has our names, in their order, and our shapes."""
    found: StateDict = {}
    for key, like in ours.items():
        *stem, part, kind = key.rsplit(".", 2)
        if part in _PARTS:
            whole = state[f"{stem[0].removesuffix('attention')}attn.qkv.{kind}"]
            found[key] = whole.chunk(3)[_PARTS.index(part)]
        else:
            found[key] = state[_renamed(key, _OFFICIAL[generation])].reshape(like.shape)
    return found


def bias_mask(dim: int) -> Tensor:
    """Return the mask (3 dim,) of the biases of queries, keys and values: those of keys do not count in DINOv3."""
    return torch.tensor([1.0, 0.0, 1.0]).repeat_interleave(dim)


def rope_periods(head_dim: int) -> Tensor:
    """Return the periods (head_dim / 4,) of DINOv3's positions, in units of half the picture."""
    count = head_dim // 4
    return ROPE_BASE ** (torch.arange(count) / count)


def _renamed(key: str, rules: Rules) -> str:
    for pattern, name in rules:
        key = re.sub(pattern, name, key)
    return key
