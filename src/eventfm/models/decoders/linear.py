"""The linear probe of dense features."""

from __future__ import annotations

from torch import Tensor, nn

from eventfm.models.batch_norm import BatchNorm


class LinearHead(nn.Module):
    """Batch norm and one linear layer on every cell of the coarsest map, the last of the pyramid.

    The norm makes the maps of different backbones comparable under one learning rate; in evaluation both layers are
    one linear map.
    """

    def __init__(self, in_dims: tuple[int, ...], num_outputs: int) -> None:
        super().__init__()
        self.norm = BatchNorm(in_dims[-1])
        self.predict = nn.Conv2d(in_dims[-1], num_outputs, 1)

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        """Return (B, num_outputs, H, W) at the size of the last of the maps (B, in_dims[i], H_i, W_i)."""
        coarsest, dim = pyramid[-1], self.predict.in_channels
        if coarsest.shape[1] != dim:
            raise ValueError(f"expected a last map of {dim} channels, got shape {tuple(coarsest.shape)}")
        return self.predict(self.norm(coarsest.movedim(1, -1)).movedim(-1, 1))
