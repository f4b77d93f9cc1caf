"""Attention in windows, with a learned bias for relative positions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from eventfm.models.layers import MLP, DropPath
from eventfm.models.sparse_windows import Windows

_UNSEEN = -1e4
"""Added to the logit of a hidden key; its exponential is zero in half precision, too. Finite, because a window
without any token has no maximum otherwise: some kernels then return NaN, which would reach all gradients."""


class WindowAttention(nn.Module):
    """Multi-head self-attention among the tokens of each window (Liu et al., ICCV 2021): (B, T, dim) to (B, T, dim)."""

    def __init__(self, dim: int, num_heads: int, window: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"expected a width that {num_heads} heads divide, got {dim}")
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.position_bias = nn.Parameter(torch.empty((2 * window - 1) ** 2, num_heads))
        nn.init.trunc_normal_(self.position_bias, std=0.02)

    def forward(self, x: Tensor, windows: Windows) -> Tensor:
        """Return the attended tokens (B, T, dim)."""
        count, size = windows.source.shape[1:]
        tokens = functional.pad(x.flatten(0, 1), (0, 0, 0, 1))  # the last row is that of padding
        qkv = self.qkv(tokens).index_select(0, windows.source.flatten())
        qkv = qkv.view(x.shape[0] * count, size, 3, self.num_heads, x.shape[2] // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        bias = self._bias(windows, query)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        mixed = mixed.transpose(1, 2).reshape(-1, x.shape[2])
        return self.proj(mixed.index_select(0, windows.place)).view(x.shape)

    def _bias(self, windows: Windows, like: Tensor) -> Tensor:
        """Return what is added to the logits, (1 or windows of all samples, heads, slots, slots)."""
        bias = self.position_bias[windows.relative].permute(2, 0, 1).to(like.dtype)
        if windows.hidden is None:
            return bias[None]
        bias = bias.masked_fill(windows.hidden.unsqueeze(-3), _UNSEEN)
        return bias.expand(*windows.source.shape[:2], -1, -1, -1).flatten(0, 1)


class WindowBlock(nn.Module):
    """Pre-norm transformer block with attention in windows."""

    def __init__(self, dim: int, num_heads: int, window: int, mlp_ratio: float = 4.0, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = WindowAttention(dim, num_heads, window)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = MLP(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, windows: Windows) -> Tensor:
        """Return tokens (B, T, dim)."""
        x = x + self.drop_path(self.attn(self.norm1(x), windows))
        return x + self.drop_path(self.mlp(self.norm2(x)))
