"""What a model's flow or depth is worth on a scene, block by block of its pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from eventfm.evaluation.intervals import Interval, interval, paired_interval
from eventfm.events import Events
from eventfm.tasks.metrics import build_metrics

Align = Literal["none", "median", "scale_shift"]
ALIGNED: dict[str, tuple[Align, ...]] = {"flow": ("none",), "depth": ("median", "scale_shift")}
"""What is made of the answers of each task before they are measured: relative depth has no unit."""
FARTHER = 2.0
"""Depth with scale and shift is not farther than this many times the farthest that there is."""


def sums_of(
    task: str,
    answer: NDArray[np.float32],
    truth: NDArray[np.float32],
    events: Events,
    align: Align,
    block: int,
) -> NDArray[np.float64]:
    """Return what each block of `block` x `block` pixels adds to the figures, (N, S) (`TaskMetrics.per_sample`).

    Args:
        task: `flow` or `depth`.
        answer: (2, H, W) or (H, W), finite.
        truth: The same shape, NaN where unknown.
        events: Those of the window.
        align: What is made of depth first (`aligned`).
        block: Pixels.
    """
    seen = np.zeros(truth.shape[-2:], np.float32)
    seen[events.y, events.x] = 1
    if task == "depth":
        answer, truth = aligned(answer, truth, align)[None], truth[None]
    cut = [torch.from_numpy(blocks(values, block, fill)) for values, fill in ((answer, 0), (truth, np.nan))]
    batch = {task: cut[1], "seen": torch.from_numpy(blocks(seen[None], block, 0))[:, 0]}
    return build_metrics(task).per_sample({task: cut[0]}, batch).double().numpy()


def aligned(depth: NDArray[np.float32], truth: NDArray[np.float32], align: Align) -> NDArray[np.float32]:
    """Return `depth` (H, W) brought to the scale of `truth` (H, W), of which NaN is left out.

    `median`: times the ratio of the medians (Zhou et al., CVPR 2017, section 4.1). `scale_shift`: the inverse of depth
    times a scale plus a shift, by least squares (Ranftl et al., TPAMI 2022, section 5), and not farther than `FARTHER`
    times the farthest that there is. A depth that is the same everywhere becomes the one that fits best.
    """
    known = np.isfinite(truth)
    said, wanted = depth[known].astype(np.float64), truth[known].astype(np.float64)
    if align == "median":
        return (depth * (np.median(wanted) / np.median(said))).astype(np.float32)
    assert align == "scale_shift"
    spread = 1 / said - (1 / said).mean()
    variance = (spread**2).sum()
    scale = (spread / wanted).sum() / variance if variance > 0 else 0.0
    inverse = (1 / wanted).mean() + scale * (1 / depth.astype(np.float64) - (1 / said).mean())
    return (1 / inverse.clip(min=1 / (FARTHER * wanted.max()))).astype(np.float32)


def blocks(values: NDArray[Any], side: int, fill: float) -> NDArray[np.float32]:
    """Return maps (C, H, W) as blocks (N, C, side, side), those at the ends filled up with `fill`."""
    channels, height, width = values.shape
    padded = np.pad(values.astype(np.float32), ((0, 0), (0, -height % side), (0, -width % side)), constant_values=fill)
    parts = padded.reshape(channels, padded.shape[1] // side, side, padded.shape[2] // side, side)
    return np.ascontiguousarray(parts.transpose(1, 3, 0, 2, 4).reshape(-1, channels, side, side))


def pooled(scenes: Mapping[str, Sequence[Sequence[float]]]) -> NDArray[np.float64]:
    """Return the blocks of all scenes, (N, S)."""
    return np.concatenate([np.asarray(rows, np.float64) for rows in scenes.values()])


def figures(task: str, sums: NDArray[np.float64]) -> dict[str, Interval]:
    """Return each figure with its 95 % bootstrap interval over the blocks that have something to measure."""
    return interval(sums[sums[:, 0] > 0], build_metrics(task).from_sums)


def differences(task: str, first: NDArray[np.float64], second: NDArray[np.float64]) -> dict[str, Interval]:
    """Return each figure of `first` minus that of `second`, paired by block."""
    there = first[:, 0] > 0
    return paired_interval(first[there], second[there], build_metrics(task).from_sums)
