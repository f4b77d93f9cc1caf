"""The decoder of masked modelling: visible tokens in, every patch's pixels out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eventfm.models.layers import Block, Positions, init_linear
from eventfm.models.masking import take_tokens


class MaskedDecoder(nn.Module):
    """A small transformer that predicts `patch_values` numbers per patch (He et al., CVPR 2022; EventPretrain stage 1).

    Masked patches enter as one learned token, which starts at zero; fixed positions say which is which. `grid`
    (rows, cols) is what positions are kept ready for.
    """

    def __init__(
        self,
        in_dim: int,
        patch_values: int,
        grid: tuple[int, int],
        dim: int = 256,
        depth: int = 8,
        num_heads: int = 8,
        mlp_ratio: float = 4.0,
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(in_dim, dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.positions = Positions(grid, dim)
        self.blocks = nn.ModuleList(Block(dim, num_heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.predict = nn.Linear(dim, patch_values)
        self.apply(init_linear)

    def forward(self, tokens: Tensor, ids_restore: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return predictions (B, L, patch_values) in raster order over `grid` (rows, cols), L = rows * cols.

        `tokens` (B, K, in_dim) are the visible ones; `ids_restore` (B, L) int64 gives each patch's place among
        visible then masked ones.
        """
        visible = self.embed(tokens)
        num_masked = ids_restore.shape[1] - visible.shape[1]
        masked = self.mask_token.to(visible.dtype).expand(visible.shape[0], num_masked, -1)
        x = take_tokens(torch.cat([visible, masked], dim=1), ids_restore)
        x = x + self.positions(grid)
        for block in self.blocks:
            x = block(x)
        return self.predict(self.norm(x))

    def shard_units(self) -> list[nn.Module]:
        """Return the transformer blocks."""
        return list(self.blocks)
