"""Dense answers at any resolution: overlapping tiles, blended smoothly."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad


@torch.no_grad()
def tiled(
    function: Callable[[Tensor], Tensor], x: Tensor, tile: tuple[int, int], overlap: int | tuple[int, int]
) -> Tensor:
    """Return what `function` answers for `x` (B, C, H, W), tile by tile: (B, K, H, W), without gradients.

    Tiles are spread evenly, so that neighbours share `overlap` pixels or more. Where they do, the answers are averaged
    with weights that fall from the middle of a tile to its border as a Hann window, and add up to 1 everywhere: a
    pointwise function is itself, and a tile has no visible border. One tile of the whole batch is worked on at a time.
    Averages are taken of what `function` returns: hand in one that gives logits, depths or flow, not classes.

    Args:
        function: From (B, C, h, w) to (B, K, h, w), for the size of a tile.
        x: What to answer for; where it is smaller than a tile, zeros are added on the right and below.
        tile: Height and width of a tile, pixels.
        overlap: Pixels that neighbours share at least, along both axes or (vertically, horizontally).

    Raises:
        ValueError: Sizes that do not fit each other, or an answer of another size than its tile.
    """
    overlaps = (overlap, overlap) if isinstance(overlap, int) else overlap
    for side, shared in zip(tile, overlaps, strict=True):
        if not 0 <= shared < side:
            raise ValueError(f"expected an overlap from 0 to less than the tile's {side} pixels, got {shared}")
    if x.ndim != 4 or not x.numel():
        raise ValueError(f"expected an input (B, C, H, W) that is not empty, got shape {tuple(x.shape)}")
    height, width = x.shape[2:]
    rows, columns = max(height, tile[0]), max(width, tile[1])
    if (rows, columns) != (height, width):
        x = pad(x, (0, columns - width, 0, rows - height))
    out: Tensor | None = None
    for top, down in _placed(rows, tile[0], overlaps[0]):
        for left, across in _placed(columns, tile[1], overlaps[1]):
            answer = function(x[:, :, top : top + tile[0], left : left + tile[1]])
            if answer.ndim != 4 or tuple(answer.shape[2:]) != tuple(tile) or not answer.is_floating_point():
                raise ValueError(
                    f"expected an answer of floats (B, K, {tile[0]}, {tile[1]}) for a tile, got {answer.dtype} of "
                    f"shape {tuple(answer.shape)}"
                )
            kind = torch.promote_types(answer.dtype, torch.float32)
            if out is None:
                out = torch.zeros((*answer.shape[:2], rows, columns), dtype=kind, device=answer.device)
            weight = torch.from_numpy(down[:, None] * across).to(kind).to(answer.device)
            out[:, :, top : top + tile[0], left : left + tile[1]] += weight * answer
    assert out is not None
    return out[:, :, :height, :width].to(answer.dtype)


def _placed(length: int, tile: int, overlap: int) -> list[tuple[int, NDArray[np.float64]]]:
    """Return where each tile starts along an axis, and its weights (tile,); those of all tiles add up to 1."""
    number = 1 + math.ceil((length - tile) / (tile - overlap))
    starts = [round(i * (length - tile) / max(number - 1, 1)) for i in range(number)]
    window = np.sin(np.pi * (np.arange(tile) + 0.5) / tile) ** 2
    total = np.zeros(length)
    for start in starts:
        total[start : start + tile] += window
    return [(start, window / total[start : start + tile]) for start in starts]
