"""Plain HDF5: `events` as one (N, 4) table, or a group `events` or `raw_events` with one data set per column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from eventfm.events import Events, OnError, Sensor
from eventfm.io.columns import Columns, file_columns, guess_order, table_columns, to_microseconds
from eventfm.io.contract import FormatError, Reader, choose_sensor
from eventfm.io.hdf5_file import Hdf5File, h5py, reading, require_hdf5, stored
from eventfm.io.recording import ArrayRecording, ArrayTrack
from eventfm.protocols import Track

_GROUPS = ("events", "raw_events")
_FIELDS = {"x": ("x", "xs"), "y": ("y", "ys"), "t": ("t", "ts"), "p": ("p", "ps")}


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
            if isinstance(found, h5py.Group) and _names(found) is not None:
                return 0.6
        held = ", ".join(file) or "nothing"
    raise FormatError(
        f"it has neither a table (N, 4) nor columns x, y, t, p under {' or '.join(_GROUPS)}; it has {held}"
    )


def open_file(path: Path, sensor: Sensor | None, on_error: OnError) -> ArrayRecording:
    """Return the recording, in memory.

    Float times with a fraction are seconds. `image1` and `image2` with `start` and `stop` in seconds become a track
    `frames` of two. The sensor is the one stated (`height` and `width`, attribute `sensor_resolution`) or as large as
    the pictures.

    Raises:
        FormatError: No events are found, or the file is damaged.
    """
    require_hdf5(path)
    source = str(path)
    with reading(path):
        root = Hdf5File(path)["/"]
        tracks: dict[str, Track] = {}
        frames = _frame_pair(root, source)
        if frames is not None:
            tracks["frames"] = frames
        columns, stated = _columns(root, source)
        if stated is None and frames is not None:
            height, width = frames.read(0).shape[:2]
            stated = Sensor(width, height)
    size = choose_sensor(columns.x, columns.y, sensor, stated)
    return ArrayRecording(Events.checked(*columns, size, on_error=on_error, source=source), tracks, "hdf5")


def _columns(root: Any, source: str) -> tuple[Columns, Sensor | None]:
    for name in _GROUPS:
        found = root.get(name)
        if isinstance(found, h5py.Dataset) and found.ndim == 2 and found.shape[1] == 4:
            table = np.asarray(stored(root, name, ndim=2)[()])
            if table.dtype.kind not in "iuf":
                raise FormatError(f"{source}: expected a table of numbers, got {table.dtype}")
            return table_columns(table, guess_order(table[:1000].astype(np.float64)), source), _stated(root, found)
        names = _names(found) if isinstance(found, h5py.Group) else None
        if names is not None:
            named = {key: np.asarray(stored(found, field)[()]) for key, field in names.items()}
            return file_columns(named, source), _stated(root, found)
    raise FormatError(f"{source}: neither a table (N, 4) nor columns x, y, t, p under {' or '.join(_GROUPS)}")


def _names(group: Any) -> dict[str, str] | None:
    found = {key: next((name for name in known if name in group), None) for key, known in _FIELDS.items()}
    return None if None in found.values() else {key: str(name) for key, name in found.items()}


def _stated(root: Any, events: Any) -> Sensor | None:
    resolution = np.asarray(root.attrs.get("sensor_resolution", ())).reshape(-1)
    if len(resolution) >= 2:
        return Sensor(int(resolution[1]), int(resolution[0]))
    if isinstance(events, h5py.Group) and "height" in events and "width" in events:
        return Sensor(int(events["width"][()]), int(events["height"][()]))
    return None


def _frame_pair(root: Any, source: str) -> ArrayTrack | None:
    if not all(name in root for name in ("image1", "image2", "start", "stop")):
        return None
    pictures = [np.asarray(stored(root, name, ndim=root[name].ndim)[()]) for name in ("image1", "image2")]
    if any(picture.ndim not in (2, 3) or not picture.size for picture in pictures):
        raise FormatError(f"{source}: expected pictures as image1 and image2, got shapes {[p.shape for p in pictures]}")
    seconds = np.array([root["start"][()], root["stop"][()]], np.float64)
    return ArrayTrack(to_microseconds(seconds, source, "s"), pictures)


READER = Reader(sniff, open_file)
