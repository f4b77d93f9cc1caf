"""DSEC `events.h5` files (Gehrig et al., RA-L 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from eventfm.events import OnError, Sensor
from eventfm.io.contract import FormatError, Reader
from eventfm.io.hdf5_file import Hdf5File, h5py, reading, require_hdf5
from eventfm.io.indexed import IndexedRecording
from eventfm.io.sensor_attributes import read_sensor
from eventfm.protocols import Track

_SENSOR = Sensor(640, 480, "DSEC")


def sniff(path: Path) -> float:
    """Return 0.9 for `events/{x, y, t, p}` with `ms_to_idx` and `t_offset`.

    Raises:
        FormatError: It is no HDF5 file, or has another layout.
    """
    require_hdf5(path)
    with reading(path), h5py.File(path, "r") as file:
        events = file.get("events")
        named = isinstance(events, h5py.Group) and all(name in events for name in "xytp")
        if not (named and "ms_to_idx" in file and "t_offset" in file):
            raise FormatError("it has no events/{x,y,t,p} with ms_to_idx and t_offset")
    return 0.9


def open_file(
    path: Path, sensor: Sensor | None, on_error: OnError, tracks: Mapping[str, Track] | None = None
) -> IndexedRecording:
    """Return the recording with `tracks`, read when asked for.

    The sensor is that of DSEC, 640x480, or the one that eventfm noted when it wrote the file.

    Raises:
        FormatError: The file is damaged or cut off.
    """
    require_hdf5(path)
    file = Hdf5File(path)
    with reading(path):
        stated = read_sensor(file["/"]) or _SENSOR
    return IndexedRecording(file, "/", "dsec", sensor or stated, on_error, dict(tracks or {}))


READER = Reader(sniff, open_file)
