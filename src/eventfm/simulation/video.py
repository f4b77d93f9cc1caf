"""Video files and frame folders as streams of frames in linear light, decoded one at a time."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from eventfm.registry import did_you_mean, require
from eventfm.simulation.coding import Curve, Primaries
from eventfm.simulation.frame_folder import check_fps, list_frames, read_pictures
from eventfm.simulation.frame_stream import FrameError, OnDamage, TimedFrame, linear_frames

_CURVES: dict[int, Curve] = {1: "bt709", 6: "bt709", 8: "linear", 13: "srgb", 14: "bt709", 15: "bt709", 18: "hlg"}
"""Transfer characteristics by their number in ITU-T H.273."""
_PQ = 16
_BT2020 = 9
_UNSPECIFIED = 2
_HD_HEIGHT = 720
"""Video of at least this height that does not say its colour matrix has that of BT.709, smaller that of BT.601."""
_ITU709 = 1
_END_TOLERANCE = 0.02


class _Coding(NamedTuple):
    curve: Curve
    primaries: Primaries


def video_frames(
    source: str | Path,
    *,
    fps: float | None = None,
    size: tuple[int, int] | None = None,
    coding: Curve | Literal["auto"] = "auto",
    on_damage: OnDamage = "raise",
) -> Iterator[TimedFrame]:
    """Return an iterator over the frames of a video file or a folder of frames: (t_us, (H, W) uint16 linear light).

    One frame is in memory at a time. Frames of a video have the times that the file gives each, also where these are
    uneven, and are turned upright and to square pixels; those of a folder see `frame_folder.list_frames`.

    Args:
        source: A video file (whatever FFmpeg reads), or a folder of pictures.
        fps: True frames per second. Required for folders without a list of times; of a video it replaces the file's
            times, as slow-motion footage needs.
        size: Height and width to cut (about the centre) and resize to, in linear light; as the source is, if not given.
        coding: How grey values stand for light: "srgb", "bt709", "hlg", "linear"; "auto" goes by what a video says
            of itself and else takes "bt709" for video and "srgb" for pictures, 16-bit ones included. Pictures of
            floating point are linear always.
        on_damage: `raise`, or `keep` what can be read, with a warning: a video up to where it breaks off, a folder
            without the pictures that are missing, frames without those whose time does not increase.

    Raises:
        FileNotFoundError: Nothing is at `source`.
        FrameError: It cannot be read, or frames do not fit each other; the message names the frame.
        MissingExtraError: PyAV, which decodes video, is not installed.
        ValueError: An unknown coding, or a rate that is none.
    """
    path = Path(source)
    if coding != "auto" and coding not in get_args(Curve):
        raise ValueError(f"unknown coding {coding!r}{did_you_mean(coding, ['auto', *get_args(Curve)])}")
    if on_damage not in get_args(OnDamage):
        raise ValueError(f"expected on_damage to be 'raise' or 'keep', got {on_damage!r}")
    if fps is not None:
        check_fps(fps)
    if not path.exists():
        raise FileNotFoundError(f"no video or folder at {path}")
    if path.is_dir():
        pictures = read_pictures(list_frames(path, fps, on_damage))
        curve: Curve = "srgb" if coding == "auto" else coding
        return linear_frames(pictures, curve=curve, size=size, name=str(path), on_damage=on_damage)
    return _file_frames(path, fps, size, coding, on_damage)


def is_video(path: Path) -> bool:
    """Return whether FFmpeg finds a video stream in the file.

    Raises:
        MissingExtraError: PyAV is not installed.
    """
    av = require("av", "video")
    try:
        with av.open(str(path)) as container:
            return bool(container.streams.video)
    except (av.FFmpegError, ValueError):
        return False


def _file_frames(
    path: Path, fps: float | None, size: tuple[int, int] | None, coding: Curve | Literal["auto"], on_damage: OnDamage
) -> Iterator[TimedFrame]:
    av = require("av", "video")
    try:
        container = av.open(str(path))
    except (av.FFmpegError, ValueError) as error:
        raise FrameError(f"{path} cannot be opened as a video, nothing of it could be read: {_reason(error)}") from None
    with container:
        if not container.streams.video:
            raise FrameError(f"{path} holds no video stream")
        stream = container.streams.video[0]
        # One clip per process is how corpora are made: decoders that take all cores would only get in each other's way.
        stream.thread_type = "NONE"
        said = _coding(stream, path, coding)
        yield from linear_frames(
            _decoded(container, stream, path, fps, on_damage),
            curve=said.curve,
            primaries=said.primaries,
            size=size,
            name=str(path),
            on_damage=on_damage,
        )


def _coding(stream: Any, path: Path, coding: Curve | Literal["auto"]) -> _Coding:
    """Return the curve and primaries of a stream, by what it says of itself where `coding` is "auto"."""
    context = stream.codec_context
    primaries: Primaries = "bt2020" if int(context.color_primaries) == _BT2020 else "bt709"
    if coding != "auto":
        return _Coding(coding, primaries)
    said = int(context.color_trc)
    if said == _PQ:
        raise FrameError(
            f"{path} is coded for HDR displays (PQ, SMPTE ST 2084), which says nothing of the light in the scene; "
            "convert it to HLG or BT.709, or say coding= to read it as if it were coded otherwise"
        )
    rgb = context.format is not None and (context.format.is_rgb or context.format.has_palette)
    return _Coding(_CURVES.get(said, "srgb" if rgb else "bt709"), primaries)


def _decoded(
    container: Any, stream: Any, path: Path, fps: float | None, on_damage: OnDamage
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (time, picture) for every frame; notes where the stream breaks off."""
    av = require("av", "video")
    number = num_corrupt = 0
    t_us = 0
    end_s = 0.0
    frames = iter(container.decode(stream))
    while True:
        try:
            frame = next(frames, None)
        except av.FFmpegError as error:
            _broken(path, number, t_us, f"cannot be decoded: {_reason(error)}", on_damage)
            break
        if frame is None:
            _check_end(container, stream, path, number, t_us, end_s, on_damage)
            break
        if frame.is_corrupt:
            if on_damage == "raise":
                _broken(path, number, t_us, "is damaged", on_damage)
            num_corrupt += 1
        if frame.pts is not None:
            end_s = float((frame.pts + (frame.duration or 0)) * frame.time_base)
        elif fps is None:
            raise FrameError(f"{path}: frame {number} has no time (the one before is at {t_us} us); give fps=")
        t_us = round(number * 1e6 / fps) if fps is not None else round(frame.pts * frame.time_base * 1_000_000)
        if frame.interlaced_frame and number == 0:
            warnings.warn(f"{path} is interlaced: its lines are of two times; deinterlace it first", stacklevel=2)
        yield t_us, _upright(_picture(frame), frame.rotation, stream.sample_aspect_ratio)
        number += 1
    if num_corrupt:
        warnings.warn(f"{path}: {num_corrupt} of {number} frames are damaged and were kept as they are", stacklevel=2)


