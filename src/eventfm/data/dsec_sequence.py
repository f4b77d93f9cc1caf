"""Sequence folders of DSEC (Gehrig et al., RA-L 2021): events of the left camera, and frames as that camera sees them.

In a sequence lie `events/left/events.h5` with `rectify_map.h5`; frames of 1440x1080 in `images/left/rectified`, which
`calibration/cam_to_cam.yaml` tells to warp (`alignment`), or of 640x480 in `images/left/distorted`, which were warped
already (DSEC-Detection) and are taken first; and the times of frames, microseconds: start and end of each exposure in
`images/left/exposure_timestamps.txt`, or the mean middle of both cameras' in `images/timestamps.txt`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventfm.data.alignment import CalibrationError, FrameWarp, dsec_warp
from eventfm.data.collection import Collection, Entry
from eventfm.data.table import CollectionError, class_names, read_table
from eventfm.data.windows import require_frame_size
from eventfm.events import OnError
from eventfm.io import FormatError
from eventfm.io.dsec import open_file
from eventfm.io.recording import PictureTrack
from eventfm.protocols import Recording, Track

_EVENTS = "events/left/events.h5"
_SITE = "https://dsec.ifi.uzh.ch/dsec-datasets/download/"
_DEPTHS = ("", "*/", "*/*/")
"""A sequence, a folder of them, or one of splits."""


@dataclass(frozen=True, eq=False)
class WarpedTrack:
    """Frames of another camera, each warped when it is read."""

    frames: Track
    warp: FrameWarp

    @property
    def times(self) -> NDArray[np.int64]:
        """Microseconds of each frame."""
        return self.frames.times

    def __len__(self) -> int:
        return len(self.frames.times)

    def read(self, i: int) -> NDArray[Any]:
        """Return frame `i` as the event camera sees it, 0 where the frame does not reach."""
        return self.warp(self.frames.read(i))


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
            f"passed over, e.g. {blind.name}; download <sequence>_images_rectified_left.zip from {_SITE}",
            stacklevel=4,
        )
    return tuple("" if folder == root else folder.relative_to(root).as_posix() for folder in found)


def open_sequences(
    root: Path, names: tuple[str, ...], table: str | Path | None = None, on_error: OnError = "raise"
) -> Collection:
    """Return the sequences `names` in `root` as a collection, or those of them that a `table` names.

    Raises:
        CollectionError: The table names what is not there.
        CalibrationError: A calibration is missing.
        FormatError: Timestamps are missing or do not fit the pictures, or the events are damaged.
    """
    rows = read_table(Path(table)) if table is not None else [{"path": name} for name in names]
    if strangers := [row["path"] for row in rows if row["path"] not in names]:
        raise CollectionError(
            f"the table {table} names {strangers[0]!r}, and the sequences of DSEC with pictures in {root} are "
            f"{', '.join(names)}"
        )
    if any(row.get("picture") for row in rows):
        raise CollectionError(f"{table}: sequences of DSEC have frames; leave the column picture out")
    classes = class_names(rows)
    entries = [
        Entry(
            row["path"],
            open_sequence(root / row["path"], on_error),
            classes.index(row["label"]) if row.get("label") else None,
            row.get("split") or "",
            int(row["fold"]) if row.get("fold") else None,
        )
        for row in rows
    ]
    return Collection(tuple(entries), classes)


def open_sequence(folder: Path, on_error: OnError = "raise") -> Recording:
    """Return one sequence, its track `frames` pixel by pixel that of the event camera, but for parallax.

    Raises:
        CalibrationError: A calibration is missing, or does not fit the events or frames.
        FormatError: Timestamps are missing or do not fit the pictures, or the events are damaged.
        WindowError: Distorted frames are not as large as the sensor.
    """
    pictures = _pictures(folder)
    if not pictures:
        raise FormatError(f"expected pictures in {folder / 'images/left/rectified'}; download them from {_SITE}")
    times = _times(folder)
    if len(times) != len(pictures):
        raise FormatError(
            f"expected a picture for each of {len(times)} timestamps in {folder / 'images'}, got {len(pictures)} in "
            f"{pictures[0].parent.name}; were they all unpacked?"
        )
    frames: Track = PictureTrack(times, pictures)
    sensor = open_file(folder / _EVENTS, None, on_error).sensor
    if pictures[0].parent.name == "rectified":
        events = folder / "events/left"
        warp = dsec_warp(folder / "calibration/cam_to_cam.yaml", events / "rectify_map.h5")
        if warp.seen.shape != (sensor.height, sensor.width):
            raise CalibrationError(
                f"expected {events / 'rectify_map.h5'} of {sensor.width}x{sensor.height} pixels, got "
                f"{warp.seen.shape[1]}x{warp.seen.shape[0]}; download it anew from {_SITE}"
            )
        frames = WarpedTrack(frames, warp)
    # A frame that does not fit is told before a run is begun.
    require_frame_size(sensor, frames.read(0).shape[:2])
    return open_file(folder / _EVENTS, None, on_error, {"frames": frames})


def _pictures(folder: Path) -> list[Path]:
    """Return the frames of the left camera, those that were warped already where there are such."""
    for kind in ("distorted", "rectified"):
        if found := sorted((folder / "images/left" / kind).glob("*.png")):
            return found
    return []


def _times(folder: Path) -> NDArray[np.int64]:
    """Return the middle of each exposure, microseconds."""
    exposures, unified = folder / "images/left/exposure_timestamps.txt", folder / "images/timestamps.txt"
    if exposures.is_file():
        start, end = _numbers(exposures, 2).T
        return np.asarray(start + (end - start) // 2, np.int64)
    if unified.is_file():
        return _numbers(unified, 1)[:, 0]
    raise FormatError(
        f"expected the times of frames in {exposures} or {unified}; download <sequence>_image_timestamps.txt from "
        f"{_SITE} and name it so"
    )


def _numbers(path: Path, columns: int) -> NDArray[np.int64]:
    rows = [line.split("#")[0].replace(",", " ").split() for line in path.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row]
    if any(len(row) != columns or not all(word.isdecimal() for word in row) for row in rows):
        raise FormatError(f"{path}: expected {columns} whole numbers of microseconds on every line")
    return np.array(rows, np.int64).reshape(-1, columns)
