"""The plain vision transformer of EventPretrain: no class token, fixed positions, a normed stem."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eventfm.models.layers import Block, PatchEmbed, Positions, init_linear
from eventfm.models.masking import take_units
from eventfm.models.queries import run_with_queries
from eventfm.protocols import Features

Size = int | tuple[int, int]


class ViT(nn.Module):
    """Vision transformer over patches (EventPretrain, ACM MM 2025, `vit`; with 12 heads at 384 wide).

    `fused_blocks` are the blocks, counted from 1, whose outputs are added in the masked forward. By default they
    are those nearest to depth / 6, depth / 3 and depth: 2, 4 and 12 of 12. The dense taps are those nearest to
    depth / 3, depth / 2, 2 depth / 3 and depth: 4, 6, 8 and 12 of 12. Without `fusion` the masked forward gives the
    last block alone.

    Inputs may have any size whose sides are multiples of the patch; `image_size` (H, W) is only what positions are
    kept ready for.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: Size,
        patch_size: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        fused_blocks: tuple[int, ...] | None = None,
        drop_path: float = 0.0,
        fusion: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.embed_dim = embed_dim
        self.pyramid_dims = (embed_dim,) * 4
        self.stride = patch_size
        self.pyramid_strides = (patch_size,) * 4
        fused = fused_blocks or dict.fromkeys(_nearest_blocks(depth, (1 / 6, 1 / 3, 1)))
        self.fused_blocks = tuple(fused) if fusion else (depth,)
        self.taps = _nearest_blocks(depth, (1 / 3, 1 / 2, 2 / 3, 1))
        if not all(1 <= block <= depth for block in self.fused_blocks):
            raise ValueError(f"expected fused blocks between 1 and {depth}, got {self.fused_blocks}")
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.patch_embed = PatchEmbed(in_channels, embed_dim, patch_size)
        self.positions = Positions(self._grid_of(height, width), embed_dim)
        rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads, mlp_ratio, rate) for rate in rates)
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.apply(init_linear)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Features:
        """Return features of `x` (B, C, H, W).

        Without `keep`, all N tokens of the last block, normed. With `keep` (B, K) int64, only those patches are
        seen; the outputs of the fused blocks are added and normed, tokens in the order of `keep`.
        """
        tokens, grid = self._embed(x, keep)
        if keep is None:
            for block in self.blocks:
                tokens = block(tokens)
            return Features(self.norm(tokens), None, grid)
        outputs = self._outputs(tokens, self.fused_blocks)
        return Features(self.norm(torch.stack(outputs).sum(dim=0)), None, grid)

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """Return the outputs of the four tapped blocks as maps (B, D, rows, cols), not normed, shallowest first."""
        tokens, grid = self._embed(x)
        return [tap.transpose(1, 2).unflatten(2, grid) for tap in self._outputs(tokens, self.taps)]

    def with_queries(self, x: Tensor, queries: Tensor, last: int) -> tuple[Tensor, Tensor, tuple[int, int]]:
        """Return normed queries (B, Q, D), tokens (B, N, D) and the grid; `queries` (Q, D) join the last `last` blocks.

        Queries have no place on the grid: positions are those of the patches alone.

        Raises:
            ValueError: There are not as many blocks, or the queries are of another width.
        """
        tokens, grid = self._embed(x)
        tokens = self.norm(run_with_queries(self.blocks, tokens, queries, last))
        return tokens[:, : len(queries)], tokens[:, len(queries) :], grid

    def shard_units(self) -> list[nn.Module]:
        """Return the transformer blocks."""
        return list(self.blocks)

    def layers(self) -> list[list[str]]:
        """Return prefixes of parameter names: the patches, then each block."""
        return [["patch_embed."], *([f"blocks.{i}."] for i in range(len(self.blocks)))]

    def _embed(self, x: Tensor, keep: Tensor | None = None) -> tuple[Tensor, tuple[int, int]]:
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"expected an input (B, {self.in_channels}, H, W), got {tuple(x.shape)}")
        grid = self._grid_of(*x.shape[2:])
        positions = self.positions(grid)
        if keep is None:
            return self.patch_embed(x) + positions, grid
        patches = take_units(x, keep, self.stride)
        return self.patch_embed(patches.flatten(0, 1)).view(*keep.shape, -1) + positions[keep], grid

    def _outputs(self, tokens: Tensor, numbers: tuple[int, ...]) -> list[Tensor]:
        """Return the tokens after each of the blocks `numbers` (from 1, in rising order, repeats allowed)."""
        after = [tokens]
        for block in self.blocks:
            after.append(block(after[-1]))
        return [after[number] for number in numbers]

    def _grid_of(self, height: int, width: int) -> tuple[int, int]:
        if height < self.stride or width < self.stride or height % self.stride or width % self.stride:
            raise ValueError(f"expected sides that are multiples of the patch of {self.stride}, got {height}x{width}")
        return height // self.stride, width // self.stride


def vit_nano(
    in_channels: int, image_size: Size, *, patch_size: int = 8, drop_path: float = 0.0, fusion: bool = True
) -> ViT:
    """Return a ViT of 64 channels, 2 blocks and 2 heads, for tests and first looks."""
    return ViT(in_channels, image_size, patch_size, 64, depth=2, num_heads=2, drop_path=drop_path, fusion=fusion)


def vit_tiny(
    in_channels: int, image_size: Size, *, patch_size: int = 8, drop_path: float = 0.0, fusion: bool = True
) -> ViT:
    """Return a ViT of 192 channels, 6 blocks and 6 heads, for small sensors and small machines."""
    return ViT(in_channels, image_size, patch_size, 192, depth=6, num_heads=6, drop_path=drop_path, fusion=fusion)


def vit_small(
    in_channels: int, image_size: Size, *, patch_size: int = 16, drop_path: float = 0.0, fusion: bool = True
) -> ViT:
    """Return a ViT of 384 channels, 12 blocks and 12 heads, as published."""
    return ViT(in_channels, image_size, patch_size, 384, depth=12, num_heads=12, drop_path=drop_path, fusion=fusion)


def vit_base(
    in_channels: int, image_size: Size, *, patch_size: int = 16, drop_path: float = 0.0, fusion: bool = True
) -> ViT:
    """Return a ViT of 768 channels, 12 blocks and 12 heads, as published."""
    return ViT(in_channels, image_size, patch_size, 768, depth=12, num_heads=12, drop_path=drop_path, fusion=fusion)


def _nearest_blocks(depth: int, parts: tuple[float, ...]) -> tuple[int, ...]:
    """Return the blocks, from 1, nearest to the given parts of the depth; a half rounds up."""
    return tuple(max(1, int(depth * part + 0.5)) for part in parts)
