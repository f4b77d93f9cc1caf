"""Metrics of optical flow, in pixels of the input, on all pixels of known flow and on those that have an event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eventfm.tasks.metric_checks import NothingMeasuredError, check_finite, check_maps, entry

NAMES = ("epe", "outliers_1px", "outliers_2px", "outliers_3px", "outliers_fl", "angular_error")


class FlowMeasure:
    """Means over pixels, pooled over all samples; a pixel counts where both parts of its label are finite.

    `epe`: length of the difference, the end-point error. `outliers_1px` to `outliers_3px`: share of pixels whose error
    is more than that. `outliers_fl`: share whose error is more than 3 pixels and more than 5 % of the true length
    (Menze and Geiger, CVPR 2015). `angular_error`: degrees between (u, v, 1) and its prediction (Barron, Fleet and
    Beauchemin, IJCV 1994). Each again as `*_events`, on pixels with an event only, which is what the
    sets of event cameras report (Zhu et al., RSS 2018); left out where no pixel of known flow has one.
    """

    width = 2 * (1 + len(NAMES))

    def per_sample(self, prediction: Mapping[str, Tensor], batch: Mapping[str, Any]) -> Tensor:
        """Return (B, 14) float64: the number of pixels and the sum of each figure, then those with events."""
        flow, label = entry(prediction, "flow", "prediction", 4), entry(batch, "flow", "batch", 4)
        seen = entry(batch, "seen", "batch", 3)
        check_maps(flow, (len(label), 2, *label.shape[2:]), "flow")
        check_maps(seen, (len(label), *label.shape[2:]), "seen")
        known = label.isfinite().all(1)
        label = label.double().masked_fill(~known[:, None], 0.0)
        flow = flow.double().masked_fill(~known[:, None], 0.0)
        check_finite(flow, "flow")
        error, length = (flow - label).norm(dim=1), label.norm(dim=1)
        values = [
            torch.ones_like(error),
            error,
            *(error > pixels for pixels in (1.0, 2.0, 3.0)),
            (error > 3.0) & (error > 0.05 * length),
            _angle(flow, label),
        ]
        masks = [known, known & (seen > 0)]
        return torch.stack([(value * mask).sum((1, 2)) for mask in masks for value in values], 1)

    def figures(self, sums: NDArray[np.float64]) -> dict[str, float]:
        """Return the figures on all pixels of known flow and, as `*_events`, on those of them with an event."""
        result = {}
        for (count, *totals), ending in zip(sums.reshape(2, -1), ("", "_events"), strict=True):
            if count:
                result |= {name + ending: float(total / count) for name, total in zip(NAMES, totals, strict=True)}
        if not result:
            raise NothingMeasuredError("no pixel has a known flow (all are NaN): there is nothing to measure")
        return result


def _angle(flow: Tensor, label: Tensor) -> Tensor:
    """Return the degrees between (u, v, 1) of two flows (B, 2, H, W), (B, H, W)."""
    (u, v), (a, b) = flow.unbind(1), label.unbind(1)
    # The arc tangent keeps all digits of small angles, for which the cosine is 1.
    across = ((v - b).square() + (u - a).square() + (u * b - v * a).square()).sqrt()
    return torch.rad2deg(torch.atan2(across, u * a + v * b + 1))
