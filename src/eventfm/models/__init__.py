"""Networks, and the files they are kept in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventfm.registry import Registry, did_you_mean

if TYPE_CHECKING:
    from eventfm.models.encoder import EncoderCard, check_representation, load_encoder, save_encoder
    from eventfm.protocols import Backbone

BACKBONES = Registry(
    "backbone",
    {
        "vit_nano": "eventfm.models.vit:vit_nano",
        "vit_tiny": "eventfm.models.vit:vit_tiny",
        "vit_small": "eventfm.models.vit:vit_small",
        "vit_base": "eventfm.models.vit:vit_base",
    },
)

_PUBLIC = {
    "EncoderCard": "eventfm.models.encoder",
    "check_representation": "eventfm.models.encoder",
    "load_encoder": "eventfm.models.encoder",
    "save_encoder": "eventfm.models.encoder",
}

__all__ = ["BACKBONES", "EncoderCard", "build_backbone", "check_representation", "load_encoder", "save_encoder"]


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


def __getattr__(name: str) -> Any:
    """Import a public name at first use, so that the package itself stays light."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'eventfm.models' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
