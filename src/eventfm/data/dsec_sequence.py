"""Sequence folders of DSEC (Gehrig et al., RA-L 2021): events of the left camera, and frames as that camera sees them.

In a sequence lie `events/left/events.h5` with `rectify_map.h5`; frames of 1440x1080 in `images/left/rectified`, which
`calibration/cam_to_cam.yaml` tells to warp (`alignment`), or of 640x480 in `images/left/distorted`, which were warped
already (DSEC-Detection) and are taken first; and the times of frames, microseconds: start and end of each exposure in
`images/left/exposure_timestamps.txt`, or the mean middle of both cameras' in `images/timestamps.txt`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventfm.data.alignment import DSEC_SITE, CalibrationError, WarpedTrack, dsec_warp
from eventfm.data.windows import require_frame_size
from eventfm.events import OnError
from eventfm.io import FormatError
from eventfm.io.dsec import open_file
from eventfm.io.recording import PictureTrack
from eventfm.protocols import Recording, Track

_EVENTS = "events/left/events.h5"
_DEPTHS = ("", "*/", "*/*/")
"""A sequence, a folder of them, or one of splits."""


def find_sequences(root: Path) -> tuple[str, ...]:
    """Return the sequences with pictures at `root`, relative to it, in order of name: it may be one, or hold them.

    Sequences without pictures are passed over with a warning where there are others with them.
    """
    if not root.is_dir():
        return ()
    folders = sorted({path.parents[2] for depth in _DEPTHS for path in root.glob(depth + _EVENTS)})
    found = [folder for folder in folders if _pictures(folder)]
    if found and len(found) < len(folders):
        blind = next(folder for folder in folders if folder not in found)
        warnings.warn(
            f"{len(folders) - len(found)} of {len(folders)} sequences of DSEC in {root} have no pictures and are "
            f"passed over, e.g. {blind.name}; download <sequence>_images_rectified_left.zip from {DSEC_SITE}",
            stacklevel=4,
        )
    return tuple("" if folder == root else folder.relative_to(root).as_posix() for folder in found)


class Parts(NamedTuple):
    """The files of a sequence."""

    events: Path
    pictures: Sequence[Path]
    times: Path
    """Of the pictures: start and end of each exposure, or one time of each."""
    calibration: Path | None = None
    """What pictures are warped by; None where they were warped already."""
    rectify_map: Path | None = None


def open_sequence(folder: Path, on_error: OnError = "raise") -> Recording:
    """Return one sequence, its track `frames` pixel by pixel that of the event camera, but for parallax.

    Raises:
        CalibrationError: A calibration is missing, or does not fit the events or frames.
        FormatError: Timestamps are missing or do not fit the pictures, or the events are damaged.
        WindowError: Distorted frames are not as large as the sensor.
    """
    pictures = _pictures(folder)
    if not pictures:
        raise FormatError(f"expected pictures in {folder / 'images/left/rectified'}; download them from {DSEC_SITE}")
    events = folder / _EVENTS
    parts = Parts(events, pictures, _list_of_times(folder))
    if pictures[0].parent.name == "rectified":
        parts = parts._replace(
            calibration=folder / "calibration/cam_to_cam.yaml", rectify_map=events.with_name("rectify_map.h5")
        )
    return open_parts(parts, on_error)


def open_parts(parts: Parts, on_error: OnError = "raise") -> Recording:
    """Return `open_sequence` of files that lie anywhere.

    Raises:
        CalibrationError: A calibration is missing, or does not fit the events or frames.
        FormatError: Timestamps do not fit the pictures, or the events are damaged.
        WindowError: Frames that were warped already are not as large as the sensor.
    """
    times = _times(parts.times)
    if len(times) != len(parts.pictures):
        raise FormatError(
            f"expected a picture for each of {len(times)} timestamps in {parts.times}, got {len(parts.pictures)} in "
            f"{parts.pictures[0].parent.name}; were they all unpacked?"
        )
    frames: Track = PictureTrack(times, parts.pictures)
    sensor = open_file(parts.events, None, on_error).sensor
    if parts.calibration is not None:
        warp = dsec_warp(parts.calibration, parts.rectify_map)
        if warp.seen.shape != (sensor.height, sensor.width):
            raise CalibrationError(
                f"expected {parts.rectify_map} of {sensor.width}x{sensor.height} pixels, got "
                f"{warp.seen.shape[1]}x{warp.seen.shape[0]}; download it anew from {DSEC_SITE}"
            )
        frames = WarpedTrack(frames, warp)
    # A frame that does not fit is told before a run is begun.
    require_frame_size(sensor, frames.read(0).shape[:2])
    return open_file(parts.events, None, on_error, {"frames": frames})


def _pictures(folder: Path) -> list[Path]:
    """Return the frames of the left camera, those that were warped already where there are such."""
    for kind in ("distorted", "rectified"):
        if found := sorted((folder / "images/left" / kind).glob("*.png")):
            return found
    return []


def _list_of_times(folder: Path) -> Path:
    """Return the file with the times of frames, that of exposures where there is one."""
    exposures, unified = folder / "images/left/exposure_timestamps.txt", folder / "images/timestamps.txt"
    if exposures.is_file():
        return exposures
    if unified.is_file():
        return unified
    raise FormatError(
        f"expected the times of frames in {exposures} or {unified}; download <sequence>_image_timestamps.txt from "
        f"{DSEC_SITE} and name it so"
    )


def _times(path: Path) -> NDArray[np.int64]:
    """Return the middle of each exposure, microseconds."""
    if "exposure" not in path.name.lower():
        return _numbers(path, 1)[:, 0]
    start, end = _numbers(path, 2).T
    return np.asarray(start + (end - start) // 2, np.int64)


def _numbers(path: Path, columns: int) -> NDArray[np.int64]:
    rows = [line.split("#")[0].replace(",", " ").split() for line in path.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row]
    if any(len(row) != columns or not all(word.isdecimal() for word in row) for row in rows):
        raise FormatError(f"{path}: expected {columns} whole numbers of microseconds on every line")
    return np.array(rows, np.int64).reshape(-1, columns)
