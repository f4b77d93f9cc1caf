"""Which tokens meet in the windows of a Swin transformer, when only some of its cells are there.

GreenMIM (Huang et al., NeurIPS 2022) lets visible tokens alone through Swin, and packs windows that hold few of them
into groups of one size. Here every window keeps all its slots, and those without a token are hidden from the others:
as exact, and less than the whole saving, since norms, projections and MLPs (nine tenths of Swin-T's sums) still see
visible tokens only, but softmax and its two products see every slot. In return all shapes follow from the sizes of the
input and of the mask alone: nothing waits for the device or is compiled anew, samples may differ in what is masked, and
one table of biases serves all windows.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from eventfm.models.masking import tiles


class Windows(NamedTuple):
    """Where the T tokens of each of B samples stand in W windows of S slots."""

    source: Tensor
    """(B, W, S) int64: the row of each slot's token among B * T flattened tokens; row B * T stands for padding."""
    place: Tensor
    """(B * T,) int64: the slot of each token among all B * W * S."""
    relative: Tensor
    """(S, S) int64: the row of the bias table for each pair of query and key slots."""
    hidden: Tensor | None
    """Broadcasts to (B, W, S, S) bool: true where the query slot must not see the key slot; none where all see all."""


def arrange_windows(cells: Tensor, grid: tuple[int, int], window: int, shift: int) -> Windows:
    """Return the windows of tokens that stand at `cells` (B, T) int64, raster numbers in `grid` (rows, cols).

    The partition is that of the whole grid (Liu et al., ICCV 2021): rolled by `shift` up and to the left, cut into
    windows from the top left, where what was rolled round does not see what was there. A side shorter than the window
    is one window; any other is padded below or to the right, and padding is seen like any token, as in the original.
    """
    rows, cols = grid
    height, width = min(window, rows), min(window, cols)
    raster = torch.arange(rows * cols, device=cells.device).view(grid)
    padded = functional.pad(raster, (0, -cols % width, 0, -rows % height), value=rows * cols)
    cell_of_slot = tiles(padded.roll((-shift, -shift), (0, 1)), height, width)
    slot_of_cell = cell_of_slot.flatten().argsort()[: rows * cols]  # padding has the highest number

    batch, num_tokens = cells.shape
    sample = torch.arange(batch, device=cells.device)[:, None]
    token_of_cell = cells.new_full((batch, rows * cols + 1), -1)
    token_of_cell[:, -1] = batch * num_tokens
    token_of_cell[sample, cells] = torch.arange(batch * num_tokens, device=cells.device).view(cells.shape)
    source = token_of_cell[:, cell_of_slot]
    place = (slot_of_cell[cells] + sample * cell_of_slot.numel()).flatten()

    apart = _rolled_round(padded.shape, height, width, shift, cells.device)
    hidden = apart[None] if shift else None
    if num_tokens < rows * cols:
        empty = source < 0
        # Some token must stand in an empty slot. They take turns, or one row would gather half of all gradients.
        turns = torch.arange(cell_of_slot.numel(), device=cells.device).view(cell_of_slot.shape) % num_tokens
        source = torch.where(empty, turns + sample[:, :, None] * num_tokens, source)
        hidden = empty[:, :, None] | apart
    return Windows(source, place, _relative(height, width, window, cells.device), hidden)


def _rolled_round(size: tuple[int, ...], height: int, width: int, shift: int, device: torch.device) -> Tensor:
    """Return (windows, slots, slots) bool: true for pairs of which one was rolled round a border, and one not."""
    rows, cols = ((torch.arange(side, device=device) >= side - shift).long() for side in size)
    region = tiles(2 * rows[:, None] + cols, height, width)
    return region[:, :, None] != region[:, None, :]


def _relative(height: int, width: int, window: int, device: torch.device) -> Tensor:
    """Return rows (slots, slots) of a table of (2 window - 1)**2 offsets: row and column of query less key."""
    slots = torch.arange(height * width, device=device)
    row, col = slots // width, slots % width
    span = 2 * window - 1
    return (row[:, None] - row + window - 1) * span + col[:, None] - col + window - 1
