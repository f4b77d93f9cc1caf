"""ConvViT: two stages of convolutions, then a transformer; its masked forward computes visible cells only."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from eventfm.models.batch_norm import BatchNorm
from eventfm.models.layers import Block, DropPath, PatchEmbed, Positions, init_linear, patchwise, pointwise
from eventfm.models.masking import cells_of_units, take_units
from eventfm.models.queries import run_with_queries
from eventfm.protocols import Features

Size = int | tuple[int, int]
Dims = tuple[int, int, int]

_SIDES = (4, 2)
"""Cells a side of one unit of masking in the two stages of convolutions."""


class ConvViT(nn.Module):
    """Convolutions on fine grids, attention on the coarse one (EventPretrain, ACM MM 2025, `convvit`; after ConvMAE).

    Two stages of `depths[:2]` convolution blocks on grids of `patch_size / 4` and `patch_size / 2` pixels a cell, then
    `depths[2]` transformer blocks on tokens of `patch_size` pixels; `dims` are the three widths.

    A unit of masking is one token, hence a square of 4 x 4 and 2 x 2 cells in the stages before (block-wise masking:
    Gao et al., NeurIPS 2022). All parts but the depthwise convolution are of one cell or one unit alone, so masked
    cells are never computed; for the depthwise convolution they are zeros on the map. With `fusion`, the masked
    forward adds the outputs of both stages, convolved to one token per unit, to the last block's.

    With `extra_level` the fourth map of the pyramid is a convolution of the third, as published for dense tasks (on
    grids of at least 3 x 3), normalised by the batch of all ranks together; without, its mean over 2 x 2.

    Inputs may have any size whose sides are multiples of the patch; `image_size` (H, W) is only what positions are
    kept ready for.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: Size,
        patch_size: int,
        dims: Dims,
        depths: tuple[int, int, int],
        num_heads: int,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        fusion: bool = True,
        extra_level: bool = False,
    ) -> None:
        super().__init__()
        if patch_size < 4 or patch_size % 4:
            raise ValueError(f"expected a patch of a multiple of 4 pixels, got {patch_size}")
        self.in_channels = in_channels
        self.embed_dim = dims[-1]
        self.pyramid_dims = (*dims, dims[-1])
        self.stride = patch_size
        self.pyramid_strides = (patch_size // 4, patch_size // 2, patch_size, 2 * patch_size)
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        grid = self._grid_of(height, width)
        rates = iter(torch.linspace(0, drop_path, sum(depths), device="cpu").tolist())
        self.stems = nn.ModuleList(
            PatchEmbed(width_in, width_out, patch)
            for width_in, width_out, patch in zip((in_channels, *dims), dims, (patch_size // 4, 2, 2), strict=False)
        )
        self.stages = nn.ModuleList(
            nn.ModuleList(ConvBlock(dim, mlp_ratio, next(rates)) for _ in range(depth))
            for dim, depth in zip(dims, depths[:2], strict=False)
        )
        self.to_tokens = nn.Linear(self.embed_dim, self.embed_dim)
        self.positions = Positions(grid, self.embed_dim)
        self.blocks = nn.ModuleList(Block(self.embed_dim, num_heads, mlp_ratio, next(rates)) for _ in range(depths[2]))
        self.norm = nn.LayerNorm(self.embed_dim, eps=1e-6)
        if fusion:
            self.fusion = nn.ModuleList(
                nn.Conv2d(dim, self.embed_dim, side, stride=side) for dim, side in zip(dims, _SIDES, strict=False)
            )
        if extra_level:
            convolution = nn.Conv2d(self.embed_dim, self.embed_dim, 3, stride=2)
            self.extra_level = nn.Sequential(convolution, BatchNorm(self.embed_dim), nn.GELU())
        self.apply(init_linear)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Features:
        """Return features of `x` (B, C, H, W).

        Without `keep`, all N tokens of the last block, normed. With `keep` (B, K) int64, only those units are seen;
        the levels are fused and normed, tokens in the order of `keep`.
        """
        grid = self._checked_grid(x)
        *stages, tokens = self._levels(x, grid, keep)
        if keep is not None and hasattr(self, "fusion"):
            for convolution, cells in zip(self.fusion, stages, strict=True):
                units = cells.reshape(-1, *convolution.kernel_size, cells.shape[2])
                tokens = tokens + patchwise(units, convolution).view_as(tokens)
        return Features(self.norm(tokens), None, grid)

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """Return four maps (B, D_i, rows, cols), finest first: both stages, the normed tokens, one on half their grid.

        Raises:
            ValueError: With `extra_level`, a grid of fewer than 3 x 3 tokens.
        """
        rows, cols = self._checked_grid(x)
        *stages, tokens = self._levels(x, (rows, cols), None)
        grids = [(rows * side, cols * side) for side in (*_SIDES, 1)]
        levels = [*stages, self.norm(tokens)]
        maps = [level.transpose(1, 2).unflatten(2, size) for level, size in zip(levels, grids, strict=True)]
        if not hasattr(self, "extra_level"):
            return [*maps, functional.avg_pool2d(maps[-1], 2, ceil_mode=True)]
        if min(rows, cols) < 3:
            raise ValueError(f"expected at least 3x3 tokens for the extra level, got {rows}x{cols}")
        convolution, norm, activation = self.extra_level
        normed = norm(convolution(maps[-1]).movedim(1, -1)).movedim(-1, 1)
        return [*maps, activation(normed)]

    def with_queries(self, x: Tensor, queries: Tensor, last: int) -> tuple[Tensor, Tensor, tuple[int, int]]:
        """Return normed queries (B, Q, D), tokens (B, N, D) and the grid; `queries` (Q, D) join the last `last` blocks.

        Queries have no place on the grid: positions are those of the patches alone.

        Raises:
            ValueError: There are not as many blocks, or the queries are of another width.
        """
        grid = self._checked_grid(x)
        *_, tokens = self._before_blocks(x, grid, None)
        tokens = self.norm(run_with_queries(self.blocks, tokens, queries, last))
        return tokens[:, : len(queries)], tokens[:, len(queries) :], grid

    def shard_units(self) -> list[nn.Module]:
        """Return the convolution blocks and the transformer blocks."""
        return [block for stage in self.stages for block in stage] + list(self.blocks)

    def layers(self) -> list[list[str]]:
        """Return prefixes of parameter names: the stems, each stage of convolutions, then each transformer block."""
        stages = [[f"stages.{i}."] for i in range(len(self.stages))]
        return [["stems.", "to_tokens."], *stages, *([f"blocks.{i}."] for i in range(len(self.blocks)))]

    def _levels(self, x: Tensor, grid: tuple[int, int], keep: Tensor | None) -> list[Tensor]:
        """Return the outputs of both stages and of the last block, (B, cells, D_i), not normed.

        Without `keep` cells are in raster order; with it, unit after unit, in the order of `keep`.
        """
        *stages, tokens = self._before_blocks(x, grid, keep)
        for block in self.blocks:
            tokens = block(tokens)
        return [*stages, tokens]

    def _before_blocks(self, x: Tensor, grid: tuple[int, int], keep: Tensor | None) -> Iterator[Tensor]:
        """Yield the outputs of both stages, and what the first transformer block is given."""
        batch = x.shape[0]
        maps = x if keep is None else take_units(x, keep, self.stride).flatten(0, 1)
        for stem, stage, side in zip(self.stems, self.stages, _SIDES, strict=False):
            size = (grid[0] * side, grid[1] * side)
            cells = stem(maps).reshape(batch, -1, stem.proj.out_channels)
            visible = None if keep is None else _rows_of_cells(cells_of_units(keep, size, side), size)
            for block in stage:
                cells = block(cells, size, visible)
            yield cells
            shape = size if keep is None else (side, side)
            maps = cells.reshape(-1, *shape, cells.shape[2]).permute(0, 3, 1, 2)
        tokens = self.to_tokens(self.stems[-1](maps).reshape(batch, -1, self.embed_dim))
        positions = self.positions(grid)
        yield tokens + (positions if keep is None else positions[keep])

    def _checked_grid(self, x: Tensor) -> tuple[int, int]:
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"expected an input (B, {self.in_channels}, H, W), got {tuple(x.shape)}")
        return self._grid_of(*x.shape[2:])

    def _grid_of(self, height: int, width: int) -> tuple[int, int]:
        if height < self.stride or width < self.stride or height % self.stride or width % self.stride:
            raise ValueError(f"expected sides that are multiples of the patch of {self.stride}, got {height}x{width}")
        return height // self.stride, width // self.stride


class ConvBlock(nn.Module):
    """Pre-norm block in which a depthwise 5 x 5 convolution takes the place of attention.

    Cells are (B, N, dim). The 1 x 1 convolutions are kept as such and computed as linear layers.
    """

    def __init__(self, dim: int, mlp_ratio: float = 4.0, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-5)
        self.conv1 = nn.Conv2d(dim, dim, 1)
        self.depthwise = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.conv2 = nn.Conv2d(dim, dim, 1)
        self.norm2 = nn.LayerNorm(dim, eps=1e-5)
        self.mlp = _PointwiseMLP(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, cells: Tensor, size: tuple[int, int], visible: Tensor | None = None) -> Tensor:
        """Return `cells` (B, N, dim) of maps of `size` (H, W).

        Without `visible`, N = H * W in raster order. With it (B * N,) int64, the rows that the cells have in the
        flattened maps of the batch, (B * H * W); all others are zero to the depthwise convolution.
        """
        values = pointwise(self.norm1(cells), self.conv1)
        cells = cells + self.drop_path(pointwise(self._spread(values, size, visible), self.conv2))
        return cells + self.drop_path(self.mlp(self.norm2(cells)))

    def _spread(self, values: Tensor, size: tuple[int, int], visible: Tensor | None) -> Tensor:
        """Return the depthwise convolution of `values` (B, N, dim) at the same cells."""
        batch, _, dim = values.shape
        if visible is not None:
            zeros = values.new_zeros(batch * size[0] * size[1], dim)
            values = zeros.index_copy(0, visible, values.reshape(-1, dim))
        maps = values.reshape(batch, *size, dim).permute(0, 3, 1, 2)
        spread = self.depthwise(maps).permute(0, 2, 3, 1)
        if visible is None:
            return spread.reshape(batch, -1, dim)
        return spread.reshape(-1, dim).index_select(0, visible).view(batch, -1, dim)


class _PointwiseMLP(nn.Module):
    """1 x 1 convolution, GELU, 1 x 1 convolution, channels last."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden_dim, 1)
        self.fc2 = nn.Conv2d(hidden_dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return pointwise(functional.gelu(pointwise(x, self.fc1)), self.fc2)


def convvit_nano(
    in_channels: int,
    image_size: Size,
    *,
    patch_size: int = 16,
    drop_path: float = 0.0,
    fusion: bool = True,
    extra_level: bool = False,
) -> ConvViT:
    """Return a ConvViT of 16, 32 and 64 channels, 1 + 1 + 2 blocks and 2 heads, for tests and first looks."""
    return ConvViT(in_channels, image_size, patch_size, (16, 32, 64), (1, 1, 2), 2, 4.0, drop_path, fusion, extra_level)


def convvit_tiny(
    in_channels: int,
    image_size: Size,
    *,
    patch_size: int = 16,
    drop_path: float = 0.0,
    fusion: bool = True,
    extra_level: bool = False,
) -> ConvViT:
    """Return a ConvViT of 64, 128 and 192 channels, 2 + 2 + 5 blocks and 6 heads, for small sensors and machines."""
    return ConvViT(
        in_channels, image_size, patch_size, (64, 128, 192), (2, 2, 5), 6, 4.0, drop_path, fusion, extra_level
    )


def convvit_small(
    in_channels: int,
    image_size: Size,
    *,
    patch_size: int = 16,
    drop_path: float = 0.0,
    fusion: bool = True,
    extra_level: bool = False,
) -> ConvViT:
    """Return a ConvViT of 128, 256 and 384 channels, 2 + 2 + 11 blocks and 12 heads, as published."""
    return ConvViT(
        in_channels, image_size, patch_size, (128, 256, 384), (2, 2, 11), 12, 4.0, drop_path, fusion, extra_level
    )


def convvit_base(
    in_channels: int,
    image_size: Size,
    *,
    patch_size: int = 16,
    drop_path: float = 0.0,
    fusion: bool = True,
    extra_level: bool = False,
) -> ConvViT:
    """Return a ConvViT of 256, 384 and 768 channels, 2 + 2 + 11 blocks and 12 heads, as published."""
    return ConvViT(
        in_channels, image_size, patch_size, (256, 384, 768), (2, 2, 11), 12, 4.0, drop_path, fusion, extra_level
    )


def _rows_of_cells(cells: Tensor, size: tuple[int, int]) -> Tensor:
    """Return where `cells` (B, N), raster numbers in maps of `size`, are among all the batch's cells, (B * N,)."""
    first = torch.arange(cells.shape[0], device=cells.device)[:, None] * (size[0] * size[1])
    return (cells + first).flatten()
