"""Streams of frames in linear light, checked one by one: messages have the number and the time of the frame."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventfm.simulation.coding import Curve, Primaries, cover, luminance, to_frame

OnDamage = Literal["raise", "keep"]
"""`raise`, or `keep` what there is of a damaged source, with a warning."""


class FrameError(ValueError):
    """Raised when frames cannot be simulated; the message names the frame and says what to do."""


class TimedFrame(NamedTuple):
    """One frame of a stream."""

    t_us: int
    """Integer microseconds."""
    frame: NDArray[np.uint16]
    """(H, W) linear light, full scale 65535."""


def linear_frames(
    pictures: Iterable[tuple[int, NDArray[Any]]],
    *,
    curve: Curve = "srgb",
    primaries: Primaries = "bt709",
    size: tuple[int, int] | None = None,
    name: str = "frames",
    on_damage: OnDamage = "raise",
) -> Iterator[TimedFrame]:
    """Yield frames in linear light from timed pictures, one at a time, each checked.

    Args:
        pictures: (time in microseconds, picture); uint8 or uint16 coded by `curve`, or floating point in [0, 1], which
            is linear light; (H, W) or (H, W, 3) RGB (see `coding.luminance`).
        curve: How integer pictures stand for light.
        primaries: Which red, green and blue are meant.
        size: Height and width to cut and resize to; as the pictures are, if not given.
        name: What the stream is called in messages.
        on_damage: With `keep`, frames whose time does not increase are left out with a warning.

    Raises:
        FrameError: A picture of another shape or dtype than the first, values that are not in [0, 1], times that
            repeat or run back, or fewer than two frames.
    """
    first: tuple[Any, ...] | None = None
    last_us: int | None = None
    num_frames = num_left_out = 0
    black = True
    for number, (t_us, picture) in enumerate(pictures):
        where = f"{name}: frame {number} (at {t_us} us)"
        kind = _checked_kind(picture, where)
        if first is not None and kind != first:
            raise FrameError(
                f"{where} is {_words(kind)}, the frames before it are {_words(first)}; "
                "a sensor sees frames of one kind: convert them first"
            )
        first = kind
        if last_us is not None and t_us <= last_us:
            if on_damage == "raise":
                how = (
                    "has the time of the frame before"
                    if t_us == last_us
                    else f"lies before its predecessor, {last_us} us"
                )
                raise FrameError(
                    f"{where} {how}; times must increase: mend them, give fps=, or leave such frames out with "
                    "on_damage=keep"
                )
            num_left_out += 1
            continue
        light = luminance(picture, curve, primaries)
        frame = to_frame(light if size is None else cover(light, size))
        black = black and not frame.any()
        last_us = t_us
        num_frames += 1
        yield TimedFrame(int(t_us), frame)
    if num_left_out:
        warnings.warn(f"{name}: {num_left_out} frames whose time does not increase were left out", stacklevel=2)
    if num_frames < 2:
        held = f"one frame only, at {last_us} us" if num_frames else "no frame"
        raise FrameError(f"{name}: expected at least two frames, got {held}; events come from change")
    if black:
        warnings.warn(f"{name}: all {num_frames} frames are black, so there will be no events but noise", stacklevel=2)


def _checked_kind(picture: NDArray[Any], where: str) -> tuple[Any, ...]:
    """Return (height, width, channels, dtype) of a picture that can be read as light."""
    shape = picture.shape
    if picture.ndim not in (2, 3) or (picture.ndim == 3 and shape[2] not in (1, 3, 4)) or not picture.size:
        raise FrameError(f"{where}: expected a picture (H, W) or (H, W, 3), got shape {shape}")
    if picture.dtype not in (np.uint8, np.uint16) and picture.dtype.kind != "f":
        raise FrameError(f"{where}: expected uint8, uint16 or float in [0, 1], got {picture.dtype}")
    if picture.dtype.kind == "f":
        if np.isnan(picture).any():
            raise FrameError(f"{where} holds NaN in {int(np.isnan(picture).sum())} places; expected light in [0, 1]")
        low, high = float(picture.min()), float(picture.max())
        if low < 0 or high > 1:
            raise FrameError(
                f"{where}: expected light in [0, 1], got values from {low:.6g} to {high:.6g}; divide all frames by one "
                "full scale"
            )
    return (*shape[:2], shape[2] if picture.ndim == 3 else 1, picture.dtype.name)


def _words(kind: tuple[Any, ...]) -> str:
    height, width, channels, dtype = kind
    return f"{width}x{height} pixels of {channels} channel{'s' * (channels > 1)}, {dtype}"
