"""Random masks that depend on a sample alone: not on its rank, its batch, or the device."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

EMPTY_ACTIVITY = 1e-3
"""What a unit without any activity counts as beside the sample's mean of 1."""

_GAMMA = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


def uniform(keys: Tensor, n: int) -> Tensor:
    """Return `n` uniforms in [0, 1) for each of `keys` (B,) int64, (B, n) float32, multiples of 2**-24.

    The i-th is made of the upper 24 bits of `splitmix64(splitmix64(key) + i)`, hence the same everywhere.
    """
    counters = _splitmix64(keys)[:, None] + torch.arange(n, device=keys.device)
    return _shift_right(_splitmix64(counters), 40).float() * 2.0**-24


def random_masking(keys: Tensor, num_patches: int, ratio: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the patches to keep, and what undoes their shuffling.

    Of `num_patches` = L independent uniforms per sample, the floor(L (1 - ratio)) smallest say which patches stay
    (He et al., CVPR 2022; EventPretrain, stage 1).

    Returns:
        `ids_keep` (B, K) int64, the visible patches in the order in which the encoder sees them; `ids_restore`
        (B, L) int64, for each patch in raster order its place among visible then masked ones; `mask` (B, L)
        float32, 1 = removed.

    Raises:
        ValueError: The ratio is outside [0, 1), or leaves no patch visible.
    """
    return _keep_lowest(uniform(keys, num_patches), ratio)


def density_masking(
    keys: Tensor, activity: Tensor, ratio: float, order: Literal["density", "anti-density"], noise: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return masks like `random_masking`, which hide the units with most events (or, `anti-density`, with fewest).

    `activity` (B, L) float, 0 or more, is how much happened in each unit. Hidden units are drawn one after the other
    with odds in proportion to activity**(1 / noise), or to its inverse (Gumbel top-k: Kool et al., ICML 2019). With
    `noise` 0 nothing is drawn: the published rule, by which a sample has the same mask in every epoch. Much noise
    leads to uniform masks. A unit without events counts as `EMPTY_ACTIVITY` of the sample's mean, so that empty units
    are drawn by lot as well, in all but the case without noise, where ties go by raster order.

    Raises:
        ValueError: The order is neither, the noise below 0, or the ratio leaves no unit visible.
    """
    if order not in ("density", "anti-density") or noise < 0:
        raise ValueError(f"expected density or anti-density and a noise of at least 0, got {order!r} and {noise}")
    sign = 1 if order == "density" else -1
    if noise == 0:
        return _keep_lowest(sign * activity, ratio)
    activity = activity.double()
    relative = activity / activity.mean(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    draws = uniform(keys, activity.shape[1]).double() + 2.0**-25  # never 0 or 1
    gumbel = -(-draws.log()).log()
    return _keep_lowest(sign * (relative + EMPTY_ACTIVITY).log() + noise * gumbel, ratio)


def take_tokens(tokens: Tensor, ids: Tensor) -> Tensor:
    """Return tokens `ids` (B, K) of `tokens` (B, N, D), (B, K, D)."""
    return tokens.gather(1, ids[:, :, None].expand(-1, -1, tokens.shape[2]))


def take_units(x: Tensor, keep: Tensor, side: int) -> Tensor:
    """Return the squares `keep` (B, K) of `side` pixels a side of `x` (B, C, H, W), (B, K, C, side, side)."""
    units = x.unflatten(3, (-1, side)).unflatten(2, (-1, side))  # (B, C, rows, side, cols, side)
    sample = torch.arange(x.shape[0], device=x.device)[:, None]
    return units[sample, :, keep // units.shape[4], :, keep % units.shape[4]]


def cells_of_units(keep: Tensor, grid: tuple[int, int], side: int) -> Tensor:
    """Return the cells (B, K * side**2) int64 of the units `keep` (B, K), raster numbers both.

    A unit is a square of `side` cells a side of `grid` (rows, cols). Units come in the order of `keep`, the cells of
    one in raster order.
    """
    raster = torch.arange(grid[0] * grid[1], device=keep.device).view(grid)
    return tiles(raster, side, side)[keep].flatten(1)


def tiles(canvas: Tensor, height: int, width: int) -> Tensor:
    """Return `canvas` (rows, cols) cut into tiles, (tiles, height * width), raster order of and in them."""
    tiles = canvas.unflatten(1, (-1, width)).unflatten(0, (-1, height))
    return tiles.transpose(1, 2).reshape(-1, height * width)


def _keep_lowest(score: Tensor, ratio: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `random_masking` says, for scores (B, L) of which the lowest stay, lowest first."""
    num_patches = score.shape[1]
    num_keep = int(num_patches * (1 - ratio) + 1e-6)  # 10 * (1 - 0.9) is a hair below 1
    if not 0 <= ratio < 1 or num_keep < 1:
        raise ValueError(f"expected a mask ratio in [0, 1) that keeps some of {num_patches} patches, got {ratio}")
    ids_shuffle = score.argsort(dim=1, stable=True)
    ids_restore = ids_shuffle.argsort(dim=1)
    return ids_shuffle[:, :num_keep], ids_restore, (ids_restore >= num_keep).float()


def _splitmix64(z: Tensor) -> Tensor:
    """Return `eventfm.random.splitmix64` of int64 counters; the bits are those of the unsigned result."""
    z = z + _signed(_GAMMA)
    z = (z ^ _shift_right(z, 30)) * _signed(_MIX_1)
    z = (z ^ _shift_right(z, 27)) * _signed(_MIX_2)
    return z ^ _shift_right(z, 31)


def _shift_right(z: Tensor, bits: int) -> Tensor:
    """Shift int64 right and fill with zeros, as for unsigned numbers, which torch barely has."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >= 1 << 63 else word
