"""The auxiliary head: a second, shallow prediction from a middle map, in training only."""

from __future__ import annotations

from torch import Tensor, nn

from eventfm.models.decoders.conv_norm import ConvNormReLU


class FCNHead(nn.Module):
    """One 3x3 convolution and a classifier on one map (Long et al., CVPR 2015; EventPretrain's auxiliary head).

    `level` counts the maps of the pyramid from 0; EventPretrain reads the third.
    """

    def __init__(self, in_dim: int, num_outputs: int, dim: int = 256, level: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        self.level = level
        self.conv = ConvNormReLU(in_dim, dim, 3)
        self.dropout = nn.Dropout2d(dropout)
        self.predict = nn.Conv2d(dim, num_outputs, 1)

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        """Return (B, num_outputs, H, W) at the size of the map that it reads."""
        return self.predict(self.dropout(self.conv(pyramid[self.level])))
