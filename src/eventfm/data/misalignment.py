"""Whether events and a frame show the same scene at the same time: the log odds that they do not.

A pixel's events add up to what its logarithmic brightness L gained. While the picture moves by u that gain is
-grad(L) . u, at the place where the picture then is: that of the frame, and what it has moved since. So slices of the
window are compared with directional derivatives of the frame under every hypothesis: the frame belongs where and when
it is said to; or the events are displaced by some pixels; or they are earlier or later than the frame says. The flow is
unknown and may differ from tile to tile: it is averaged over. So is the contrast threshold, which only scales.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from eventfm.data.windows import DARKEST, grey, require_frame_size
from eventfm.events import Events

FURTHEST_PX = 21
"""Displacements up to this are asked about, in pixels of the sensor reduced to at most `LARGEST_SIDE`."""
FURTHEST_US = 50_000
"""Events that are earlier or later by up to this are asked about."""
LARGEST_SIDE = 600
"""Larger sensors are halved (or cut in three, ...): a score takes tens of milliseconds either way."""
_NEAR_PX, _FAR_PX = 1.0, 2.0
"""Up to the first is aligned, from the second on displaced; in between is neither."""
_DENSE_PX = 6.0
_OFFSETS_US = np.arange(-FURTHEST_US, FURTHEST_US + 1, 5_000)
_AS_WELL = 0.95
"""A wrong time is named where it explains this share of what the best displacement does: it is the simpler cause."""
_SLICES = 4
_TILE_PX = 60
_BLUR_PX = 1.2
_DIRECTIONS = 16
_SPEEDS = (0.0, 2.0, 4.0, 7.0, 11.0, 16.0)
"""Flows that are tried, pixels per window; 0 stands for less than one."""
_MARGIN = FURTHEST_PX + 17
"""Pixels around a tile where the frame is looked up: what is sought further out is sought at the rim."""
_FEWEST = 20
"""A tile with fewer separate spots of events says nothing."""
_SPOT_PX = 4 * np.pi * _BLUR_PX**2
"""Pixels that share what they say, for they are blurred."""
_MOST_PER_PIXEL = 3
_FLOOR = 0.02


@dataclass(frozen=True)
class Misalignment:
    """What `misalignment` found."""

    score: float
    """Log odds (nats) that the events are displaced against the frame by 2 to 21 px: above 0 that is likelier than
    not. 0 where nothing can be told, for want of events or texture."""
    shift_px: tuple[float, float]
    """The displacement (x, y) of the events against the frame that explains them best, pixels; (0, 0) if aligned."""
    offset_us: int | None
    """By how much later the events are than the frame, in steps of 5 ms, where `score` is above 0 and a wrong time
    explains about as much as the best displacement; else None."""
    num_tiles: int
    """Parts of the picture that had enough events to be asked."""


def misalignment(events: Events, frame: NDArray[Any], frame_us: int | None = None) -> Misalignment:
    """Return how far a frame is from the events that are said to go with it.

    A frame that was taken too early or too late shows as a displacement too, by what the picture moved meanwhile.

    Args:
        events: Those of one window, about 10 to 100 ms of it.
        frame: (H, W) or (H, W, 3) of the sensor's size, uint8, uint16 or float in [0, 1].
        frame_us: When it was taken, in the clock of the events; None: when the window starts.

    Raises:
        WindowError: The frame is not of the sensor's size.
    """
    picture = grey(frame)
    require_frame_size(events.sensor, picture.shape)
    if not len(events):
        return Misalignment(0.0, (0.0, 0.0), None, 0)
    start, stop = events.window or (int(events.t[0]), int(events.t[-1]) + 1)
    taken = start if frame_us is None else frame_us
    factor = -(-max(picture.shape) // LARGEST_SIDE)
    tiles = _tiles(_slices(events, start, stop, factor), _gradient(picture, factor))
    if not tiles:
        return Misalignment(0.0, (0.0, 0.0), None, 0)
    middles = ((np.arange(_SLICES) + 0.5) / _SLICES + (start - taken) / (stop - start)).astype(np.float32)
    flows, score_tile = _flows(), cast(Any, _log_likelihood)

    def explained(shift: Any, late_us: Any) -> Any:
        """Return the log likelihoods (J,) of events displaced by (J, 2) reduced pixels and late by (J,) or one."""
        late = np.asarray(late_us) / (stop - start)
        columns = np.broadcast_arrays(shift[..., 0], shift[..., 1], late)
        placed = np.stack(columns, axis=-1).astype(np.float32)
        return np.sum([score_tile(*tile, placed, flows, middles) for tile in tiles], axis=0)

    shifts = _shifts()
    displaced = explained(shifts, 0)
    score, best = _odds(displaced, shifts), shifts[displaced.argmax()]
    if np.hypot(*best) > _DENSE_PX:
        around = best + np.stack(np.meshgrid(*[np.arange(-2, 3)] * 2), axis=-1).reshape(-1, 2)
        best = around[explained(around, 0).argmax()]
    x, y = (best if np.hypot(*best) > _NEAR_PX else 0 * best) * factor
    offset = None
    if score > 0:
        # By a pixel either way, for the flows that are tried are few.
        nearby = shifts[np.hypot(*shifts.T) <= _NEAR_PX]
        mistimed = np.max([explained(shift, _OFFSETS_US) for shift in nearby], axis=0)
        if mistimed.max() >= _AS_WELL * displaced.max():
            offset = int(_OFFSETS_US[mistimed.argmax()]) or None
    return Misalignment(score, (float(x), float(y)), offset, len(tiles))


def _odds(found: NDArray[np.float64], shifts: NDArray[np.int64]) -> float:
    """Return the log odds of far against near shifts, every distance being as likely as another."""
    distance = np.hypot(*shifts.T)
    # Further out only every fourth place is asked, which then stands for four.
    weight = np.where(distance <= _DENSE_PX, 1, 4) / np.maximum(distance, 1)

    def evidence(which: NDArray[np.bool_]) -> float:
        best = found[which].max()
        return float(best + np.log(np.average(np.exp(found[which] - best), weights=weight[which])))

    return evidence(distance >= _FAR_PX) - evidence(distance <= _NEAR_PX)


def _shifts() -> NDArray[np.int64]:
    """Return the displacements (J, 2) that are asked about: every pixel nearby, every second row and column beyond."""
    reach = np.arange(-FURTHEST_PX, FURTHEST_PX + 1)
    x, y = (axis.ravel() for axis in np.meshgrid(reach, reach))
    distance = np.hypot(x, y)
    asked = (distance <= _DENSE_PX) | ((x % 2 == 0) & (y % 2 == 0) & (distance <= FURTHEST_PX))
    return np.stack([x[asked], y[asked]], axis=1)


def _flows() -> NDArray[np.float32]:
    """Return (U, 3): direction (x, y) and speed of every flow that is tried."""
    angle, speed = np.meshgrid(2 * np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS, _SPEEDS)
    return np.stack([np.cos(angle), np.sin(angle), speed], axis=-1).reshape(-1, 3).astype(np.float32)


def _slices(events: Events, start: int, stop: int, factor: int) -> NDArray[np.float32]:
    """Return the signed events of every slice of the window, blurred, (K, h, w)."""
    import cv2

    height, width = events.sensor.height // factor, events.sensor.width // factor
    x, y = (column.astype(np.int64) // factor for column in (events.x, events.y))
    k = (events.t - start) * _SLICES // (stop - start)
    inside = (x < width) & (y < height) & (k >= 0) & (k < _SLICES)
    place = ((k * height + y) * width + x)[inside]
    counts = np.bincount(place, 2.0 * events.p[inside] - 1, _SLICES * height * width)
    # A hot pixel is one pixel.
    most = _MOST_PER_PIXEL * factor**2
    counts = np.clip(counts, -most, most).astype(np.float32)
    return np.stack([cv2.GaussianBlur(i, (0, 0), _BLUR_PX) for i in counts.reshape(_SLICES, height, width)])


def _gradient(picture: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Return the gradient (2, h, w) of the blurred logarithm, its strongest hundredth held back."""
    import cv2

    height, width = picture.shape[0] // factor, picture.shape[1] // factor
    whole = picture[: height * factor, : width * factor]
    small = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
    log = cv2.GaussianBlur(np.log(np.maximum(small, 0) + np.float32(DARKEST)), (0, 0), _BLUR_PX)
    gradient = np.stack([cv2.Scharr(log, cv2.CV_32F, 1, 0), cv2.Scharr(log, cv2.CV_32F, 0, 1)]) / 32
    size = np.hypot(*gradient)
    return np.asarray(gradient * np.minimum(1, np.percentile(size, 99) / np.maximum(size, 1e-6)), np.float32)


