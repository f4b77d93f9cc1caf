"""MVSEC `*_data.hdf5` files (Zhu et al., RA-L 2018): the left camera."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eventfm.events import OnError, Sensor
from eventfm.io.columns import to_microseconds
from eventfm.io.contract import FormatError, Reader
from eventfm.io.hdf5_columns import Hdf5Table
from eventfm.io.hdf5_file import Hdf5File, Hdf5Track, h5py, reading, require_hdf5, stored
from eventfm.io.recording import as_track_times
from eventfm.io.searched import SearchedRecording
from eventfm.protocols import Track

_CAMERA = "davis/left"
_SENSOR = Sensor(346, 260, "MVSEC")
_TRACKS = {"frames": ("image_raw", "image_raw_ts"), "imu": ("imu", "imu_ts")}


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


def open_file(path: Path, sensor: Sensor | None, on_error: OnError) -> SearchedRecording:
    """Return the recording with tracks `frames` and `imu`, all read when asked for. Sensor 346x260.

    Times are float64 seconds since 1970, whose steps of 0.24 us leave the nearest microsecond certain.
    """
    require_hdf5(path)
    file = Hdf5File(path)
    with reading(path):
        camera = file[_CAMERA]
        source = Hdf5Table(file, f"{_CAMERA}/events", "xytp", "s")
        tracks: dict[str, Track] = {}
        for name, (data, times) in _TRACKS.items():
            if data in camera and times in camera:
                seconds = np.asarray(stored(camera, times)[()])
                track_times = as_track_times(to_microseconds(seconds, f"{path}, {times}", "s"))
                if len(camera[data]) != len(track_times):
                    raise FormatError(f"{path}: {len(camera[data])} entries of {data} with {len(track_times)} times")
                tracks[name] = Hdf5Track(file, f"{_CAMERA}/{data}", track_times)
    return SearchedRecording(source, "mvsec", sensor or _SENSOR, on_error, tracks)


READER = Reader(sniff, open_file)
