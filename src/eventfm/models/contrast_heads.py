"""Heads of contrastive learning: from student tokens to queries, from teacher tokens to keys."""

from __future__ import annotations

from torch import Tensor, nn

from eventfm.models.batch_norm import BatchNorm
from eventfm.models.layers import init_linear


class Projector(nn.Module):
    """Three linear layers, each batch-normalised over batch and positions, the last without scale (EventPretrain)."""

    def __init__(self, dim: int, hidden_dim: int = 4096) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim, hidden_dim, bias=False),
            BatchNorm(hidden_dim),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_dim, hidden_dim, bias=False),
            BatchNorm(hidden_dim),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_dim, dim, bias=False),
            BatchNorm(dim, affine=False),
        )
        self.apply(init_linear)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (..., dim) of `tokens` (..., dim)."""
        return self.layers(tokens)

    def shard_units(self) -> list[nn.Module]:
        """Return the linear layers, which hold nearly all parameters."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]


class Predictor(nn.Module):
    """Two linear layers, each batch-normalised over batch and positions, the last without scale (EventPretrain)."""

    def __init__(self, dim: int, hidden_dim: int = 4096) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim, hidden_dim, bias=False),
            BatchNorm(hidden_dim),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_dim, dim, bias=False),
            BatchNorm(dim, affine=False),
        )
        self.apply(init_linear)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (..., dim) of `tokens` (..., dim)."""
        return self.layers(tokens)

    def shard_units(self) -> list[nn.Module]:
        """Return the linear layers, which hold nearly all parameters."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]


class TeacherProjection(nn.Module):
    """LayerNorm and a linear map of teacher tokens; `patch` x `patch` of them become one (2 for EventPretrain's Swin).

    As published, the map has a bias only where it joins tokens.
    """

    def __init__(self, teacher_dim: int, dim: int, patch: int = 1) -> None:
        super().__init__()
        self.patch = patch
        self.norm = nn.LayerNorm(teacher_dim)
        self.proj = (
            nn.Linear(teacher_dim, dim, bias=False) if patch == 1 else nn.Conv2d(teacher_dim, dim, patch, stride=patch)
        )
        self.apply(init_linear)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return (B, rows / patch * cols / patch, dim) of `tokens` (B, rows * cols, teacher_dim) over `grid`."""
        tokens = self.norm(tokens)
        if self.patch == 1:
            return self.proj(tokens)
        return self.proj(tokens.transpose(1, 2).unflatten(2, grid)).flatten(2).transpose(1, 2)
