"""Swin transformer whose masked forward computes visible units only, each sample its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eventfm.models.layers import init_linear, patchwise
from eventfm.models.masking import cells_of_units, take_units
from eventfm.models.sparse_windows import Windows, arrange_windows
from eventfm.models.window_attention import WindowBlock
from eventfm.protocols import Features

Size = int | tuple[int, int]

_LEVELS = 4


class Swin(nn.Module):
    """Shifted-window transformer (Liu et al., ICCV 2021), masked as in GreenMIM (Huang et al., NeurIPS 2022).

    Four stages on grids of `patch_size / 8` to `patch_size` pixels a cell, each twice as wide as the one before.
    Every second block rolls the grid by half a window, except on a grid with a side no longer than the window.

    A unit of masking is one cell of the last stage, hence a full square of cells in all stages: its patches, its
    merging and its part in the fusion concern no other unit. Inside, tokens are (B, units, rows, cols, dim); without
    a mask the whole grid is one unit. With `fusion`, the masked forward adds the first three stages, convolved to one
    token per unit, to the last (EventPretrain, ACM MM 2025, `swin`).

    Inputs may have any size whose sides are multiples of the patch; `image_size` (H, W) is only checked for that.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: Size,
        patch_size: int,
        embed_dim: int,
        depths: tuple[int, int, int, int],
        num_heads: tuple[int, int, int, int],
        window: int = 7,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        fusion: bool = True,
    ) -> None:
        super().__init__()
        if patch_size < 8 or patch_size % 8:
            raise ValueError(f"expected a patch of a multiple of 8 pixels, got {patch_size}")
        self.in_channels = in_channels
        self.pyramid_dims = tuple(embed_dim * 2**level for level in range(_LEVELS))
        self.embed_dim = self.pyramid_dims[-1]
        self.stride = patch_size
        self.pyramid_strides = tuple(patch_size // 2 ** (_LEVELS - 1 - level) for level in range(_LEVELS))
        self.window = window
        self._grid_of(*((image_size, image_size) if isinstance(image_size, int) else image_size))
        self.patch_embed = _Patches(in_channels, embed_dim, patch_size // 8)
        rates = iter([drop_path * i / max(sum(depths) - 1, 1) for i in range(sum(depths))])
        self.stages = nn.ModuleList()
        for level, (dim, depth, heads) in enumerate(zip(self.pyramid_dims, depths, num_heads, strict=True)):
            stage = nn.Module()
            stage.blocks = nn.ModuleList(WindowBlock(dim, heads, window, mlp_ratio, next(rates)) for _ in range(depth))
            if level < _LEVELS - 1:
                stage.merge = _Merging(dim)
            self.stages.append(stage)
        self.norm = nn.LayerNorm(self.embed_dim, eps=1e-6)
        self.fusion = None
        if fusion:
            sides = zip(self.pyramid_dims[:-1], (8, 4, 2), strict=True)
            self.fusion = nn.ModuleList(nn.Conv2d(dim, self.embed_dim, side, stride=side) for dim, side in sides)
        self.apply(init_linear)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Features:
        """Return features of `x` (B, C, H, W).

        Without `keep`, all N tokens of the last stage, normed. With `keep` (B, K) int64, only those units are seen;
        the stages' outputs are fused and normed, tokens in the order of `keep`.
        """
        grid = self._checked_grid(x)
        outputs = self._outputs(x, grid, keep)
        tokens = outputs[-1].flatten(1, 3)
        if keep is not None and self.fusion is not None:
            for convolution, units in zip(self.fusion, outputs[:-1], strict=True):
                tokens = tokens + patchwise(units.flatten(0, 1), convolution).view(tokens.shape)
        return Features(self.norm(tokens), None, grid)

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """Return the outputs of the four stages as maps (B, D_i, rows_i, cols_i), not normed, finest first."""
        return [units.squeeze(1).permute(0, 3, 1, 2) for units in self._outputs(x, self._checked_grid(x), None)]

    def shard_units(self) -> list[nn.Module]:
        """Return the transformer blocks of all stages."""
        return [block for stage in self.stages for block in stage.blocks]

    def layers(self) -> list[list[str]]:
        """Return prefixes of parameter names: the patches, then each block; merging goes with the block before it."""
        layers = [["patch_embed."]]
        for s, stage in enumerate(self.stages):
            layers += [[f"stages.{s}.blocks.{b}."] for b in range(len(stage.blocks))]
            if s < _LEVELS - 1:
                layers[-1].append(f"stages.{s}.merge.")
        return layers

    def _outputs(self, x: Tensor, grid: tuple[int, int], keep: Tensor | None) -> list[Tensor]:
        """Return the outputs of the four stages, (B, K, rows, cols, dim); K is 1 without `keep`."""
        units = self.patch_embed(x[:, None] if keep is None else take_units(x, keep, self.stride))
        outputs = []
        for level, stage in enumerate(self.stages):
            cells_per_unit = 2 ** (_LEVELS - 1 - level)
            windows = self._windows((grid[0] * cells_per_unit, grid[1] * cells_per_unit), cells_per_unit, x, keep)
            tokens = units.flatten(1, 3)
            for number, block in enumerate(stage.blocks):
                tokens = block(tokens, windows[number % 2])
            outputs.append(tokens.view(units.shape))
            if level < _LEVELS - 1:
                units = stage.merge(outputs[-1])
        return outputs

    def _windows(self, grid: tuple[int, int], side: int, x: Tensor, keep: Tensor | None) -> tuple[Windows, Windows]:
        """Return the windows of even and of odd blocks on `grid`, with units of `side` cells a side."""
        if keep is None:
            cells = torch.arange(grid[0] * grid[1], device=x.device).expand(x.shape[0], -1)
        else:
            cells = cells_of_units(keep, grid, side)
        plain = arrange_windows(cells, grid, self.window, 0)
        if min(grid) <= self.window:
            return plain, plain
        return plain, arrange_windows(cells, grid, self.window, self.window // 2)

    def _checked_grid(self, x: Tensor) -> tuple[int, int]:
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"expected an input (B, {self.in_channels}, H, W), got {tuple(x.shape)}")
        return self._grid_of(*x.shape[2:])

    def _grid_of(self, height: int, width: int) -> tuple[int, int]:
        if height < self.stride or width < self.stride or height % self.stride or width % self.stride:
            raise ValueError(f"expected sides that are multiples of the patch of {self.stride}, got {height}x{width}")
        return height // self.stride, width // self.stride


class _Patches(nn.Module):
    """Convolution over patches, then LayerNorm: (B, K, C, H, W) to (B, K, rows, cols, dim)."""

    def __init__(self, in_channels: int, dim: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, patch, stride=patch)
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        tokens = patchwise(x.flatten(0, 1).permute(0, 2, 3, 1), self.proj)
        rows, cols = x.shape[3] // self.proj.kernel_size[0], x.shape[4] // self.proj.kernel_size[1]
        return self.norm(tokens).view(*x.shape[:2], rows, cols, -1)


class _Merging(nn.Module):
    """Each 2 x 2 cells become one, of twice the width: (B, K, rows, cols, dim) to (B, K, rows / 2, cols / 2, 2 dim).

    The cells are joined column by column, as in all published weights.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim, eps=1e-6)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        squares = x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))  # (B, K, rows, 2, cols, 2, dim)
        return self.reduction(self.norm(squares.permute(0, 1, 2, 4, 5, 3, 6).flatten(4)))


def swin_nano(
    in_channels: int, image_size: Size, *, patch_size: int = 16, drop_path: float = 0.0, fusion: bool = True
) -> Swin:
    """Return a Swin of 16 to 128 channels and 2 blocks a stage, for tests and first looks."""
    depths, heads = (2, 2, 2, 2), (1, 2, 4, 8)
    return Swin(in_channels, image_size, patch_size, 16, depths, heads, drop_path=drop_path, fusion=fusion)


def swin_tiny(
    in_channels: int, image_size: Size, *, patch_size: int = 32, drop_path: float = 0.0, fusion: bool = True
) -> Swin:
    """Return Swin-T as published: 96 to 768 channels, 12 blocks."""
    depths, heads = (2, 2, 6, 2), (3, 6, 12, 24)
    return Swin(in_channels, image_size, patch_size, 96, depths, heads, drop_path=drop_path, fusion=fusion)


def swin_small(
    in_channels: int, image_size: Size, *, patch_size: int = 32, drop_path: float = 0.0, fusion: bool = True
) -> Swin:
    """Return Swin-S as published: 96 to 768 channels, 24 blocks."""
    depths, heads = (2, 2, 18, 2), (3, 6, 12, 24)
    return Swin(in_channels, image_size, patch_size, 96, depths, heads, drop_path=drop_path, fusion=fusion)