def _tiles(slices: NDArray[np.float32], gradient: NDArray[np.float32]) -> list[tuple[Any, ...]]:
    """Return of each tile with events: how it matches the frame from every place around, and what to expect.

    `matches` (K, 2, S, S) are its slices times the gradient at each place, `tensor` (3, S, S) the sums of squares and
    of the product of the gradient, `energy` the sum of squares of the slices, `size` its number of separate spots.
    """
    import cv2

    _, height, width = slices.shape
    rows, columns = (np.linspace(0, n, max(1, round(n / _TILE_PX)) + 1).astype(int) for n in (height, width))
    gx, gy = gradient
    maps = [np.pad(m, _MARGIN) for m in (gx, gy, gx * gx, gx * gy, gy * gy)]
    places = 2 * _MARGIN + 1
    tiles = []
    for y0, y1 in pairwise(rows):
        for x0, x1 in pairwise(columns):
            tile = np.ascontiguousarray(slices[:, y0:y1, x0:x1])
            size = np.count_nonzero(np.abs(tile) > _FLOOR) / _SPOT_PX
            if size < _FEWEST:
                continue
            around = [m[y0 : y1 + 2 * _MARGIN, x0 : x1 + 2 * _MARGIN] for m in maps]
            matches = [[cv2.matchTemplate(m, image, cv2.TM_CCORR) for m in around[:2]] for image in tile]
            summed = [cv2.boxFilter(m, -1, (x1 - x0, y1 - y0), anchor=(0, 0), normalize=False) for m in around[2:]]
            tensor = np.stack(summed)[:, :places, :places].copy()
            tiles.append((np.array(matches), tensor, np.float32((tile**2).sum()), size))
    return tiles


