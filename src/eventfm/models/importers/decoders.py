"""Weights of other projects' dense decoders in ours, and back: EoMT, DPT and Depth Anything, UPerNet and its FCN head.

Strict both ways: each key of a decoder is used, told of, or refused by name. What else such files hold, mostly the
network before the decoder, is not looked at; `import_dino` and `import_eventpretrain` read that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from eventfm.models.importers.decoder_names import LAYOUTS, DecoderLayout
from eventfm.models.importers.files import CheckpointError, read_state
from eventfm.models.importers.pretrained import read_pretrained
from eventfm.models.importers.recognition import few

_WRAPPERS = re.compile(r"^(?:module|network|model)\.")
_LAST_LAYER = re.compile(r"^(?:class_head|predict)\.")
_MAX_TOLD = 8


class LoadedDecoder(NamedTuple):
    """What became of the decoder in a file."""

    layout: str
    """Whose names it has."""
    kept: list[str]
    """Our parameters that are as they were: the last layer, where the file's is of another number of classes, and an
    EoMTDecoder's `transfer`, where the file has none."""
    left_out: list[str]
    """The decoder's keys that have no place in ours: a last layer of another number of classes, layers that their own
    network never reads, and the readouts by which a DPT mixes its class token into the patches."""


def load_decoder(decoder: nn.Module, source: str | Path | Mapping[str, Tensor]) -> LoadedDecoder:
    """Fill `decoder` with the weights of the decoder in a file, and return what did not fit.

    `source` is a `.pth` file, a folder that transformers has saved, a name of its hub, or a state dict. An EoMTDecoder
    takes transformers' EoMT of both generations and the weights of EoMT, LightlyTrain and ScaleEvent; a DPTHead
    transformers' Depth Anything and DPT and the files of Depth Anything V2 and ScaleEvent; a UPerHead and an FCNHead
    EventPretrain's files and transformers' UPerNet. An EoMTDecoder with `dim`, on a narrower backbone than the file's,
    takes the first columns of the file's queries (ScaleEvent).

    Raises:
        CheckpointError: The file cannot be read, has no such decoder, or one with a key too many, too few, or of
            another shape; the message names the keys, and `decoder` is unchanged.
    """
    state = _read(source)
    names = {_WRAPPERS.sub("", key): key for key in state}
    if len(names) < len(state):
        raise CheckpointError(f"keys that stand for one weight: {few(sorted(state.keys() - set(names.values())))}")
    layout = _layout_of(decoder, names)
    weights, faults, used = decoder.state_dict(), [], set()
    report = LoadedDecoder(layout.name, [], [])
    narrows = "transfer.weight" in weights and "transfer.weight" not in names
    for key, like in weights.items():
        theirs = layout.rename(key)
        if re.search(layout.no_bias, key):
            weights[key] = torch.zeros_like(like)
        elif theirs not in names:
            if key.startswith("transfer."):
                report.kept.append(key)
            else:
                faults.append(f"{theirs!r} is missing")
        else:
            used.add(theirs)
            found = state[names[theirs]]
            if key == "query_tokens" and narrows:
                found = found[:, : like.shape[1]]
            if found.shape == like.shape:
                weights[key] = found
            elif _LAST_LAYER.match(key) and found.shape[1:] == like.shape[1:]:
                report.kept.append(key)
                report.left_out.append(names[theirs])
            else:
                faults.append(f"expected {names[theirs]!r} of shape {tuple(like.shape)}, got {tuple(found.shape)}")
    for name in names:
        if re.match(layout.scope, name) and name not in used:
            if layout.has_no_place(name):
                report.left_out.append(names[name])
            else:
                faults.append(f"{names[name]!r} has no place here")
    if faults:
        raise CheckpointError(
            f"the decoder in the file, in the layout {layout.name}, is not quite this {_kind(decoder)}: "
            + "; ".join(faults[:_MAX_TOLD])
            + (f"; and {len(faults) - _MAX_TOLD} more" if len(faults) > _MAX_TOLD else "")
        )
    decoder.load_state_dict(weights)
    return report


def export_decoder(decoder: nn.Module, layout: str) -> dict[str, Tensor]:
    """Return the weights of `decoder` under the names of `layout`, one of those that `LoadedDecoder.layout` tells.

    Layers that networks of that layout have and never read are zero. Tensors are not copied.

    Raises:
        CheckpointError: There is no such layout of this decoder, or it has no place for a parameter.
    """
    layouts = {known.name: known for known in LAYOUTS.get(type(decoder), ())}
    if layout not in layouts:
        raise CheckpointError(f"expected one of the layouts {list(layouts)} of {_kind(decoder)}, got {layout!r}")
    target, exported = layouts[layout], {}
    for key, value in decoder.state_dict().items():
        name = target.rename(key)
        no_bias = re.search(target.no_bias, key)
        if not re.match(target.scope, name) or (no_bias and value.any()):
            raise CheckpointError(f"{layout} has no place for {key!r} of this {_kind(decoder)}; write it as another")
        if no_bias:
            continue
        exported[name] = value
        if target.unread and name.startswith(target.unread[1]):
            exported[target.unread[0] + name.removeprefix(target.unread[1])] = torch.zeros_like(value)
    return exported


def _read(source: str | Path | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    if isinstance(source, Mapping):
        return source
    return read_state(source) if Path(source).is_file() else read_pretrained(source)[0]


def _layout_of(decoder: nn.Module, names: Iterable[str]) -> DecoderLayout:
    names = list(names)
    layouts = LAYOUTS.get(type(decoder), ())
    found = [layout for layout in layouts if layout.mark in names]
    if not layouts:
        raise CheckpointError(
            f"no files are known that hold {_kind(decoder)}; they are for {[kind.__name__ for kind in LAYOUTS]}"
        )
    if len(found) != 1:
        marks = " or ".join(repr(layout.mark) for layout in layouts)
        raise CheckpointError(
            f"not the weights of one {_kind(decoder)}: expected one of the keys {marks}; the first of the "
            f"{len(names)} keys are {few(names)}"
        )
    return found[0]


def _kind(decoder: nn.Module) -> str:
    return type(decoder).__name__
