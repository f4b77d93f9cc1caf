"""Layers that the transformer backbones and decoders are made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

NO_DECAY = r"(?:^|\.)(?:bias|position_bias|position_embeddings|\w+_tokens?)$|norm\w*\.weight$"
"""Names of the parameters that weight decay leaves alone: biases, of positions as well, norms and learned tokens."""


class Attention(nn.Module):
    """Multi-head self-attention: (B, N, dim) to (B, N, dim)."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"expected a width that {num_heads} heads divide, got {dim}")
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return the attended tokens (B, N, dim)."""
        batch, num_tokens, dim = x.shape
        qkv = self.qkv(x).view(batch, num_tokens, 3, self.num_heads, dim // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(batch, num_tokens, dim))


class MLP(nn.Module):
    """Linear, GELU, Linear on the last axis."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., dim)."""
        return self.fc2(functional.gelu(self.fc1(x)))


class DropPath(nn.Module):
    """Stochastic depth (Huang et al., ECCV 2016): in training, zero a whole sample with probability `rate`."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"expected a drop-path rate of at least 0 and below 1, got {rate}")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` with its kept samples scaled up, so that the expectation is unchanged."""
        if not self.training or self.rate == 0:
            return x
        keep = x.new_empty(x.shape[0], *[1] * (x.ndim - 1)).bernoulli_(1 - self.rate)
        return x * keep / (1 - self.rate)


class Block(nn.Module):
    """Pre-norm transformer block: attention, then MLP, each added to its input."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4.0, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = MLP(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens (B, N, dim)."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class PatchEmbed(nn.Module):
    """Convolution over patches, then LayerNorm and GELU: EventPretrain's stem, not the plain one of ViT."""

    def __init__(self, in_channels: int, dim: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, patch_size, stride=patch_size)
        self.norm = nn.LayerNorm(dim, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """Return one token per patch in raster order, (B, N, dim), of `x` (B, C, H, W)."""
        return functional.gelu(self.norm(patchwise(x.permute(0, 2, 3, 1), self.proj)))


def patchwise(x: Tensor, convolution: nn.Conv2d) -> Tensor:
    """Return what `convolution`, its stride as long as its kernel, says of each patch, (B, N, dim) in raster order.

    `x` is (B, H, W, C), channels last. As one matrix product this costs a fraction of PyTorch's convolution, most of
    all for many small maps, and its gradients even less.
    """
    batch, height, width, channels = x.shape
    rows, cols = convolution.kernel_size
    patches = x.reshape(batch, height // rows, rows, width // cols, cols, channels).transpose(2, 3)
    weight = convolution.weight.permute(0, 2, 3, 1).flatten(1)
    return functional.linear(patches.flatten(3).flatten(1, 2), weight, convolution.bias)


def pointwise(x: Tensor, convolution: nn.Conv2d) -> Tensor:
    """Return what `convolution`, of a kernel of 1, says of each cell of `x` (..., C), channels last."""
    return functional.linear(x, convolution.weight.flatten(1), convolution.bias)


class Positions(nn.Module):
    """Fixed positions of a patch grid, kept ready for one grid and worked out anew for any other."""

    table: Tensor

    def __init__(self, grid: tuple[int, int], dim: int) -> None:
        super().__init__()
        self.grid = grid
        self.dim = dim
        self.register_buffer("table", sincos_positions(grid, dim), persistent=False)

    def forward(self, grid: tuple[int, int]) -> Tensor:
        """Return (rows * cols, dim) in raster order."""
        return self.table if grid == self.grid else sincos_positions(grid, self.dim).to(self.table)


def sincos_positions(grid: tuple[int, int], dim: int) -> Tensor:
    """Return fixed 2-D sine-cosine positions (rows * cols, dim) float32, raster order (He et al., CVPR 2022).

    The first half of the channels encodes the column, the second half the row; each half is a block of sines and a
    block of cosines over `dim / 4` frequencies of base 10000.
    """
    if dim % 4:
        raise ValueError(f"expected a width that is a multiple of 4 for sine-cosine positions, got {dim}")
    rows, cols = grid
    frequencies = 10000.0 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    row, col = torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij")
    angles = [axis.reshape(-1, 1) * frequencies for axis in (col, row)]
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1).float()


def init_linear(module: nn.Module) -> None:
    """Give a Linear layer Xavier-uniform weights and a zero bias; for `nn.Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