@njit(cache=True, nogil=True)
def _log_likelihood(
    matches: NDArray[np.float32],
    tensor: NDArray[np.float32],
    energy: np.float32,
    size: float,
    placed: NDArray[np.float32],
    flows: NDArray[np.float32],
    middles: NDArray[np.float32],
) -> Any:
    """Return the log likelihood (J,) of each hypothesis (x, y, windows late), averaged over the flows (U, 3).

    Of Gaussian noise in `size` places, with the share q of the energy explained, it is -size / 2 log(1 - q).
    `middles` (K,) are the times of the slices since the frame, in windows.
    """
    num_slices, side = len(matches), matches.shape[2]
    centre = side // 2
    # Where a frame has no texture there is nothing to match: a little is always added below the line.
    floor = np.float32(_FLOOR * num_slices) * (tensor[0].mean() + tensor[2].mean()) + np.float32(1e-12)
    out, gains = np.empty(len(placed)), np.empty(len(flows))
    for j in range(len(placed)):
        for f in range(len(flows)):
            nx, ny, speed = flows[f]
            along, norm = np.float32(0), floor
            for k in range(num_slices):
                moved = speed * (middles[k] + placed[j, 2])
                x = min(max(centre - int(np.rint(placed[j, 0] + nx * moved)), 0), side - 1)
                y = min(max(centre - int(np.rint(placed[j, 1] + ny * moved)), 0), side - 1)
                along -= nx * matches[k, 0, y, x] + ny * matches[k, 1, y, x]
                norm += nx * nx * tensor[0, y, x] + 2 * nx * ny * tensor[1, y, x] + ny * ny * tensor[2, y, x]
            # Brightness that rises where the picture says it falls explains nothing.
            share = max(along, np.float32(0)) ** 2 / (norm * energy)
            gains[f] = -0.5 * size * np.log(1 - min(share, 0.99))
        best = gains.max()
        out[j] = best + np.log(np.exp(gains - best).mean())
    return out
