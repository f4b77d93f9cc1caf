"""Frames between frames, for video that is too slow: how far things move, and ways to fill the gap.

An interpolator is any callable `(frame0, frame1, shares) -> frames`: two frames (H, W) uint16 in linear light and the
shares (N,) float64 of the time between them, each in (0, 1), to N frames (N, H, W), uint16 or float in [0, 1]. Packages
add theirs by name under the entry point group `eventfm.interpolator`.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventfm.registry import Registry, UnknownNameError
from eventfm.simulation.coding import to_frame
from eventfm.simulation.frame_stream import FrameError, TimedFrame
from eventfm.simulation.response import FULL

Interpolator = Callable[[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.float64]], NDArray[Any]]

INTERPOLATORS = Registry("interpolator", {"flow": "eventfm.simulation.interpolation:interpolate_by_flow"})

COARSE_PX = 2.0
"""Frames further apart than this make events whose times and order are wrong in one pixel out of ten and more."""
MAX_BETWEEN = 128
"""Frames at most between two, however fast the motion."""
_MEASURED_SIDE = 320
_ROUNDS = 2
_WINDOW = 7
_NO_MAP: Any = None


class Sampled(NamedTuple):
    """One frame of a stream that may have been filled up."""

    t_us: int
    frame: NDArray[np.uint16]
    is_source: bool
    """Whether it was there, and not made."""


def find_interpolator(name: str) -> Interpolator:
    """Return the interpolator called `name`: one of the registry, or `module:attribute`.

    Raises:
        UnknownNameError: No such name.
        ImportError: The module is not there.
    """
    if ":" in name and name not in INTERPOLATORS:
        module, _, attribute = name.partition(":")
        found: Interpolator | None = getattr(importlib.import_module(module), attribute, None)
        if not callable(found):
            raise UnknownNameError(f"expected a function {attribute} in the module {module}, there is none")
        return found
    made: Interpolator = INTERPOLATORS.get(name)
    return made


def densified(
    frames: Iterable[TimedFrame],
    interpolator: Interpolator | None,
    max_step_px: float = 0.5,
    name: str = "frames",
) -> Iterator[Sampled]:
    """Yield the frames and, with an interpolator, as many between each two that nothing moves by over `max_step_px`.

    The motion of every pair is measured. Without an interpolator a warning at the end says how large it was, if that
    is more than events can bear.

    Raises:
        FrameError: The interpolator returns something else than frames.
    """
    before: TimedFrame | None = None
    motions: list[float] = []
    for number, now in enumerate(frames):
        if before is not None:
            motions.append(measured_motion(before.frame, now.frame))
            if interpolator is not None:
                yield from _between(before, now, motions[-1], interpolator, max_step_px, f"{name}: frame {number}")
        yield Sampled(now.t_us, now.frame, True)
        before = now
    if interpolator is not None or not motions:
        return
    typical = float(np.median(motions))
    coarse = sum(motion > COARSE_PX for motion in motions)
    if 10 * coarse > len(motions):
        warnings.warn(
            f"{name}: the motion was measured as {typical:.1f} px/frame (median; {max(motions):.1f} px at most), more "
            f"than {COARSE_PX:g} px in {coarse} of {len(motions)} steps. Events of frames that far apart are wrong "
            "in time and order: use video of a higher frame rate, a smaller sensor, or video.interpolator=flow",
            stacklevel=2,
        )


def measured_motion(frame0: NDArray[np.uint16], frame1: NDArray[np.uint16]) -> float:
    """Return how far the moving detail of a frame goes to the next, pixels: the 95th percentile of its optical flow.

    Measured on frames of at most 320 pixels a side. Where the picture is flat nothing can be seen to move, so only the
    stronger half of its edges count.
    """
    import cv2

    height, width = frame0.shape
    scale = min(1.0, _MEASURED_SIDE / max(height, width))
    size = max(16, round(width * scale)), max(16, round(height * scale))
    first, second = (cv2.resize(_for_eyes(frame), size, interpolation=cv2.INTER_AREA) for frame in (frame0, frame1))
    flow = _dis_flow(first, second, cv2.DISOPTICAL_FLOW_PRESET_FAST)
    length = np.hypot(flow[..., 0] * (width / size[0]), flow[..., 1] * (height / size[1]))
    edges = np.maximum(_edges(first), _edges(second))
    strong = edges > max(float(edges.mean()), 8.0)
    return float(np.percentile(length[strong], 95)) if strong.any() else 0.0


def interpolate_by_flow(
    frame0: NDArray[np.uint16], frame1: NDArray[np.uint16], shares: NDArray[np.float64]
) -> NDArray[np.uint16]:
    """Return frames (N, H, W) between two, moved along their optical flow (DIS, Kroeger et al., ECCV 2016).

    An approximation: motion is straight and even between the frames, and where something comes out from behind
    something else, or moves further than the flow can follow, the frames are blended. Each point at the time in between
    is looked up along the flow of the first frame and along that of the second; the one whose ends agree better wins.
    """
    import cv2

    preset = cv2.DISOPTICAL_FLOW_PRESET_MEDIUM
    first, second = _for_eyes(frame0), _for_eyes(frame1)
    forward, backward = _dis_flow(first, second, preset), _dis_flow(second, first, preset)
    light0, light1 = frame0.astype(np.float32), frame1.astype(np.float32)
    height, width = frame0.shape
    grid = np.dstack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)))
    out = np.empty((len(shares), height, width), np.uint16)
    for frame, share in zip(out, shares, strict=True):
        s = np.float32(share)
        along_first = _both_ends(light0, light1, grid, _carried(forward, grid, s), s)
        along_second = _both_ends(light0, light1, grid, -_carried(backward, grid, 1 - s), s)
        nearer = along_first[1] <= along_second[1]
        frame[:] = np.rint(np.clip(np.where(nearer, along_first[0], along_second[0]), 0, FULL))
    return out


def _between(
    before: TimedFrame, now: TimedFrame, motion: float, interpolator: Interpolator, max_step_px: float, where: str
) -> Iterator[Sampled]:
    duration = now.t_us - before.t_us
    count = min(math.ceil(motion / max_step_px), MAX_BETWEEN + 1, duration)
    if count < 2:
        return
    offsets = np.rint(np.arange(1, count) * (duration / count)).astype(np.int64)
    made = np.asarray(interpolator(before.frame, now.frame, offsets / duration))
    expected = (count - 1, *now.frame.shape)
    if made.shape != expected or not (made.dtype == np.uint16 or made.dtype.kind == "f"):
        raise FrameError(
            f"{where} (at {now.t_us} us): expected frames {expected}, uint16 or float in [0, 1], from the "
            f"interpolator, got {made.dtype} {made.shape}"
        )
    if made.dtype.kind == "f":
        if not (made.min() >= 0 and made.max() <= 1):
            raise FrameError(
                f"{where} (at {now.t_us} us): the interpolator gave values from {made.min()} to {made.max()}; expected "
                "light in [0, 1] without NaN"
            )
        made = to_frame(made.astype(np.float32))
    for offset, frame in zip(offsets, made, strict=True):
        yield Sampled(before.t_us + int(offset), frame, False)


def _edges(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    import cv2

    return np.asarray(np.abs(cv2.Sobel(frame, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(frame, cv2.CV_32F, 0, 1)))


def _for_eyes(frame: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Return a frame with 8 bits as square roots, which evens out contrast in dark and bright parts."""
    return np.rint(np.sqrt(frame.astype(np.float32) / FULL) * 255).astype(np.uint8)


