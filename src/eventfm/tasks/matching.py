"""The head of RAFT on a backbone: the maps of two windows brought to one fine grid, then compared."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from eventfm.models.decoders.raft import RAFTDecoder
from eventfm.tasks.dense import checked

FINEST = 8
"""Pixels a side of a cell on which windows are compared, or as near to it as whole parts of a patch come."""
USUAL_DIM = 128


class Matching(nn.Module):
    """Adds up the maps of a pyramid on a grid of `parts` cells for each patch a side, and lets `decoder` compare them.

    The maps of a plain transformer are too coarse to compare single pixels, and those of a hierarchical one that are
    fine enough have seen little of the picture; the sum has both.
    """

    def __init__(self, in_dims: tuple[int, ...], dim: int, stride: int, parts: int, decoder: nn.Module) -> None:
        super().__init__()
        self.stride = stride
        self.parts = parts
        self.laterals = nn.ModuleList(nn.Conv2d(in_dim, dim, 1) for in_dim in in_dims)
        self.features = nn.Conv2d(dim, dim, 3, padding=1)
        self.context = nn.Conv2d(dim, dim, 3, padding=1)
        self.decoder = decoder

    def forward(self, pyramid: list[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """Return the flow (B, 2, H, W) of each iteration, pixels, between the halves of the batch.

        The `pyramid` is that of the earlier windows and then of the later ones, both of `size` (H, W).
        """
        grid = (size[0] // self.stride * self.parts, size[1] // self.stride * self.parts)
        merged = sum(
            functional.interpolate(lateral(level), grid, mode="bilinear", align_corners=False)
            for lateral, level in zip(self.laterals, pyramid, strict=True)
        )
        merged = functional.gelu(merged)
        first, second = self.features(merged).chunk(2)
        return self.decoder(first, second, self.context(merged.chunk(2)[1]), size)


def build_matching(backbone: Any, dim: int | None, arguments: dict[str, Any]) -> Matching:
    """Return the head for `backbone`, `dim` channels wide, with a decoder that takes further `arguments`.

    Raises:
        ConfigError: An argument that the decoder does not have.
    """
    dim = dim or USUAL_DIM
    parts = max(1, round(backbone.stride / FINEST))
    arguments = {"upscale": max(1, backbone.stride // parts), **arguments}
    decoder = checked(RAFTDecoder, arguments)(dim, **arguments)
    return Matching(backbone.pyramid_dims, dim, backbone.stride, parts, decoder)