def _picture(frame: Any) -> NDArray[Any]:
    """Return (H, W) or (H, W, 3) RGB, uint8, or uint16 for frames of more than 8 bits."""
    deep = max((component.bits for component in frame.format.components), default=8) > 8
    if frame.format.name.startswith("gray"):
        return np.asarray(frame.to_ndarray(format="gray16le" if deep else "gray"))
    matrix = {}
    if int(frame.colorspace) == _UNSPECIFIED and frame.height >= _HD_HEIGHT:
        matrix = {"src_colorspace": _ITU709}
    return np.asarray(frame.to_ndarray(format="rgb48le" if deep else "rgb24", **matrix))


def _upright(picture: NDArray[Any], rotation: float, aspect: Any) -> NDArray[Any]:
    """Return the picture with square pixels, turned as the file says (degrees, counterclockwise)."""
    if aspect and aspect != 1:
        import cv2

        size = max(1, round(picture.shape[1] * float(aspect))), picture.shape[0]
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if aspect < 1 else cv2.INTER_LINEAR)
    turns = round(rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture


def _check_end(
    container: Any, stream: Any, path: Path, number: int, t_us: int, end_s: float, on_damage: OnDamage
) -> None:
    """Say so where the file promises more than came."""
    promised_s = None
    if stream.duration is not None:
        promised_s = float((stream.duration + (stream.start_time or 0)) * stream.time_base)
    elif container.duration is not None and len(container.streams) == 1:
        promised_s = container.duration / 1e6
    if not number or not end_s or promised_s is None:
        return
    frame_s = float(1 / stream.average_rate) if stream.average_rate else 0.0
    if promised_s - end_s > max(2 * frame_s, _END_TOLERANCE * promised_s):
        what = f"is not there: the file says that it lasts {promised_s:.3f} s and ends after {end_s:.3f} s"
        _broken(path, number, t_us, what, on_damage)


def _broken(path: Path, number: int, t_us: int, what: str, on_damage: OnDamage) -> None:
    read = f"the {number} frames before it, up to {t_us} us, could be read" if number else "nothing could be read"
    message = f"{path}: frame {number} {what}; {read}"
    if on_damage == "raise" or not number:
        raise FrameError(f"{message}. Is the file cut off? Mend it, or take what there is with on_damage=keep")
    warnings.warn(f"{message} and are kept", stacklevel=3)


def _reason(error: BaseException) -> str:
    with suppress(AttributeError):
        return str(error.strerror)  # type: ignore[attr-defined]
    return str(error)
