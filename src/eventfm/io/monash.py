"""HDF5 files of event_utils (Stoffregen et al., ECCV 2020), the layout of e2vid++ and Monash: events, pictures, flow.

`events/{xs, ys, ts, ps}` with times in seconds; `images/*` and `flow/*` hold one data set per entry, in the order of
their names, with its time as attribute `timestamp`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventfm.events import OnError, Sensor
from eventfm.io.columns import to_microseconds
from eventfm.io.contract import FormatError, Reader
from eventfm.io.hdf5_columns import Hdf5Columns, stated_sensor
from eventfm.io.hdf5_file import Hdf5File, h5py, reading, require_hdf5, stored
from eventfm.io.recording import as_track_times
from eventfm.io.searched import SearchedRecording, find_sensor
from eventfm.protocols import Track

_FIELDS = {"x": "events/xs", "y": "events/ys", "t": "events/ts", "p": "events/ps"}
_TRACKS = {"frames": "images", "flow": "flow"}


class _NamedTrack:
    """Entries in data sets of their own: pictures (H, W) or (H, W, 3) RGB, flow as stored."""

    def __init__(self, file: Hdf5File, group: str, is_picture: bool) -> None:
        self._file = file
        self._is_picture = is_picture
        found = file[group]
        names = sorted(found)
        seconds = np.array([float(found[name].attrs["timestamp"]) for name in names], np.float64)
        self._names = [f"{group}/{name}" for name in names]
        self.times = as_track_times(to_microseconds(seconds, f"{file.path}, {group}", "s"))

    def __len__(self) -> int:
        return len(self.times)

    def read(self, i: int) -> NDArray[Any]:
        """Return entry `i`; the writer keeps pictures in OpenCV's order of colours."""
        with reading(self._file.path):
            name = self._names[i]
            entry = np.asarray(stored(self._file["/"], name, ndim=self._file[name].ndim)[()])
        if not self._is_picture:
            return entry
        if entry.ndim == 3 and entry.shape[2] == 1:
            return entry[..., 0]
        if entry.ndim not in (2, 3) or (entry.ndim == 3 and entry.shape[2] != 3):
            raise FormatError(f"{self._file.path}: expected a picture as {name}, got shape {entry.shape}")
        return entry if entry.ndim == 2 else np.ascontiguousarray(entry[..., ::-1])


def sniff(path: Path) -> float:
    """Return 0.8 for `events/{xs, ys, ts, ps}`.

    Raises:
        FormatError: It is no HDF5 file, or has another layout.
    """
    require_hdf5(path)
    with reading(path), h5py.File(path, "r") as file:
        if not all(isinstance(file.get(name), h5py.Dataset) for name in _FIELDS.values()):
            raise FormatError("it has no events/{xs,ys,ts,ps}")
    return 0.8


def open_file(path: Path, sensor: Sensor | None, on_error: OnError) -> SearchedRecording:
    """Return the recording with tracks `frames` and `flow`, all read when asked for.

    The attribute `sensor_resolution` (height, width) says the size; else it is that of the pictures.

    Raises:
        FormatError: The file is damaged or cut off.
    """
    require_hdf5(path)
    file = Hdf5File(path)
    with reading(path):
        root = file["/"]
        source = Hdf5Columns(file, _FIELDS)
        tracks: dict[str, Track] = {}
        for name, group in _TRACKS.items():
            if isinstance(root.get(group), h5py.Group) and len(root[group]):
                tracks[name] = _NamedTrack(file, group, name == "frames")
        stated = stated_sensor(root)
    if stated is None and "frames" in tracks:
        height, width = tracks["frames"].read(0).shape[:2]
        stated = Sensor(width, height)
    return SearchedRecording(source, "monash", find_sensor(source, sensor, stated), on_error, tracks)


READER = Reader(sniff, open_file)
