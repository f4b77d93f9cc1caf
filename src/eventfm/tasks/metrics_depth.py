"""Metrics of depth, in metres, with or without the scale of each prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eventfm.tasks.metric_checks import NothingMeasuredError, check_finite, check_maps, entry

Align = Literal["none", "median", "scale_shift"]
MIN_DEPTH = 1e-3
"""Metres; predictions are raised to it, so that they have a logarithm and a ratio."""
CUTOFFS = (10, 20, 30)


class DepthMeasure:
    """Means over pixels, pooled over all samples; a pixel counts where its label is finite and more than 0.

    `abs_rel`: |difference| / depth. `rmse` and `rmse_log` (natural logarithm): roots of the mean over all pixels of the
    set, not means of one root per picture. `delta1` to `delta3`: share of pixels whose ratio to the label, either way
    round, is less than 1.25, 1.25^2, 1.25^3 (Eigen, Puhrsch and Fergus, NIPS 2014). `mae_10m` to
    `mae_30m`: mean |difference| of pixels not farther than that (Hidalgo-Carrio, Gehrig and Scaramuzza, 3DV 2020);
    one is left out where no pixel is that near.

    Args:
        align: What is made of each sample before it is measured, for models that know depth up to scale, from the
            label's own pixels. "median": depth times the ratio of medians (Zhou et al., CVPR 2017, section 4.1).
            "scale_shift": inverse depth times a scale plus a shift, by least squares in inverse depth (Ranftl et al.,
            TPAMI 2022, section 5); the result is not farther than `max_depth`, which this needs.
        max_depth: Metres; farther labels are not measured and farther predictions are taken for this.
    """

    width = 7 + 2 * len(CUTOFFS)

    def __init__(self, align: Align = "none", max_depth: float | None = None) -> None:
        if align not in get_args(Align):
            raise ValueError(f"expected align to be one of {', '.join(get_args(Align))}, got {align!r}")
        if max_depth is not None and not max_depth > MIN_DEPTH:
            raise ValueError(f"expected a max_depth of more than {MIN_DEPTH} metres, got {max_depth}")
        if align == "scale_shift" and max_depth is None:
            raise ValueError(
                "align='scale_shift' can put a pixel beyond infinity; give max_depth, the farthest there is"
            )
        self.align = align
        self.max_depth = max_depth

    def per_sample(self, prediction: Mapping[str, Tensor], batch: Mapping[str, Any]) -> Tensor:
        """Return (B, 13) float64: pixels and the sum of each figure, then pixels and error within each distance."""
        depth, label = entry(prediction, "depth", "prediction", 4), entry(batch, "depth", "batch", 4)
        check_maps(depth, (len(label), 1, *label.shape[2:]), "depth")
        known = label.isfinite() & (label > 0)
        if self.max_depth is not None:
            known &= label <= self.max_depth
        rows = [self._sums(depth[i][known[i]].double(), label[i][known[i]].double()) for i in range(len(label))]
        return torch.stack(rows) if rows else label.new_zeros(0, self.width, dtype=torch.float64)

    def _sums(self, depth: Tensor, label: Tensor) -> Tensor:
        """Return (13,) of one sample, of its measured pixels (P,)."""
        check_finite(depth, "depth")
        depth = self._aligned(depth, label).clamp(MIN_DEPTH, self.max_depth)
        error = (depth - label).abs()
        ratio = torch.maximum(depth / label, label / depth)
        values = [
            torch.ones_like(error),
            error / label,
            error.square(),
            (depth.log() - label.log()).square(),
            *(ratio < 1.25**power for power in (1, 2, 3)),
        ]
        for metres in CUTOFFS:
            near = label <= metres
            values += [near, error * near]
        return torch.stack([value.double().sum() for value in values])

    def _aligned(self, depth: Tensor, label: Tensor) -> Tensor:
        """Return `depth` (P,) brought to the scale of `label` (P,) as `align` says."""
        if self.align == "none" or not len(label):
            return depth
        if self.align == "median":
            middle = depth.quantile(0.5)
            if not middle > 0:
                raise ValueError(f"expected depths to scale whose median is more than 0, got {float(middle):.3g}")
            return depth * (label.quantile(0.5) / middle)
        if not bool((depth > 0).all()):
            raise ValueError(f"expected depths of more than 0, which have an inverse, got {float(depth.min()):.3g}")
        inverse, wanted = 1 / depth, 1 / label
        spread, about = inverse - inverse.mean(), wanted - wanted.mean()
        variance = spread.square().sum()
        # A prediction that is the same everywhere says nothing of the scale; the shift alone fits it.
        scale = torch.where(variance > 0, (spread * about).sum() / variance, 0.0)
        assert self.max_depth is not None
        return 1 / (wanted.mean() + scale * spread).clamp(min=1 / self.max_depth)

    def figures(self, sums: NDArray[np.float64]) -> dict[str, float]:
        """Return the figures by name."""
        count, relative, squares, log_squares, *close = sums[:7]
        if not count:
            limit = "" if self.max_depth is None else f" of at most {self.max_depth:g} m"
            raise NothingMeasuredError(f"no pixel has a known depth{limit}: there is nothing to measure")
        result = {
            "abs_rel": relative / count,
            "rmse": (squares / count) ** 0.5,
            "rmse_log": (log_squares / count) ** 0.5,
        }
        result |= {f"delta{power}": within / count for power, within in enumerate(close, 1)}
        for metres, (near, error) in zip(CUTOFFS, sums[7:].reshape(-1, 2), strict=True):
            if near:
                result[f"mae_{metres}m"] = error / near
        return {name: float(value) for name, value in result.items()}
