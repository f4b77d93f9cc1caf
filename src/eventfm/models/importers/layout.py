"""Which of our modules an official checkpoint fills, and what it must look like to do so."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from eventfm.models import build_backbone
from eventfm.models.contrast_heads import Predictor, Projector, TeacherProjection
from eventfm.models.decoders.fcn import FCNHead
from eventfm.models.decoders.upernet import UPerHead
from eventfm.models.heads import Classifier
from eventfm.models.importers.files import CheckpointError
from eventfm.models.importers.names import official_name
from eventfm.models.importers.recognition import Kind
from eventfm.models.layers import sincos_positions
from eventfm.models.masked_decoder import MaskedDecoder
from eventfm.models.position_queue import PositionQueue
from eventfm.protocols import Backbone

StateDict = dict[str, Tensor]

IMAGE_SIZE = 224
"""Pixels a side of all official inputs."""

_WINDOW = 7
_DECODER_HEADS = {256: 8, 512: 16}
"""Attention heads leave no trace in the shapes; these are the published ones, by decoder width."""

_STEMS = {
    "vit": "backbone.patch_embed.proj.weight",
    "convvit": "backbone.patch_embed1.proj.weight",
    "swin": "backbone.patch_embed.proj.weight",
}
SIZES = {
    "vit": {384: "vit_small", 768: "vit_base"},
    "convvit": {128: "convvit_small", 256: "convvit_base"},
    "swin": {96: "swin_tiny"},
}
"""Published sizes, by the width of the first stem; Swin-S is as wide as Swin-T and deeper."""
SIZE_NAMES = (*(name for sizes in SIZES.values() for name in sizes.values()), "swin_small")


class Part(NamedTuple):
    """One module of a checkpoint."""

    state: StateDict
    """Its whole state dict, under our names."""
    arguments: dict[str, Any]
    """Arguments of the module that it fits."""


class Shapes:
    """Sizes read off an official state dict; remembers where from, for messages."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.state = state
        self.read: dict[str, tuple[int, ...]] = {}

    def of(self, key: str, *num_axes: int) -> tuple[int, ...]:
        """Return the shape under `key`, which must be there and have one of the numbers of axes."""
        if key not in self.state:
            raise CheckpointError(f"the checkpoint lacks {key!r}, which its sizes are read from")
        shape = tuple(self.state[key].shape)
        if len(shape) not in num_axes:
            raise CheckpointError(f"expected {key!r} to have {' or '.join(map(str, num_axes))} axes, got {shape}")
        self.read[key] = shape
        return shape


def backbone_name(family: str, shapes: Shapes) -> str:
    """Return the registered name of the published size that the shapes are those of.

    Raises:
        CheckpointError: There is none of that width.
    """
    width = shapes.of(_STEMS[family], 4)[0]
    if width not in SIZES[family]:
        raise CheckpointError(
            f"{_STEMS[family]!r} of shape {shapes.read[_STEMS[family]]}: no published {family} is {width} wide there; "
            f"known: {SIZES[family]}"
        )
    deep = re.compile(r"backbone\.swin_block\.2\.blocks\.\d+\.attn\.qkv\.weight")
    if sum(bool(deep.fullmatch(key)) for key in shapes.state) > 12:  # 6 in Swin-T, 18 in Swin-S
        return "swin_small"
    return SIZES[family][width]


def backbone_arguments(kind: Kind, shapes: Shapes) -> dict[str, Any]:
    """Return the arguments that `build_backbone` needs beside the name."""
    arguments: dict[str, Any] = {
        "in_channels": shapes.of(_STEMS[kind.family], 4)[1],
        "image_size": IMAGE_SIZE,
        "fusion": kind.stage == "rec",
    }
    if kind == Kind("convvit", "dense"):
        arguments["extra_level"] = True
    return arguments


