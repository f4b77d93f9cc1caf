"""A picture whose pixels move straight on, each at its own speed: what is seen on the way, and what is hidden."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SAME_PX = 1.5
"""A pixel is hidden where what is seen in its place comes from further off in the picture than this."""
_SMOOTH_PX = 0.5
"""Two motions that differ by less are taken for those of one surface, and interpolated."""


class View(NamedTuple):
    """What each pixel sees at one moment."""

    source: NDArray[np.int64]
    """(H, W) number of the pixel of the picture that it sees, to the nearest."""
    back: NDArray[np.float32]
    """(2, H, W) where in the picture that is, x and y, between the pixels."""
    shown: NDArray[np.bool_]
    """(H, W) False where the picture shows nothing of what would be seen; the surface behind is carried on there."""


@dataclass(frozen=True)
class Moving:
    """A picture whose pixels move by `s` times their motion."""

    light: NDArray[np.float32]
    """(H, W) linear light in [0, 1]."""
    motion: NDArray[np.float32]
    """(2, H, W) pixels right and down as `s` goes from 0 to 1, finite everywhere."""
    front: NDArray[np.float32]
    """(H, W) of pixels that come to one place that with most is seen."""
    other: Moving | None = None
    """The same from where this one is at `s` = 1, which moves the other way: what it shows where this one does not."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.light.shape[0], self.light.shape[1]

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        """(H * W,) the pixels from the hindmost to the foremost."""
        return np.argsort(self.front, axis=None, kind="stable")

    def landed(self, s: float) -> NDArray[np.float32]:
        """Return where each pixel has come to, (2, H, W), x and y."""
        return np.stack(_places(self.size)) + np.float32(s) * self.motion

    def view(self, s: float) -> View:
        """Return what is seen at `s`; at 0 that is the picture."""
        x, y = self.landed(s).reshape(2, -1)
        foremost = self._foremost(np.rint(x), np.rint(y))
        # Surfaces that grow leave gaps of a pixel, which those next to them fill.
        about = [self._foremost(at_x(x), at_y(y)) for at_x in (np.floor, np.ceil) for at_y in (np.floor, np.ceil)]
        foremost = np.where(foremost < 0, np.max(about, axis=0), foremost)
        shown = (foremost >= 0).reshape(self.size)
        source = self._order[foremost].reshape(self.size)
        source = np.where(shown, source, -1)
        source = source.ravel()[from_behind(shown, np.where(shown, self.front.ravel()[source], np.inf))]
        return View(source, self._back(source, s), shown)

    def frame(self, s: float) -> NDArray[np.uint16]:
        """Return the light that is seen at `s`, (H, W) over the full range of 16 bits."""
        import cv2

        _, back, shown = self.view(s)
        light = cv2.remap(self.light, back[0], back[1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        out = np.rint(65535 * np.clip(light, 0, 1)).astype(np.uint16)
        return out if self.other is None or shown.all() else np.where(shown, out, self.other.frame(1 - s))

    def visible(self, s: float) -> NDArray[np.bool_]:
        """Return which pixels of the picture are inside of it and not hidden by others at `s`, (H, W)."""
        x, y = self.landed(s)
        height, width = self.size
        inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
        column = np.rint(x).clip(0, width - 1).astype(np.int64)
        row = np.rint(y).clip(0, height - 1).astype(np.int64)
        back = self.view(s).back[:, row, column]
        at_x, at_y = _places(self.size)
        away = np.hypot(back[0] + x - column - at_x, back[1] + y - row - at_y)
        return inside & (away <= SAME_PX)

    def steps(self, length: float, step_px: float) -> int:
        """Return into how many steps a way of `length` in `s` is cut, so that no pixel moves further in one."""
        return max(1, math.ceil(float(np.hypot(*self.motion).max()) * length / step_px))

    def _foremost(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the place in the order of the foremost pixel at each whole place (H * W,); -1 where none is."""
        height, width = self.size
        x, y = x[self._order], y[self._order]
        inside = np.flatnonzero((x >= 0) & (y >= 0) & (x < width) & (y < height))
        out = np.full(height * width, -1, np.int64)
        out[y[inside].astype(np.int64) * width + x[inside].astype(np.int64)] = inside  # the last one stays
        return out

    def _back(self, source: NDArray[np.int64], s: float) -> NDArray[np.float32]:
        """Return where in the picture each pixel looks, which sees about the pixel `source` (H, W) of it."""
        import cv2

        here = np.stack(_places(self.size))
        motion = self.motion.reshape(2, -1)[:, source]
        back = here - np.float32(s) * motion
        for _ in range(2):  # a fixed point: the motion of the place that is looked at
            between = np.stack(
                [cv2.remap(part, back[0], back[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
                 for part in self.motion]
            )  # fmt: skip
            smooth = np.abs(between - motion).max(axis=0) < _SMOOTH_PX
            back = here - np.float32(s) * np.where(smooth, between, motion)
        return np.ascontiguousarray(back, np.float32)


def from_behind(known: NDArray[np.bool_], front: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return, for each pixel, the number of the known pixel (H, W) to take for it: itself where it is known.

    Gaps are crossed where they are narrowest, along the row or the column, and filled from the side that is further
    behind; `front` (H, W) is greater in front. Of pixels with none known along both, that is done once more.

    Raises:
        ValueError: Nothing is known.
    """
    if not known.any():
        raise ValueError("expected a known pixel at least, got none")
    out = np.where(known, np.arange(known.size).reshape(known.shape), -1)
    front = np.where(known, front, np.inf)
    while (out < 0).any():
        (down, down_gap), (across, across_gap) = (_behind(out, front, axis) for axis in (0, 1))
        out = np.where(out >= 0, out, np.where(across_gap <= down_gap, across, down))
        front = np.where(out >= 0, front.ravel()[out], np.inf)
    return out


def _behind(
    numbers: NDArray[np.int64], front: NDArray[np.floating], axis: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the number on the side of each gap that is further behind, -1 where there is none, and the gap's width."""
    length = numbers.shape[axis]
    before = _last_known(numbers, axis)
    after = length - 1 - np.flip(_last_known(np.flip(numbers, axis), axis), axis)
    lower, upper = (np.take_along_axis(front, side.clip(0, length - 1), axis) for side in (before, after))
    left = (before >= 0) & ((after >= length) | (lower <= upper))
    chosen = np.take_along_axis(numbers, np.where(left, before, after).clip(0, length - 1), axis)
    inside = (before >= 0) & (after < length)
    return chosen, np.where(chosen < 0, np.inf, np.where(inside, after - before, 2 * max(numbers.shape)))


def _last_known(numbers: NDArray[np.int64], axis: int) -> NDArray[np.int64]:
    """Return how far along an axis the last number up to each place is that is not -1; -1 where there is none."""
    along = np.arange(numbers.shape[axis]).reshape((-1, 1) if axis == 0 else (1, -1))
    return np.maximum.accumulate(np.where(numbers >= 0, along, -1), axis=axis)


def _places(size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return x and y of every pixel, (H, W) each."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    return x, y
