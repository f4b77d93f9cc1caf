"""MVSEC `*_data.hdf5` files (Zhu et al., RA-L 2018): the left camera."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from eventfm.events import Events, OnError, Sensor
from eventfm.io.columns import Columns, table_columns, to_microseconds
from eventfm.io.contract import FormatError, Reader
from eventfm.io.hdf5_file import Hdf5File, Hdf5Track, h5py, reading, require_hdf5, stored
from eventfm.io.recording import ArrayRecording, as_track_times
from eventfm.protocols import Track

_CAMERA = "davis/left"
_SENSOR = Sensor(346, 260, "MVSEC")
_TRACKS = {"frames": ("image_raw", "image_raw_ts"), "imu": ("imu", "imu_ts")}
_SLICE = 1_000_000


def sniff(path: Path) -> float:
    """Return 1 for a file with `davis/left/events`.

    Raises:
        FormatError: It is no HDF5 file, or has another layout.
    """
    require_hdf5(path)
    with reading(path), h5py.File(path, "r") as file:
        if f"{_CAMERA}/events" not in file:
            raise FormatError(f"it has no {_CAMERA}/events")
    return 1.0


def open_file(path: Path, sensor: Sensor | None, on_error: OnError) -> ArrayRecording:
    """Return the recording: events in memory, tracks `frames` and `imu` read when asked for. Sensor 346x260."""
    require_hdf5(path)
    file = Hdf5File(path)
    with reading(path):
        camera = file[_CAMERA]
        columns = _columns(stored(camera, "events", ndim=2), str(path))
        tracks: dict[str, Track] = {}
        for name, (data, times) in _TRACKS.items():
            if data in camera and times in camera:
                seconds = np.asarray(stored(camera, times)[()])
                track_times = as_track_times(to_microseconds(seconds, f"{path}, {times}", "s"))
                if len(camera[data]) != len(track_times):
                    raise FormatError(f"{path}: {len(camera[data])} entries of {data} with {len(track_times)} times")
                tracks[name] = Hdf5Track(file, f"{_CAMERA}/{data}", track_times)
    events = Events.checked(*columns, sensor or _SENSOR, on_error=on_error, source=str(path))
    return ArrayRecording(events, tracks, "mvsec")


def _columns(table: Any, source: str) -> Columns:
    """Return the columns of an (N, 4) float64 data set [x, y, t, p], read slice by slice, as it is large."""
    if table.shape[1] != 4:
        raise FormatError(f"{source}: expected events of shape (N, 4), got {table.shape}")
    parts = []
    for start in range(0, len(table), _SLICE):
        part = table_columns(np.asarray(table[start : start + _SLICE]), "xytp", source, "s")
        # float32 holds pixels exactly, and values that are out of range stay so, to be refused later.
        parts.append(Columns(part.x.astype(np.float32), part.y.astype(np.float32), part.t, part.p.astype(np.float32)))
    if not parts:
        return Columns(*np.empty((4, 0), np.int64))
    x, y, t, p = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Columns(x, y, t, p)


READER = Reader(sniff, open_file)
