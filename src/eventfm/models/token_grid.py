"""A grid of tokens, cropped and flipped as the events were."""

from __future__ import annotations

import torch
from torch import Tensor


def crop_tokens(tokens: Tensor, grid: tuple[int, int], view: Tensor, out_grid: tuple[int, int]) -> Tensor:
    """Return the part of a token grid that `view` shows, (B, rows' * cols', D) float32 over `out_grid` (rows', cols').

    `tokens` (B, rows * cols, D) lie over `grid` (rows, cols) in raster order. `view` (B, 5) is left, top, right and
    bottom of the part, in units of the whole grid's sides, and 1 where the part is flipped left to right.

    Region alignment (He et al., ICCV 2017): an output cell is the mean of bilinear samples at the centres of its
    sub-cells. Along an axis there are as many of these as input cells fall on an output cell, rounded up. Beyond the
    border the outermost tokens go on. A whole view on an equal grid changes nothing.

    Raises:
        ValueError: The number of tokens is not that of `grid`, or `view` is not (B, 5).
    """
    (rows, cols), (out_rows, out_cols) = grid, out_grid
    if tokens.ndim != 3 or tokens.shape[1] != rows * cols:
        raise ValueError(
            f"expected tokens (B, {rows * cols}, D) over a grid of {rows}x{cols}, got {tuple(tokens.shape)}"
        )
    if view.shape != (len(tokens), 5):
        raise ValueError(f"expected a view ({len(tokens)}, 5), got {tuple(view.shape)}")
    left, top, right, bottom, flip = view.float().unbind(1)
    # Bilinear sampling of an upright box is one small matrix per axis. Half precision would blur where nothing moves.
    with torch.autocast(tokens.device.type, enabled=False):
        along_rows = _weights(top, bottom, rows, out_rows)
        along_cols = _weights(left, right, cols, out_cols)
        along_cols = torch.where(flip[:, None, None] > 0.5, along_cols.flip(1), along_cols)
        maps = tokens.float().unflatten(1, grid)
        taken = torch.einsum("bir,brcd->bicd", along_rows, maps)
        return torch.einsum("bjc,bicd->bijd", along_cols, taken).flatten(1, 2)


def _weights(start: Tensor, stop: Tensor, size: int, out_size: int) -> Tensor:
    """Return (B, out_size, size): what each input cell gives to each output cell between `start` and `stop` (B,)."""
    cells = (stop - start) * size / out_size  # input cells on an output cell
    most = -(-size // out_size)
    number = torch.arange(most, device=start.device)
    # Samples differ in how many they take; all have room for the most, so that the host need not know.
    count = (cells - 1e-4).ceil().clamp(1, most)[:, None]
    within = (number + 0.5) / count
    share = (number < count) / count
    places = torch.arange(out_size, device=start.device)[:, None] + within[:, None]  # (B, out_size, most)
    positions = (start * size)[:, None, None] + places * cells[:, None, None] - 0.5
    distances = positions.clamp(0, size - 1)[..., None] - torch.arange(size, device=start.device)
    return ((1 - distances.abs()).clamp(min=0) * share[:, None, :, None]).sum(dim=2)
