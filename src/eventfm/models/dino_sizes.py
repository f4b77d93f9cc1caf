"""The sizes of DINOv3 and DINOv2, as they are registered.

`image_size` says nothing to any of them: positions follow the input.
"""

from __future__ import annotations

from typing import NamedTuple

from eventfm.models.dino import DINO, Generation

Size = int | tuple[int, int]

REGISTERS = 4
"""Register tokens of DINOv3, and of DINOv2 where it has any."""


class Dimensions(NamedTuple):
    """What tells one size from another."""

    dim: int
    depth: int
    heads: int
    layer_scale: float = 1e-5
    """What branches are scaled by before any training; small, as published, so that deep networks start shallow."""


SIZES = {
    "nano": Dimensions(64, 2, 2, layer_scale=1.0),
    "small": Dimensions(384, 12, 6),
    "base": Dimensions(768, 12, 12),
    "large": Dimensions(1024, 24, 16),
}


def dinov3_nano(in_channels: int, image_size: Size, *, patch_size: int = 16, drop_path: float = 0.0) -> DINO:
    """Return a DINOv3 of 64 channels, 2 blocks and 2 heads, for tests and first looks."""
    return _build(3, "nano", in_channels, patch_size, REGISTERS, drop_path)


def dinov3_small(in_channels: int, image_size: Size, *, patch_size: int = 16, drop_path: float = 0.0) -> DINO:
    """Return a DINOv3 of 384 channels, 12 blocks and 6 heads: ViT-S."""
    return _build(3, "small", in_channels, patch_size, REGISTERS, drop_path)


def dinov3_base(in_channels: int, image_size: Size, *, patch_size: int = 16, drop_path: float = 0.0) -> DINO:
    """Return a DINOv3 of 768 channels, 12 blocks and 12 heads: ViT-B."""
    return _build(3, "base", in_channels, patch_size, REGISTERS, drop_path)


def dinov3_large(in_channels: int, image_size: Size, *, patch_size: int = 16, drop_path: float = 0.0) -> DINO:
    """Return a DINOv3 of 1024 channels, 24 blocks and 16 heads: ViT-L."""
    return _build(3, "large", in_channels, patch_size, REGISTERS, drop_path)


def dinov2_nano(
    in_channels: int, image_size: Size, *, patch_size: int = 14, registers: int = 0, drop_path: float = 0.0
) -> DINO:
    """Return a DINOv2 of 64 channels, 2 blocks and 2 heads, for tests and first looks."""
    return _build(2, "nano", in_channels, patch_size, registers, drop_path)


def dinov2_small(
    in_channels: int, image_size: Size, *, patch_size: int = 14, registers: int = 0, drop_path: float = 0.0
) -> DINO:
    """Return a DINOv2 of 384 channels, 12 blocks and 6 heads: ViT-S; with `registers`, 4 as published."""
    return _build(2, "small", in_channels, patch_size, registers, drop_path)


def dinov2_base(
    in_channels: int, image_size: Size, *, patch_size: int = 14, registers: int = 0, drop_path: float = 0.0
) -> DINO:
    """Return a DINOv2 of 768 channels, 12 blocks and 12 heads: ViT-B; with `registers`, 4 as published."""
    return _build(2, "base", in_channels, patch_size, registers, drop_path)


def dinov2_large(
    in_channels: int, image_size: Size, *, patch_size: int = 14, registers: int = 0, drop_path: float = 0.0
) -> DINO:
    """Return a DINOv2 of 1024 channels, 24 blocks and 16 heads: ViT-L; with `registers`, 4 as published."""
    return _build(2, "large", in_channels, patch_size, registers, drop_path)


def _build(
    generation: Generation, size: str, in_channels: int, patch_size: int, registers: int, drop_path: float
) -> DINO:
    dim, depth, heads, layer_scale = SIZES[size]
    return DINO(generation, in_channels, patch_size, dim, depth, heads, registers, layer_scale, drop_path)
