"""What the tasks with an answer for every pixel have in common: their heads, and inputs and outputs of any size."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from eventfm.config import Config, ConfigError
from eventfm.models.decoders.dpt import DPTHead
from eventfm.models.decoders.fcn import FCNHead
from eventfm.models.decoders.linear import LinearHead
from eventfm.models.decoders.upernet import UPerHead
from eventfm.registry import did_you_mean

DPT_LARGE = {256: (256, 512, 1024, 1024)}
"""Widths of the four scales where they are not 3/4, 3/2, 3 and 6 times the width of merging, as published."""


class DenseHead(Config):
    """The width of a head, and whatever else its builder takes."""

    dim: PositiveInt | None = None
    """Its width; its own usual one where none is given. A linear head has none."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the class in `models.decoders`, such as `dropout` of upernet."""


def build_dense_head(
    name: str, backbone: Any, num_outputs: int, dim: int | None = None, arguments: dict[str, Any] | None = None
) -> nn.Module:
    """Return the head `name`, "linear", "upernet" or "dpt", from the pyramid of `backbone` to `num_outputs` maps.

    Raises:
        ConfigError: An argument that the head does not have.
    """
    arguments = dict(arguments or {})
    dims = backbone.pyramid_dims
    if name == "linear":
        return checked(LinearHead, arguments)(dims, num_outputs, **arguments)
    if dim is not None:
        arguments["dim"] = dim
    if name == "upernet":
        return checked(UPerHead, arguments)(dims, num_outputs, **arguments)
    assert name == "dpt", name
    if dim is not None:
        arguments.setdefault("channels", DPT_LARGE.get(dim, tuple(dim * part // 4 for part in (3, 6, 12, 24))))
    return checked(DPTHead, arguments)(dims, backbone.pyramid_strides, num_outputs, **arguments)


def build_auxiliary(head: str, weight: float, backbone: Any, num_outputs: int) -> nn.Module | None:
    """Return the head that learns beside UPerNet's from the third map, as EventPretrain has it; none for others."""
    if head != "upernet" or weight == 0:
        return None
    return FCNHead(backbone.pyramid_dims[2], num_outputs)


def checked(builder: Callable[..., nn.Module], arguments: dict[str, Any]) -> Callable[..., nn.Module]:
    """Return `builder`, which knows all `arguments`.

    Raises:
        ConfigError: It does not; the message names the nearest.
    """
    known = list(inspect.signature(builder).parameters)
    for key in arguments:
        if key not in known:
            raise ConfigError(f"unknown key 'task.head.arguments.{key}'{did_you_mean(key, known)}")
    return builder


def padded(x: Tensor, stride: int) -> Tensor:
    """Return `x` (B, C, H, W) with zeros, hence no events, at the right and below, up to multiples of `stride`."""
    height, width = x.shape[2:]
    return functional.pad(x, (0, -width % stride, 0, -height % stride))


def at_input(maps: Tensor, x: Tensor, size: tuple[int, int]) -> Tensor:
    """Return `maps` (B, K, h, w), which cover the padded input `x`, float32 at the pixels of the input of `size`."""
    maps = maps.float()
    if maps.shape[2:] != x.shape[2:]:
        maps = functional.interpolate(maps, x.shape[2:], mode="bilinear", align_corners=False)
    return maps[:, :, : size[0], : size[1]]
