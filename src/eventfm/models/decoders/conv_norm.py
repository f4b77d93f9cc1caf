"""The convolution, batch norm and ReLU that dense heads are made of."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from eventfm.models.batch_norm import BatchNorm
from eventfm.models.ranks import num_ranks


class ConvNormReLU(nn.Module):
    """Convolution of odd size with bias, batch norm, ReLU: (B, in_dim, H, W) to (B, dim, H, W).

    Statistics are those of the joined batch of all ranks. A channel with one value in all of it has no variance: a
    batch of one picture pooled to one cell, on one rank. Torch refuses it, and its batch statistics would turn every
    input into the bias. Such a map is normalised by the running statistics, in training as in evaluation, and leaves
    them as they are.
    """

    def __init__(self, in_dim: int, dim: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, dim, kernel_size, padding=kernel_size // 2)
        self.norm = BatchNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, dim, H, W)."""
        return functional.relu(self._normed(self.conv(x)))

    def _normed(self, x: Tensor) -> Tensor:
        if self.training and num_ranks() == 1 and x.shape[0] * x.shape[2] * x.shape[3] == 1:
            norm = self.norm
            stored = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
            return functional.batch_norm(x, *stored, training=False, eps=norm.eps)
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)
