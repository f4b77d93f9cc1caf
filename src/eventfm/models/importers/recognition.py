"""What kind of checkpoint a state dict is, from its names alone; one wrong name among many changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args

from eventfm.models.importers.files import CheckpointError

Family = Literal["vit", "convvit", "swin"]
Stage = Literal["rec", "con", "classification", "dense", "encoder"]
"""`rec` is stage 1, `con` stages 2 and 3, which look the same, `dense` segmentation and optical flow, `encoder` a
backbone alone, which the official code does not write but reads."""

STAGES: tuple[Stage, ...] = get_args(Stage)
STAGE_PREFIXES: dict[Stage, tuple[str, ...]] = {
    "rec": ("pretrain_rec_decoder.",),
    "con": ("emb_h_proj.", "emb_h_pred.", "norm_clip_emb.", "clip_emb_proj.", "queue"),
    "classification": ("classify_head.",),
    "dense": ("decode_head.", "auxiliary_head."),
    "encoder": (),
}

_STRANGERS = (
    ("decoder_blocks.", "a masked autoencoder (MAE)"),
    ("blocks.", "a plain ViT, as of timm or DINO, or an encoder of eventfm itself"),
    ("layers.", "a Swin in its own authors' layout"),
    ("module.", "a model wrapped for several GPUs, whose names begin with 'module.'"),
    ("encoder.", "a model of transformers"),
)


class Kind(NamedTuple):
    """Backbone and stage of an official checkpoint."""

    family: Family
    stage: Stage


def recognise(names: Iterable[str]) -> Kind:
    """Return what the present-day official `names` are those of.

    Raises:
        CheckpointError: They are of another project, of a network that was only compared with, or of no stage.
    """
    names = list(names)
    if _count(names, "backbone.") <= len(names) / 10:
        raise CheckpointError(
            f"not an EventPretrain checkpoint: its {len(names)} keys{_resemblance(names)}, while official ones begin "
            f"with 'backbone.' or, in older files, 'pretrain_encoder.' or 'finetune_encoder.'; the first keys are "
            f"{few(names)}"
        )
    family = _family(names)
    counts = {stage: _count(names, *prefixes) for stage, prefixes in STAGE_PREFIXES.items()}
    stage = max(STAGES, key=lambda stage: counts[stage])
    if not counts[stage] and all(name.startswith("backbone.") for name in names):
        return Kind(family, "encoder")
    if not counts[stage]:
        ends = sorted({name for name in names if not name.startswith("backbone.")})
        raise CheckpointError(
            f"a {family} backbone without the head of any stage: expected keys that begin with one of "
            f"{[prefix for prefixes in STAGE_PREFIXES.values() for prefix in prefixes]}, got, beside the backbone, "
            f"{few(ends)}"
        )
    return Kind(family, stage)


def few(keys: Iterable[str]) -> str:
    """Return the first of `keys`, for an error message."""
    keys = list(keys)
    return (", ".join(repr(key) for key in keys[:8]) or "none") + (", ..." if len(keys) > 8 else "")


def _family(names: list[str]) -> Family:
    swin, layers = _count(names, "backbone.swin_block."), _count(names, "backbone.layers.")
    blocks, convolutions = _count(names, "backbone.vit_block."), _count(names, "backbone.conv_block")
    if layers > swin + blocks:
        _refuse_compared("swin_ecddp", names, "backbone.layers.")
    if swin > blocks:
        return "swin"
    if not blocks:
        raise CheckpointError(
            "its backbone is none of vit, convvit and swin: no key begins with 'backbone.vit_block.' or "
            f"'backbone.swin_block.'; the first keys are {few(names)}"
        )
    family: Family = "convvit" if convolutions > 4 else "vit"
    if "backbone.tokens" in names:
        _refuse_compared(f"{family}_ecdp", names, "backbone.tokens")
    for mark in ("backbone.cls_token", "backbone.rel_pos_bias."):
        if _count(names, mark):
            _refuse_compared("vit_mem", names, mark)
    return family


def _refuse_compared(name: str, names: list[str], mark: str) -> None:
    evidence = few(key for key in names if key.startswith(mark))
    raise CheckpointError(
        f"a checkpoint of {name}, by its {evidence}: a network that EventPretrain was compared with and that is not "
        "part of this project; vit, convvit and swin can be imported"
    )


def _resemblance(names: list[str]) -> str:
    for prefix, what in _STRANGERS:
        if _count(names, prefix):
            return f" look like those of {what}"
    return " are of no layout that is known here"


def _count(names: Iterable[str], *prefixes: str) -> int:
    return sum(name.startswith(prefixes) for name in names)
