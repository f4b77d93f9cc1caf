"""UPerNet's head: the whole picture pooled at four scales, then a feature pyramid."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from eventfm.models.decoders.conv_norm import ConvNormReLU


class UPerHead(nn.Module):
    """Pyramid pooling on the coarsest map and a top-down path over all (UPerNet: Xiao et al., ECCV 2018).

    The dense head of EventPretrain, for segmentation (`num_outputs` classes) and flow (2). Maps are resized
    bilinearly, corners not aligned: the usual setting of published UPerNets, and the one whose pixels keep their
    places when a picture grows.
    """

    def __init__(
        self,
        in_dims: tuple[int, ...],
        num_outputs: int,
        dim: int = 384,
        pool_scales: tuple[int, ...] = (1, 2, 3, 6),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        *finer, coarsest = in_dims
        self.in_dims = tuple(in_dims)
        self.pool_scales = tuple(pool_scales)
        self.pools = nn.ModuleList(ConvNormReLU(coarsest, dim, 1) for _ in pool_scales)
        self.pooled = ConvNormReLU(coarsest + len(pool_scales) * dim, dim, 3)
        self.laterals = nn.ModuleList(ConvNormReLU(in_dim, dim, 1) for in_dim in finer)
        self.smooths = nn.ModuleList(ConvNormReLU(dim, dim, 3) for _ in finer)
        self.fuse = ConvNormReLU(len(in_dims) * dim, dim, 3)
        self.dropout = nn.Dropout2d(dropout)
        self.predict = nn.Conv2d(dim, num_outputs, 1)

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        """Return (B, num_outputs, H, W) at the size of the first of the maps (B, in_dims[i], H_i, W_i)."""
        if tuple(level.shape[1] for level in pyramid) != self.in_dims:
            raise ValueError(
                f"expected maps of {self.in_dims} channels, got shapes {[tuple(m.shape) for m in pyramid]}"
            )
        *finer, coarsest = pyramid
        below = self._pool(coarsest)
        levels = [below]
        for level, lateral, smooth in reversed(list(zip(finer, self.laterals, self.smooths, strict=True))):
            below = lateral(level) + resize(below, level)
            levels.insert(0, smooth(below))
        fused = self.fuse(torch.cat([resize(level, pyramid[0]) for level in levels], dim=1))
        return self.predict(self.dropout(fused))

    def _pool(self, x: Tensor) -> Tensor:
        pooled = [
            resize(conv(functional.adaptive_avg_pool2d(x, scale)), x)
            for scale, conv in zip(self.pool_scales, self.pools, strict=True)
        ]
        return self.pooled(torch.cat([x, *pooled], dim=1))


def resize(x: Tensor, like: Tensor) -> Tensor:
    """Return `x` (B, C, H, W) at the height and width of the map `like`, bilinearly, corners not aligned."""
    return functional.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)