def _dis_flow(first: NDArray[np.uint8], second: NDArray[np.uint8], preset: int) -> NDArray[np.float32]:
    import cv2

    with _one_thread():
        return np.asarray(cv2.DISOpticalFlow_create(preset).calc(first, second, None))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let OpenCV use one thread: it cuts the picture into stripes by their number, and the flow depends on that."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _carried(flow: NDArray[np.float32], grid: NDArray[np.float32], share: np.float32) -> NDArray[np.float32]:
    """Return the flow of what is at each place once it has gone `share` of its way: u(x) = flow(x - share u(x))."""
    import cv2

    u = flow
    for _ in range(_ROUNDS):
        u = cv2.remap(flow, grid - share * u, _NO_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return u


def _both_ends(
    light0: NDArray[np.float32],
    light1: NDArray[np.float32],
    grid: NDArray[np.float32],
    u: NDArray[np.float32],
    share: np.float32,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what lies at both ends of the way `u`, blended by the time, and how little the two agree."""
    import cv2

    places = grid - share * u, grid + (1 - share) * u
    height, width = light0.shape
    inside = [
        ((p[..., 0] >= 0) & (p[..., 0] <= width - 1) & (p[..., 1] >= 0) & (p[..., 1] <= height - 1)).astype(np.float32)
        for p in places
    ]
    ends = [
        cv2.remap(light, place, _NO_MAP, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        for light, place in zip((light0, light1), places, strict=True)
    ]
    # What has come in over the border is known from one frame alone.
    weight0 = (1 - share) * np.maximum(inside[0], 1e-3)
    weight1 = share * np.maximum(inside[1], 1e-3)
    blended = (weight0 * ends[0] + weight1 * ends[1]) / (weight0 + weight1)
    apart = np.abs(ends[0] - ends[1]) * inside[0] * inside[1]
    return blended, cv2.blur(apart, (_WINDOW, _WINDOW))
