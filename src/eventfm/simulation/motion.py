"""What follows exactly from a path: when frames are due, where pixels go and how fast."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eventfm.simulation.homography import between, displacement, stepping_stones, steps, velocity_field
from eventfm.simulation.paths import Path, derivative

Matrix = NDArray[np.float64]

LONGEST_STEP_US = 10_000
"""Frames are at most this far apart, however slow the motion is."""
_BLOCK_US = 1_000_000
_COARSE_US = 1000
_STONES = 10
"""Times that are looked at for each step of the largest length; frames are among them."""


def frame_times(
    path: Path, t0_us: int, t1_us: int, size: tuple[int, int], max_step_px: float = 0.5
) -> NDArray[np.int64]:
    """Return frame times from `t0_us` to `t1_us`, both included, between which no pixel moves further than allowed.

    Holds for every pixel of the sensor, by a proven bound (`homography.displacement_bound`), from a frame to the next
    and to about ten times between the two. Frames are at most 10 ms apart. Where the path starts or ends a pause there
    is a frame, so that no motion is spread into the pause.

    Half a pixel keeps about 99 % of the events, measured against steps of 1/50 px, and every event of 99 % of the
    pixels on dead leaves, of 90 to 97 % on photographs full of detail and darkness.

    Args:
        path: The motion.
        t0_us: First frame.
        t1_us: Last frame, later than the first.
        size: Sensor height and width.
        max_step_px: The largest displacement.

    Returns:
        (F,) int64 microseconds, strictly increasing.

    Raises:
        ValueError: An empty range, motion that goes further than `max_step_px` within one microsecond, or a path that
            takes one time only.
    """
    if t1_us <= t0_us or not max_step_px > 0:
        raise ValueError(f"expected t0 < t1 and a step above 0, got [{t0_us}, {t1_us}] us and {max_step_px} px")
    kinks = np.array([t for t in getattr(path, "kinks_us", ()) if t0_us < t < t1_us], np.int64)
    parts = [np.array([t0_us], np.int64)]
    for start in range(t0_us, t1_us, _BLOCK_US):  # blocks bound the memory that a long clip needs
        stop = min(start + _BLOCK_US, t1_us)
        inside = kinks[(kinks > start) & (kinks < stop)]
        times, matrices = _stones(path, start, stop, inside, size, max_step_px)
        chosen = stepping_stones(matrices, times, np.isin(times, inside), size, max_step_px, LONGEST_STEP_US)
        parts.append(times[chosen[1:]])
    return np.concatenate(parts)


def flow(path: Path, t1_us: int, t2_us: int, size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return where every pixel goes from `t1_us` to `t2_us`, exactly: pi(H(t2) inv(H(t1)) x) - x.

    Returns:
        Flow (2, H, W) float32 in pixels, (dx, dy), and (H, W) bool: the pixel stays on the sensor.
    """
    return displacement(between(path.at(t1_us), path.at(t2_us)), size)


def velocity(path: Path, t_us: float, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return how fast what every pixel sees moves at one time, (2, H, W) float32 px/s, (vx, vy).

    With A = Hdot inv(H): v = (A x)_12 - x (A x)_3. At the start of a pause it is zero, at its end that of the motion.
    """
    return velocity_field(derivative(path, t_us) @ np.linalg.inv(path.at(t_us)), size)


def _stones(
    path: Path, start_us: int, stop_us: int, kinks: NDArray[np.int64], size: tuple[int, int], max_step_px: float
) -> tuple[NDArray[np.int64], Matrix]:
    """Return times (N,) from start to stop, much closer together than frames, and H at each of them (N, 3, 3)."""
    times = np.unique(np.concatenate([np.arange(start_us, stop_us, _COARSE_US), [stop_us], kinks]))
    while True:
        matrices = path.at(times)
        if np.shape(matrices) != (len(times), 3, 3):
            raise ValueError(
                f"expected path.at to return ({len(times)}, 3, 3) for {len(times)} times at once, got "
                f"{np.shape(matrices)} from {type(path).__name__}"
            )
        moved, gaps = steps(matrices, *size), np.diff(times)
        # Where motion turns back, a gap looks short while its neighbours tell how far the way out and back was.
        widest = np.maximum(moved, np.maximum(np.append(moved[1:], 0), np.append(0, moved[:-1])))
        wide = ~(widest <= 2.5 * max_step_px / _STONES) & (gaps > 1)
        if not wide.any():
            break
        wanted = np.where(wide, np.minimum(np.ceil(widest * _STONES / max_step_px), gaps), 1).astype(np.int64)
        cell = np.repeat(np.arange(len(gaps)), wanted)
        nth = np.arange(len(cell)) - (np.cumsum(wanted) - wanted)[cell]
        times = np.append(times[cell] + nth * gaps[cell] // wanted[cell], stop_us)
    if not (moved <= max_step_px).all():
        worst = int(np.argmax(moved > max_step_px))
        raise ValueError(
            f"expected motion below {max_step_px} px per microsecond, got {moved[worst]:.3g} px at {times[worst]} us"
        )
    return times, matrices
