"""Plain HDF5: `events` as one (N, 4) table, or a group `events` or `raw_events` with one data set per column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from eventfm.events import OnError, Sensor
from eventfm.io.columns import to_microseconds
from eventfm.io.contract import FormatError, Reader
from eventfm.io.hdf5_columns import Hdf5Columns, Hdf5Table, column_fields, stated_sensor
from eventfm.io.hdf5_file import Hdf5File, h5py, reading, require_hdf5, stored
from eventfm.io.recording import ArrayTrack
from eventfm.io.searched import SearchedRecording, Source, find_sensor
from eventfm.protocols import Track

_GROUPS = ("events", "raw_events")


def sniff(path: Path) -> float:
    """Return 0.6 for a file with one of the layouts.

    Raises:
        FormatError: It is no HDF5 file, or has another layout.
    """
    require_hdf5(path)
    with reading(path), h5py.File(path, "r") as file:
        for name in _GROUPS:
            found = file.get(name)
            if isinstance(found, h5py.Dataset) and found.ndim == 2 and found.shape[1] == 4:
                return 0.6
            if isinstance(found, h5py.Group) and column_fields(found) is not None:
                return 0.6
        held = ", ".join(file) or "nothing"
    raise FormatError(
        f"it has neither a table (N, 4) nor columns x, y, t, p under {' or '.join(_GROUPS)}; it has {held}"
    )


def open_file(path: Path, sensor: Sensor | None, on_error: OnError) -> SearchedRecording:
    """Return the recording, whose events are read when asked for.

    Float times with a fraction are seconds. `image1` and `image2` with `start` and `stop` in seconds become a track
    `frames` of two. The sensor is the one stated (`height` and `width`, attribute `sensor_resolution`) or as large as
    the pictures; else the coordinates are read once to find it.

    Raises:
        FormatError: No events are found, or the file is damaged.
    """
    require_hdf5(path)
    file = Hdf5File(path)
    with reading(path):
        source, stated = _source(file)
        tracks: dict[str, Track] = {}
        frames = _frame_pair(file["/"], str(path))
        if frames is not None:
            tracks["frames"] = frames
            if stated is None:
                height, width = frames.read(0).shape[:2]
                stated = Sensor(width, height)
    size = find_sensor(source, sensor, stated)
    return SearchedRecording(source, "hdf5", size, on_error, tracks)


def _source(file: Hdf5File) -> tuple[Source, Sensor | None]:
    root = file["/"]
    for name in _GROUPS:
        found = root.get(name)
        if isinstance(found, h5py.Dataset) and found.ndim == 2 and found.shape[1] == 4:
            return Hdf5Table(file, name), stated_sensor(root)
        fields = column_fields(found) if isinstance(found, h5py.Group) else None
        if fields is not None:
            return Hdf5Columns(file, fields), stated_sensor(root, found)
    raise FormatError(f"{file.path}: neither a table (N, 4) nor columns x, y, t, p under {' or '.join(_GROUPS)}")


def _frame_pair(root: Any, source: str) -> ArrayTrack | None:
    if not all(name in root for name in ("image1", "image2", "start", "stop")):
        return None
    pictures = [np.asarray(stored(root, name, ndim=root[name].ndim)[()]) for name in ("image1", "image2")]
    if any(picture.ndim not in (2, 3) or not picture.size for picture in pictures):
        raise FormatError(f"{source}: expected pictures as image1 and image2, got shapes {[p.shape for p in pictures]}")
    seconds = np.array([root["start"][()], root["stop"][()]], np.float64)
    return ArrayTrack(to_microseconds(seconds, source, "s"), pictures)


READER = Reader(sniff, open_file)
