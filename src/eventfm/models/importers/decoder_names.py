"""What other projects call the parameters of our dense decoders."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from eventfm.models.decoders.dpt import DPTHead
from eventfm.models.decoders.eomt import EoMTDecoder
from eventfm.models.decoders.fcn import FCNHead
from eventfm.models.decoders.upernet import UPerHead
from eventfm.models.importers.names import Rules, official_name

_NOTHING = r"(?!)"


@dataclass(frozen=True)
class DecoderLayout:
    """How one project names the parameters of one decoder."""

    name: str
    mark: str
    """A name that files of this layout have, and those of no other."""
    rename: Callable[[str], str]
    """From our names to theirs."""
    scope: str
    """Expression of how the decoder's names begin."""
    unread: tuple[str, str] | None = None
    """Beginning of names of layers that theirs has and never reads, and of layers of the same shapes that it reads."""
    no_place: str = _NOTHING
    """Expression of further names that have no place here."""
    no_bias: str = _NOTHING
    """Expression of our names of biases that theirs has not: zero here."""

    def has_no_place(self, name: str) -> bool:
        """Return whether `name` in a file is known to have no place in our decoder."""
        return bool(re.match(self.no_place, name)) or (self.unread is not None and name.startswith(self.unread[0]))


def renamed(rules: Rules, key: str) -> str:
    """Return `key` after all `rules`, one after another."""
    for pattern, name in rules:
        key = re.sub(pattern, name, key)
    return key


_NECK: Rules = (
    (r"^reassemble\.(\d)\.project\.", r"neck.reassemble_stage.layers.\1.projection."),
    (r"^reassemble\.", "neck.reassemble_stage.layers."),
    (r"^convs\.", "neck.convs."),
    (r"(?<=\d)\.lateral\.", ".residual_layer1."),
    (r"(?<=\d)\.refine\.", ".residual_layer2."),
    (r"(?<=\d)\.project\.", ".projection."),
    (r"(?<=\.residual_layer)(\d)\.conv", r"\1.convolution"),
    *((rf"^fusions\.{i}\.", f"neck.fusion_stage.layers.{3 - i}.") for i in range(4)),
)
_NECK_UNREAD = ("neck.fusion_stage.layers.0.residual_layer1.", "neck.fusion_stage.layers.0.residual_layer2.")
_DEPTH_ANYTHING: Rules = (
    (r"^reassemble\.(\d)\.project\.", r"projects.\1."),
    (r"^reassemble\.(\d)\.resize\.", r"resize_layers.\1."),
    (r"(?<=\d)\.lateral\.", ".resConfUnit1."),
    (r"(?<=\d)\.refine\.", ".resConfUnit2."),
    (r"(?<=\d)\.project\.", ".out_conv."),
    *((rf"^convs\.{i}\.", f"scratch.layer{i + 1}_rn.") for i in range(4)),
    *((rf"^fusions\.{i}\.", f"scratch.refinenet{i + 1}.") for i in range(4)),
    (r"^halve\.", "scratch.output_conv1."),
    (r"^refine\.", "scratch.output_conv2.0."),
    (r"^predict\.", "scratch.output_conv2.2."),
    (r"^", "depth_head."),
)
_UPER: Rules = (
    (r"^pools\.(\d+)\.", r"psp_modules.\1.1."),
    (r"^pooled\.", "bottleneck."),
    (r"^laterals\.", "lateral_convs."),
    (r"^smooths\.", "fpn_convs."),
    (r"^fuse\.", "fpn_bottleneck."),
    (r"^predict\.", "classifier."),
    (r"\.norm\.", ".batch_norm."),
    (r"^", "decode_head."),
)
_FCN: Rules = (
    (r"^conv\.", "convs.0."),
    (r"^predict\.", "classifier."),
    (r"\.norm\.", ".batch_norm."),
    (r"^", "auxiliary_head."),
)
_EOMT: Rules = (
    (r"^query_tokens$", "query.weight"),
    (r"^upscale\.", "upscale_block.block."),
    (r"\.norm\.", ".layernorm2d."),
    (r"^mask_head\.0\.", "mask_head.fc1."),
    (r"^mask_head\.2\.", "mask_head.fc2."),
    (r"^mask_head\.4\.", "mask_head.fc3."),
    (r"^class_head\.", "class_predictor."),
)


def _neck(*head: str) -> Callable[[str], str]:
    """Return the renaming to a neck of transformers and a head whose three layers are called `head`."""
    ours = (r"^halve\.", r"^refine\.", r"^predict\.")
    return partial(renamed, (*zip(ours, head, strict=True), *_NECK))


LAYOUTS: dict[type[nn.Module], tuple[DecoderLayout, ...]] = {
    EoMTDecoder: (
        DecoderLayout(
            "huggingface",
            "query.weight",
            partial(renamed, _EOMT),
            r"(query|upscale_block|mask_head|class_predictor)\.",
        ),
        DecoderLayout(
            "official",
            "q.weight",
            partial(renamed, ((r"^query_tokens$", "q.weight"),)),
            r"(q|upscale|mask_head|class_head|transfer)\.",
        ),
        DecoderLayout(
            "lightlytrain",
            "queries.weight",
            partial(renamed, ((r"^query_tokens$", "queries.weight"),)),
            r"(queries|upscale|mask_head|class_head)\.",
        ),
    ),
    DPTHead: (
        DecoderLayout(
            "huggingface",
            "head.conv1.weight",
            _neck("head.conv1.", "head.conv2.", "head.conv3."),
            r"(neck|head)\.",
            _NECK_UNREAD,
        ),
        DecoderLayout(
            "huggingface_dpt",
            "head.head.0.weight",
            _neck("head.head.0.", "head.head.2.", "head.head.4."),
            r"(neck|head)\.",
            _NECK_UNREAD,
            no_place=r"neck\.reassemble_stage\.readout_projects\.",
        ),
        DecoderLayout(
            "official",
            "depth_head.scratch.output_conv1.weight",
            partial(renamed, _DEPTH_ANYTHING),
            r"depth_head\.",
            ("depth_head.scratch.refinenet4.resConfUnit1.", "depth_head.scratch.refinenet4.resConfUnit2."),
        ),
    ),
    UPerHead: (
        DecoderLayout(
            "eventpretrain",
            "decode_head.conv_dense.weight",
            partial(official_name, "vit", "segmentation_head"),
            r"decode_head\.",
        ),
        DecoderLayout(
            "huggingface",
            "decode_head.classifier.weight",
            partial(renamed, _UPER),
            r"decode_head\.",
            no_bias=r"\.conv\.bias$",
        ),
    ),
    FCNHead: (
        DecoderLayout(
            "eventpretrain",
            "auxiliary_head.conv_dense.weight",
            partial(official_name, "vit", "auxiliary_head"),
            r"auxiliary_head\.",
        ),
        DecoderLayout(
            "huggingface",
            "auxiliary_head.classifier.weight",
            partial(renamed, _FCN),
            r"auxiliary_head\.",
            no_bias=r"^conv\.conv\.bias$",
        ),
    ),
}
"""The layouts of each decoder. `official` of the EoMTDecoder is that of EoMT's own files and of ScaleEvent's; of the
DPTHead that of Depth Anything V2's and of ScaleEvent's. `huggingface` are transformers' EoMT of both generations, Depth
Anything and UPerNet; `huggingface_dpt` is its DPT. `lightlytrain` is that of the EoMT that ScaleEvent starts from."""
