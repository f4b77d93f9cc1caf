"""GEN1 and 1Mpx recordings as RVT converts them (Gehrig and Scaramuzza, CVPR 2023): `events/{x, y, t, p}` with size.

Time may go backwards in them; `on_error="clamp"` reads them as RVT does, with the latest time so far.
"""

from __future__ import annotations

from pathlib import Path

from eventfm.events import OnError, Sensor
from eventfm.io.contract import FormatError, Reader
from eventfm.io.hdf5_columns import Hdf5Columns, column_fields, stated_sensor
from eventfm.io.hdf5_file import Hdf5File, h5py, reading, require_hdf5
from eventfm.io.searched import SearchedRecording, find_sensor


def sniff(path: Path) -> float:
    """Return 0.8 for `events/{x, y, t, p, height, width}`.

    Raises:
        FormatError: It is no HDF5 file, or has another layout.
    """
    require_hdf5(path)
    with reading(path), h5py.File(path, "r") as file:
        events = file.get("events")
        if not (isinstance(events, h5py.Group) and all(name in events for name in (*"xytp", "height", "width"))):
            raise FormatError("it has no events/{x,y,t,p,height,width}")
    return 0.8


def open_file(path: Path, sensor: Sensor | None, on_error: OnError) -> SearchedRecording:
    """Return the recording, read when asked for; the file states the size.

    Raises:
        FormatError: The file is damaged or cut off.
    """
    require_hdf5(path)
    file = Hdf5File(path)
    with reading(path):
        events = file["events"]
        fields = column_fields(events)
        if fields is None:
            raise FormatError(f"{path}: no events/{{x,y,t,p}}")
        source = Hdf5Columns(file, fields)
        stated = stated_sensor(file["/"], events)
    return SearchedRecording(source, "rvt", find_sensor(source, sensor, stated), on_error)


READER = Reader(sniff, open_file)
