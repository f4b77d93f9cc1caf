"""DDD17 as ESS packed it for segmentation (Sun et al., ECCV 2022): a folder for each recording, `dir0`, `dir1`, ...

`events.dat.t` holds the times, int64 nanoseconds, and `events.dat.xyp` the rest, (N, 3) int16, both without a header.
`index/index_50ms.npy` (or 10, or 250) has a row for each frame of the camera: its time in nanoseconds, and up to and
from which event a sample of that length goes. Pictures are numbered from 1: `segmentation_00000007.png` in
`segmentation_masks` labels frame 7, the seventh row. Labels are of the upper 200 rows, as Ev-SegNet cut them. `imgs`
has the frames, once the video of the folder is unpacked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventfm.events import OnError, Sensor
from eventfm.io.columns import Columns, file_columns
from eventfm.io.contract import FormatError, Reader
from eventfm.io.npy_columns import NpyFile
from eventfm.io.recording import PictureTrack
from eventfm.io.searched import SearchedRecording, find_sensor
from eventfm.protocols import Track

CLASSES = ("flat", "background", "object", "vegetation", "human", "vehicle")
NOT_LABELLED = 255
_TIMES, _REST = "events.dat.t", "events.dat.xyp"
_INDICES = tuple(f"index/index_{length}ms.npy" for length in (50, 10, 250))
_SENSOR = Sensor(346, 260, "DAVIS346")
_NS = 1000
_NUMBER = re.compile(r"(\d{1,18})\.png")


def sniff(path: Path) -> float:
    """Return 1 for a folder with events.dat.t and events.dat.xyp.

    Raises:
        FormatError: It is none.
    """
    if not path.is_dir():
        raise FormatError("it is no folder")
    if not all((path / name).is_file() for name in (_TIMES, _REST)):
        raise FormatError(f"the folder has no {_TIMES} and {_REST}")
    return 1.0


def open_folder(path: Path, sensor: Sensor | None, on_error: OnError) -> SearchedRecording:
    """Return the recording, mapped into memory, with the tracks `semantic` and `frames` that it has.

    Raises:
        FormatError: A file is damaged or cut off, or the index has no time for a picture.
    """
    sniff(path)
    source = EssEvents(path / _TIMES, path / _REST)
    size = find_sensor(source, sensor, _SENSOR)
    tracks: dict[str, Track] = {}
    if masks := _pictures(path / "segmentation_masks"):
        tracks["semantic"] = MaskTrack(_track(path, masks), size)
    if frames := _pictures(path / "imgs"):
        tracks["frames"] = _track(path, frames)
    return SearchedRecording(source, "ess", size, on_error, tracks)


class EssEvents:
    """The columns of both files; nanoseconds are cut to whole microseconds.

    Raises:
        FormatError: A file is cut off.
    """

    def __init__(self, times: Path, rest: Path) -> None:
        self.name = str(times)
        self._times = NpyFile(times, (np.int64, (1,)))
        self._rest = NpyFile(rest, (np.int16, (3,)))
        shapes = self._times.shape, self._rest.shape
        if shapes != ((len(self), 1), (len(self), 3)):
            raise FormatError(
                f"{times}: expected {times.name} and {rest.name} of shapes (N, 1) and (N, 3), got {shapes[0]} and "
                f"{shapes[1]}; is one cut off?"
            )

    def __len__(self) -> int:
        return len(self._times)

    def read(self, start: int, stop: int) -> Columns:
        """Return events `start` to `stop`."""
        x, y, p = self._rest[start:stop].T
        return file_columns({"x": x, "y": y, "t": self._times[start:stop].reshape(-1) // _NS, "p": p}, self.name, "us")

    def time(self, i: int) -> int:
        """Return the time of event `i` in microseconds."""
        return int(self._times[i].item()) // _NS


class MaskTrack:
    """Labels as large as the sensor, (H, W) uint8: numbers in `CLASSES`, 255 below the rows that are labelled."""

    classes = CLASSES

    def __init__(self, pictures: PictureTrack, sensor: Sensor) -> None:
        self._pictures = pictures
        self._shape = (sensor.height, sensor.width)
        self.times = pictures.times

    def __len__(self) -> int:
        return len(self._pictures)

    def read(self, i: int) -> NDArray[Any]:
        """Return mask `i`.

        Raises:
            FormatError: The file is gone, is not a picture, or does not fit the sensor.
        """
        picture = self._pictures.read(i)
        mask = picture if picture.ndim == 2 else picture[..., 0]
        height, width = mask.shape
        if mask.dtype != np.uint8 or height > self._shape[0] or width != self._shape[1]:
            raise FormatError(
                f"{self._pictures.paths[i]}: expected labels of 8 bits, {self._shape[1]} pixels wide and at most "
                f"{self._shape[0]} high, got {mask.dtype} of {width}x{height}"
            )
        out = np.full(self._shape, NOT_LABELLED, np.uint8)
        out[:height] = mask
        return out


def _pictures(folder: Path) -> dict[int, Path]:
    """Return the pictures of a folder by number, in order; none where there is no such folder."""
    found = {int(named[1]): path for path in folder.glob("*.png") if (named := _NUMBER.search(path.name))}
    return dict(sorted(found.items()))


def _track(folder: Path, pictures: dict[int, Path]) -> PictureTrack:
    index = next((folder / name for name in _INDICES if (folder / name).is_file()), None)
    if index is None:
        raise FormatError(f"{folder}: expected {_INDICES[0]} with the times of {len(pictures)} pictures")
    return PictureTrack(picture_times(index, list(pictures)), list(pictures.values()))


def picture_times(index: Path, numbers: Sequence[int]) -> NDArray[np.int64]:
    """Return the times of pictures by their numbers, microseconds: that of picture n stands in row n - 1 of the index.

    Raises:
        FormatError: The index is damaged, or has no time for one of them.
    """
    table = NpyFile(index)
    if len(table.shape) != 2 or not table.shape[1] or table.dtype.kind not in "iu":
        raise FormatError(f"{index}: expected rows of whole numbers, got {table.dtype} of shape {table.shape}")
    first, last = min(numbers), max(numbers)
    if first < 1 or last > len(table):
        raise FormatError(f"{index}: expected times of pictures {first} to {last}, got 1 to {len(table)}")
    return np.asarray(table[:][np.asarray(numbers) - 1, 0] // _NS, np.int64)


READER = Reader(sniff, open_folder)
