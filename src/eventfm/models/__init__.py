"""Networks, and the files they are kept in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventfm.registry import Registry, did_you_mean

if TYPE_CHECKING:
    from eventfm.protocols import Backbone

BACKBONES = Registry(
    "backbone",
    {
        "vit_nano": "eventfm.models.vit:vit_nano",
        "vit_tiny": "eventfm.models.vit:vit_tiny",
        "vit_small": "eventfm.models.vit:vit_small",
        "vit_base": "eventfm.models.vit:vit_base",
        "convvit_nano": "eventfm.models.convvit:convvit_nano",
        "convvit_tiny": "eventfm.models.convvit:convvit_tiny",
        "convvit_small": "eventfm.models.convvit:convvit_small",
        "convvit_base": "eventfm.models.convvit:convvit_base",
        "swin_nano": "eventfm.models.swin:swin_nano",
        "swin_tiny": "eventfm.models.swin:swin_tiny",
        "swin_small": "eventfm.models.swin:swin_small",
        "dinov3_nano": "eventfm.models.dino_sizes:dinov3_nano",
        "dinov3_small": "eventfm.models.dino_sizes:dinov3_small",
        "dinov3_base": "eventfm.models.dino_sizes:dinov3_base",
        "dinov3_large": "eventfm.models.dino_sizes:dinov3_large",
        "dinov2_nano": "eventfm.models.dino_sizes:dinov2_nano",
        "dinov2_small": "eventfm.models.dino_sizes:dinov2_small",
        "dinov2_base": "eventfm.models.dino_sizes:dinov2_base",
        "dinov2_large": "eventfm.models.dino_sizes:dinov2_large",
    },
)

__all__ = ["BACKBONES", "build_backbone"]


def build_backbone(name: str, in_channels: int, image_size: int | tuple[int, int], **arguments: Any) -> Backbone:
    """Return a new backbone, an `nn.Module`, for inputs (B, in_channels, H, W) of `image_size` (H, W) pixels.

    Raises:
        UnknownNameError: No backbone of that name.
        ValueError: An argument that the backbone does not have, or a value that it refuses.
    """
    import inspect

    builder = BACKBONES.get(name)
    known = [key for key in inspect.signature(builder).parameters if key not in ("in_channels", "image_size")]
    for key in arguments:
        if key not in known:
            raise ValueError(f"unknown argument {key!r} of backbone {name!r}{did_you_mean(key, known)}")
    backbone: Backbone = builder(in_channels, image_size, **arguments)
    return backbone
