"""What EventPretrain calls our parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from eventfm.models.importers.files import CheckpointError

Rules = tuple[tuple[str, str], ...]

_HEAD = ((r"\.conv\.(\w+)$", r".conv_layer.\1"), (r"\.norm\.(\w+)$", r".norm_layer.\1"))
"""Names inside the layers of the dense heads."""

_PARTS: dict[str, Rules] = {
    "decoder": (
        (r"^embed\.", "patch_embed."),
        (r"^blocks\.", "vit_block."),
        (r"^predict\.", "pred."),
        (r"^", "pretrain_rec_decoder."),
    ),
    "projector": ((r"^layers\.", "emb_h_proj."),),
    "predictor": ((r"^layers\.", "emb_h_pred."),),
    "teacher_projection": ((r"^norm\.", "norm_clip_emb."), (r"^proj\.", "clip_emb_proj.")),
    "queue": ((r"^entries$", "queue"), (r"^pointer$", "queue_ptr")),
    "classifier": ((r"^linear\.", "classify_head."),),
    "segmentation_head": (
        (r"^pools\.(\d+)\.", r"psp_modules.\1.1."),
        (r"^pooled\.", "psp_bottleneck."),
        (r"^laterals\.", "lateral_convs."),
        (r"^smooths\.", "fpn_convs."),
        (r"^fuse\.", "fpn_bottleneck."),
        (r"^predict\.", "conv_dense."),
        *_HEAD,
        (r"^", "decode_head."),
    ),
    "auxiliary_head": (
        (r"^conv\.(conv|norm)\.", r"convs.0.\1."),
        (r"^predict\.", "conv_dense."),
        *_HEAD,
        (r"^", "auxiliary_head."),
    ),
    "unused_level": ((r"^", "backbone.fpn."),),
}

_BACKBONES: dict[str, Rules] = {
    "vit": ((r"^blocks\.", "vit_block."), (r"^norm\.", "norm_layer."), (r"^", "backbone.")),
    "convvit": (
        (r"^stems\.0\.", "patch_embed1."),
        (r"^stems\.1\.", "patch_embed2."),
        (r"^stems\.2\.", "patch_embed3."),
        (r"^to_tokens\.", "patch_embed4."),
        (r"^stages\.(\d+\.\d+)\.depthwise\.", r"stages.\1.attn."),
        (r"^stages\.0\.", "conv_block1."),
        (r"^stages\.1\.", "conv_block2."),
        (r"^blocks\.", "vit_block."),
        (r"^norm\.", "norm_layer."),
        (r"^fusion\.0\.", "stage1_output_decode."),
        (r"^fusion\.1\.", "stage2_output_decode."),
        (r"^extra_level\.", "fpn."),
        (r"^", "backbone."),
    ),
    "swin": (
        (r"^stages\.(\d+)\.merge\.", r"swin_block.\1.downsample."),
        (r"^stages\.", "swin_block."),
        (r"\.position_bias$", ".relative_position_bias_table"),
        (r"^norm\.", "norm_layer."),
        (r"^fusion\.0\.", "stage1_output_decode."),
        (r"^fusion\.1\.", "stage2_output_decode."),
        (r"^fusion\.2\.", "stage3_output_decode."),
        (r"^", "backbone."),
    ),
}

FAMILIES = tuple(_BACKBONES)

_ENCODER = re.compile(r"^(?:backbone|pretrain_encoder|finetune_encoder)\.")
_OLDER_NORM = re.compile(r"^backbone\.(?:norm_l_h|norm_h)\.")


def official_name(family: str, part: str, key: str) -> str:
    """Return the official name of our `key` of a part; the rules apply one after another."""
    for pattern, name in _BACKBONES[family] if part == "backbone" else _PARTS[part]:
        key = re.sub(pattern, name, key, count=1)
    return key


def current_names(official: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the key in `official` of each of its present-day names: older files differ in a prefix and a norm's name.

    Raises:
        CheckpointError: Two keys have the same name today.
    """
    names: dict[str, str] = {}
    for key in official:
        name = _OLDER_NORM.sub("backbone.norm_layer.", _ENCODER.sub("backbone.", key, count=1), count=1)
        if name in names:
            raise CheckpointError(f"{names[name]!r} and {key!r} are both what is called {name!r} today")
        names[name] = key
    return names