def part_arguments(kind: Kind, backbone: Backbone, shapes: Shapes) -> dict[str, dict[str, Any]]:
    """Return the arguments of every part of the checkpoint but the backbone."""
    dim, side = backbone.embed_dim, IMAGE_SIZE // backbone.stride
    match kind.stage:
        case "rec":
            width = shapes.of("pretrain_rec_decoder.patch_embed.weight", 2)[0]
            if width not in _DECODER_HEADS:
                raise CheckpointError(
                    f"'pretrain_rec_decoder.patch_embed.weight' of shape {tuple(shapes.read.values())[-1]}: expected "
                    f"a decoder of width {list(_DECODER_HEADS)}, got {width}"
                )
            sizes = {"dim": width, "depth": 8, "num_heads": _DECODER_HEADS[width]}
            return {
                "decoder": {"in_dim": dim, "patch_values": backbone.stride**2, "grid": (side, side), **sizes},
            }
        case "con":
            projection = shapes.of("clip_emb_proj.weight", 2, 4)
            return {
                "projector": {"dim": dim, "hidden_dim": shapes.of("emb_h_proj.0.weight", 2)[0]},
                "predictor": {"dim": dim, "hidden_dim": shapes.of("emb_h_pred.0.weight", 2)[0]},
                "teacher_projection": {
                    "teacher_dim": shapes.of("norm_clip_emb.weight", 1)[0],
                    "dim": dim,
                    "patch": projection[2] if len(projection) == 4 else 1,
                },
                "queue": {"dim": dim, "num_positions": side * side, "length": shapes.of("queue", 3)[2]},
            }
        case "encoder":
            return {}
        case "classification":
            return {"classifier": {"dim": dim, "num_classes": shapes.of("classify_head.weight", 2)[0]}}
        case "dense":
            outputs = shapes.of("decode_head.conv_dense.weight", 4)[0]
            heads = {
                "segmentation_head": {
                    "in_dims": backbone.pyramid_dims,
                    "num_outputs": outputs,
                    "dim": shapes.of("decode_head.psp_bottleneck.conv_layer.weight", 4)[0],
                },
                "auxiliary_head": {
                    "in_dim": backbone.pyramid_dims[2],
                    "num_outputs": outputs,
                    "dim": shapes.of("auxiliary_head.convs.0.conv_layer.weight", 4)[0],
                },
            }
            return {**heads, "unused_level": {"dim": dim}} if kind.family == "swin" else heads


def build_part(name: str, backbone: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Return a new module for the part `name`; `backbone` is the registered name of the backbone."""
    module = build_backbone(backbone, **arguments) if name == "backbone" else _BUILDERS[name](**arguments)
    assert isinstance(module, nn.Module)
    return module


def expected_weights(family: str, parts: Mapping[str, nn.Module]) -> dict[str, tuple[str, str, Tensor]]:
    """Return, for each official key of the weights of `parts`: part, our key, and the tensor that it must fit."""
    return {
        official_name(family, name, key): (name, key, value)
        for name, module in parts.items()
        for key, value in module.state_dict().items()
    }


def fixed_tables(family: str, weights: Mapping[str, Tensor]) -> StateDict:
    """Return the tables that official checkpoints hold beside `weights`; this project works them out anew."""
    tables: StateDict = {}
    side = _WINDOW if family == "swin" else 2 * _WINDOW
    encoders = {"backbone.pos_embed": "backbone.norm_layer.weight"} if family != "swin" else {}
    for table, norm in {**encoders, "pretrain_rec_decoder.pos_embed": "pretrain_rec_decoder.norm.weight"}.items():
        if norm in weights:
            tables[table] = sincos_positions((side, side), weights[norm].shape[0])[None]
    for key in weights:
        if key.endswith(".relative_position_bias_table"):
            tables[key.replace("_bias_table", "_index")] = relative_positions(_WINDOW)
    return tables


def relative_positions(window: int) -> Tensor:
    """Return which row of the bias table belongs to each pair of cells, (window**2, window**2) int64, raster order.

    Rows are numbered by the difference of rows, then of columns, from the most negative on (Liu et al., ICCV 2021).
    """
    row, col = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    down, right = (axis.reshape(-1, 1) - axis.reshape(1, -1) + window - 1 for axis in (row, col))
    return down * (2 * window - 1) + right


def _unused_level(dim: int) -> nn.Module:
    """Return the level that the official Swin has for dense tasks and never computes."""
    return nn.Sequential(nn.Conv2d(dim, dim, 3), nn.BatchNorm2d(dim))


_BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "decoder": MaskedDecoder,
    "projector": Projector,
    "predictor": Predictor,
    "teacher_projection": TeacherProjection,
    "queue": PositionQueue,
    "classifier": Classifier,
    "segmentation_head": UPerHead,
    "auxiliary_head": FCNHead,
    "unused_level": _unused_level,
}
PARTS = ("backbone", *_BUILDERS)
