"""What each family of picture networks takes, and where its patch tokens are."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

Size = tuple[int, int]
Triple = tuple[float, float, float]

IMAGENET: tuple[Triple, Triple] = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP: tuple[Triple, Triple] = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF: tuple[Triple, Triple] = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


class TeacherError(ValueError):
    """Raised when a teacher cannot be loaded, or cannot be asked for patch tokens of pictures."""


@dataclass(frozen=True)
class Family:
    """How the networks of one family are loaded and asked."""

    model: str
    """Class in transformers."""
    normalisation: tuple[Triple, Triple] | None
    """Mean and deviation of the published preprocessing; None where the family has none of its own."""
    ask: Callable[[nn.Module, Tensor], Tensor]
    """Returns all tokens (B, prefix + N, D), or a map (B, D, rows, columns), of normalised pictures (B, 3, H, W)."""
    tokens: str
    """What the tokens are, for the identity."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Arguments of the class."""


def family_of(model_type: str) -> Family:
    """Return the family that transformers calls `model_type`; any network with tokens if it is none of the known."""
    return _FAMILIES.get(model_type, _OTHER)


def own_size(config: Any) -> Size:
    """Return height and width in pixels of the pictures that a network was made for.

    Raises:
        TeacherError: Its config does not say.
    """
    if size := getattr(config, "image_size", None):
        return pair(size)
    if count := getattr(config, "num_patches", None):  # SigLIP 2 with free aspect: a square of that many patches
        side = round(count**0.5)
        patch = pair(config.patch_size)
        return side * patch[0], side * patch[1]
    raise TeacherError(f"{type(config).__name__} does not say how large its pictures are; give input_size")


def patch_tokens(family: Family, model: nn.Module, pixels: Tensor) -> tuple[Tensor, Size, int]:
    """Return the patch tokens (B, rows * columns, D) of normalised `pixels`, their grid, and how many were dropped.

    Class and register tokens stand before those of the patches. Their number is what is left of the patch grid, and
    must be a number that the network can have.

    Raises:
        TeacherError: The tokens do not lie on a grid that can be told.
    """
    out = family.ask(model, pixels)
    if out.ndim == 4:
        return out.flatten(2).transpose(1, 2), (out.shape[2], out.shape[3]), 0
    patch = getattr(model.config, "patch_size", None)
    if out.ndim != 3 or patch is None:
        raise TeacherError(
            f"cannot tell which of the tokens of {type(model).__name__} lie where: expected (B, N, D) with a "
            f"patch_size in its config, or (B, D, rows, columns), got {tuple(out.shape)} and patch_size={patch}"
        )
    rows, columns = (side // step for side, step in zip(pixels.shape[2:], pair(patch), strict=True))
    dropped = out.shape[1] - rows * columns
    possible = _possible_prefixes(model.config)
    if dropped not in possible:
        raise TeacherError(
            f"cannot tell which of the tokens of {type(model).__name__} lie where: a picture of "
            f"{pixels.shape[2]}x{pixels.shape[3]} pixels has {rows}x{columns} patches and {out.shape[1]} tokens, "
            f"expected {' or '.join(str(n) for n in possible)} more than patches"
        )
    return out[:, dropped:], (rows, columns), dropped


def _possible_prefixes(config: Any) -> tuple[int, ...]:
    if (stated := getattr(config, "num_summary_tokens", None)) is not None:  # RADIO
        return (stated,)
    registers = getattr(config, "num_register_tokens", 0)
    # No class token, one, or one and that of DeiT's distillation.
    return (registers, registers + 1, registers + 2)


def _last_hidden_state(model: nn.Module, pixels: Tensor) -> Tensor:
    out: Tensor = model(pixel_values=pixels, **_other_size(model, pixels)).last_hidden_state
    return out


def _clip(model: nn.Module, pixels: Tensor) -> Tensor:
    """Return every token in the space that CLIP shares with text, (B, 1 + N, projection).

    CLIP itself takes its class token there; EventPretrain takes all of them (section 4, stage 2).
    """
    vision: Any = model.vision_model
    hidden = vision(pixel_values=pixels, **_other_size(model, pixels)).last_hidden_state
    out: Tensor = model.visual_projection(vision.post_layernorm(hidden))
    return out


def _siglip2(model: nn.Module, pixels: Tensor) -> Tensor:
    """Return (B, N, D); the network takes patches, with the channel fastest, and the shape of their grid."""
    batch, channels, height, width = pixels.shape
    p, q = pair(model.config.patch_size)
    rows, columns = height // p, width // q
    patches = pixels[:, :, : rows * p, : columns * q].reshape(batch, channels, rows, p, columns, q)
    patches = patches.permute(0, 2, 4, 3, 5, 1).reshape(batch, rows * columns, p * q * channels)
    out: Tensor = model(
        pixel_values=patches,
        pixel_attention_mask=torch.ones(batch, rows * columns, dtype=torch.int64, device=pixels.device),
        spatial_shapes=torch.tensor([[rows, columns]] * batch),  # read on the host
    ).last_hidden_state
    return out


def _other_size(model: nn.Module, pixels: Tensor) -> dict[str, bool]:
    """Return what makes a network interpolate its positions, where it has to be told."""
    size = getattr(model.config, "image_size", None)
    told = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
    return {"interpolate_pos_encoding": True} if told and size and pair(size) != tuple(pixels.shape[2:]) else {}


def pair(value: Any) -> Size:
    """Return (height, width) from one number for both, or from two."""
    if isinstance(value, int):
        return value, value
    first, second = value
    return int(first), int(second)


_LAST = "last_hidden_state"
_CLIP = Family("CLIPVisionModelWithProjection", CLIP, _clip, "visual_projection(post_layernorm(last_hidden_state))")
_SIGLIP = Family("SiglipVisionModel", HALF, _last_hidden_state, _LAST)
_SIGLIP2 = Family("Siglip2VisionModel", HALF, _siglip2, _LAST)
_DINO = Family("AutoModel", IMAGENET, _last_hidden_state, _LAST)
_VIT = Family("ViTModel", HALF, _last_hidden_state, _LAST, {"add_pooling_layer": False})
_SAM = Family("SamVisionModel", IMAGENET, _last_hidden_state, f"{_LAST}, after the neck")
_OTHER = Family("AutoModel", None, _last_hidden_state, _LAST)
_FAMILIES = {
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
    "siglip2": _SIGLIP2,
    "siglip2_vision_model": _SIGLIP2,
    "dinov2": _DINO,
    "dinov2_with_registers": _DINO,
    "dinov3_vit": _DINO,
    "vit": _VIT,
    "sam": _SAM,
    "sam_vision_model": _SAM,
}
