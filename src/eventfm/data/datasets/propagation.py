"""Flow between two frames from flow between other moments, as MVSEC has it (Zhu et al., EV-FlowNet, RSS 2018, IV-B).

Ground truth `k` says how far each pixel moves from time `k` to time `k + 1`. A pixel is followed from the first frame
on: through the whole of each ground truth that lies between the frames, and through the share of time of those that
reach beyond one; each is looked up at the pixel nearest to where it has come by then.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventfm.io.contract import FormatError
from eventfm.io.recording import as_track_times
from eventfm.protocols import Track


class PropagatedFlow:
    """A track of flow (2, H, W) float32 from `starts` to `stops` (N,), worked out when it is read; NaN where unknown.

    `truth` is the ground truth: flow (2, H, W) between its times, 0 in both parts or not finite where unknown.
    """

    def __init__(self, truth: Track, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> None:
        self._truth = truth
        self._stops = stops
        self.times: NDArray[np.int64] = as_track_times(starts)

    def __len__(self) -> int:
        return len(self.times)

    def read(self, i: int) -> NDArray[Any]:
        """Return flow `i`, pixels, u right and v down."""
        return propagated(self._truth, int(self.times[i]), int(self._stops[i]))


def propagated(truth: Track, start: int, stop: int) -> NDArray[np.float32]:
    """Return how far each pixel moves from `start` to `stop` (microseconds), (2, H, W) float32, NaN where unknown.

    Unknown is a pixel that comes to where ground truth is not known, or has left the picture when it is looked up.

    Raises:
        FormatError: Ground truth does not reach from start to stop.
    """
    times = truth.times
    first = int(np.searchsorted(times, start, side="right")) - 1
    last = int(np.searchsorted(times, stop, side="left"))
    if first < 0 or last >= len(times) or stop <= start:
        there = f"{times[0]} to {times[-1]}" if len(times) else "nothing"
        raise FormatError(f"expected ground truth of flow from {start} to {stop} us, got {there}")
    flow = np.asarray(truth.read(first), np.float64)
    began = np.stack(np.meshgrid(np.arange(flow.shape[2]), np.arange(flow.shape[1]))).astype(np.float64)
    place, known = began, np.ones(flow.shape[1:], bool)
    for number in range(first, last):
        if number > first:
            flow = np.asarray(truth.read(number), np.float64)
        begin, end = int(times[number]), int(times[number + 1])
        share = (min(stop, end) - max(start, begin)) / (end - begin)
        step, found = _looked_up(flow, place)
        known &= found
        place = place + np.where(found, step, 0) * share
    return np.where(known, place - began, np.nan).astype(np.float32)


def covered(truth: NDArray[np.int64], starts: NDArray[np.int64], stops: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which stretches (N,) from start to stop ground truth at the times `truth` reaches over."""
    if not len(truth):
        return np.zeros(len(starts), bool)
    return np.asarray((starts >= truth[0]) & (stops <= truth[-1]) & (stops > starts))


def _looked_up(flow: NDArray[np.float64], place: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return flow (2, H, W) at the pixels nearest to places (2, H, W), and where it is known (H, W)."""
    height, width = flow.shape[1:]
    x, y = np.rint(place).astype(np.int64)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    found = flow[:, np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    return found, inside & np.isfinite(found).all(axis=0) & (found != 0).any(axis=0)
