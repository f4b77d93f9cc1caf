"""Pictures to a video file, frame by frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from eventfm.registry import MissingExtraError, require
from eventfm.visualization.panel import Picture

_CRF = "18"
"""Constant rate factor of H.264 at which thin lines and flat colours stay what they are."""


class VideoError(OSError):
    """Raised when a video could not be written; what stood at its path before still stands there."""


class _SourceError(Exception):
    """Raised where what makes the frames failed, however; the cause says how."""


def write_video(path: str | Path, frames: Iterable[Picture], fps: float = 20.0, codec: str = "libx264") -> Path:
    """Write `frames`, each (H, W, 3) uint8 of one size, as MP4, all or nothing, and return the path of the file.

    Frames are taken as they are needed. Sides of odd length get one more white pixel, for the format has none.

    Args:
        path: The file to write; one that is there is replaced.
        frames: The pictures.
        fps: Frames per second.
        codec: An encoder of FFmpeg; H.264 plays everywhere.

    Raises:
        MissingExtraError: PyAV is not installed, or it was built without the encoder.
        VideoError: The system refused: disk full, folder missing or not writable.
        ValueError: No frames, frames of several sizes or of another kind, or a rate that is none.
    """
    if not 0 < fps < float("inf"):
        raise ValueError(f"expected a rate above 0 frames per second, got {fps}")
    av = require("av", "video")
    target = Path(path)
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        # Opened here and not by FFmpeg, so that a disk that is full says so itself.
        with temporary.open("wb") as file:
            _encode(av, file, _told_apart(frames), Fraction(fps).limit_denominator(65535), codec)
        temporary.replace(target)
    except _SourceError as error:
        raise (error.__cause__ or error) from None
    except OSError as error:
        said = f"could not write {target}: {error.strerror or error}; what was there before is unchanged"
        raise VideoError(error.errno, said) from error
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _told_apart(frames: Iterable[Picture]) -> Iterator[Picture]:
    """Yield `frames`; a file that they cannot be read from is not one that cannot be written to."""
    try:
        yield from frames
    except OSError as error:
        raise _SourceError from error


def _encode(av: Any, file: Any, frames: Iterable[Picture], rate: Fraction, codec: str) -> None:
    shape: tuple[int, ...] | None = None
    with av.open(file, "w", format="mp4") as container:
        try:
            stream = container.add_stream(codec, rate=rate, options={"crf": _CRF} if "264" in codec else {})
        except (av.codec.codec.UnknownCodecError, av.error.EncoderNotFoundError) as error:
            raise MissingExtraError(
                f"this build of PyAV has no encoder {codec!r}; pip install 'eventfm[video]' brings one with H.264, or "
                "name another codec, such as 'mpeg4'"
            ) from error
        stream.pix_fmt = "yuv420p"
        for number, frame in enumerate(frames):
            _check(frame, number, shape)
            if shape is None:
                shape = frame.shape
                stream.height, stream.width = (side + side % 2 for side in shape[:2])
            odd = ((0, shape[0] % 2), (0, shape[1] % 2), (0, 0))
            even = np.ascontiguousarray(np.pad(frame, odd, constant_values=255))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        if shape is None:
            raise ValueError("expected one frame or more, got none")
        container.mux(stream.encode())


def _check(frame: Picture, number: int, shape: tuple[int, ...] | None) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
        raise ValueError(
            f"expected frames (H, W, 3) uint8, got {frame.dtype} of shape {frame.shape} for frame {number}"
        )
    if shape is not None and frame.shape != shape:
        raise ValueError(
            f"expected frames of one size, got {frame.shape[1]}x{frame.shape[0]} for frame {number} after "
            f"{shape[1]}x{shape[0]}"
        )
