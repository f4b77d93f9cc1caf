"""HDF5 files of event-vision-library: `raw_events/{x, y, t, p}`, times in seconds."""

from __future__ import annotations

from pathlib import Path

from eventfm.events import OnError, Sensor
from eventfm.io.contract import FormatError, Reader
from eventfm.io.hdf5_columns import Hdf5Columns, column_fields
from eventfm.io.hdf5_file import Hdf5File, h5py, reading, require_hdf5
from eventfm.io.searched import SearchedRecording, find_sensor


def sniff(path: Path) -> float:
    """Return 0.8 for `raw_events/{x, y, t, p}`.

    Raises:
        FormatError: It is no HDF5 file, or has another layout.
    """
    require_hdf5(path)
    with reading(path), h5py.File(path, "r") as file:
        events = file.get("raw_events")
        if not (isinstance(events, h5py.Group) and column_fields(events)):
            raise FormatError("it has no raw_events/{x,y,t,p}")
    return 0.8


def open_file(path: Path, sensor: Sensor | None, on_error: OnError) -> SearchedRecording:
    """Return the recording, read when asked for; the file states no size, so the coordinates are read once to find it.

    Raises:
        FormatError: The file is damaged or cut off.
    """
    require_hdf5(path)
    file = Hdf5File(path)
    with reading(path):
        fields = column_fields(file["raw_events"])
        if fields is None:
            raise FormatError(f"{path}: no raw_events/{{x,y,t,p}}")
        source = Hdf5Columns(file, fields)
    return SearchedRecording(source, "evlib", find_sensor(source, sensor), on_error)


READER = Reader(sniff, open_file)
