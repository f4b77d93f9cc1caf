"""M3ED `*_data.h5` files (Chaney et al., CVPR Workshops 2023): the left event camera."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from eventfm.events import OnError, Sensor
from eventfm.io.contract import FormatError, Reader
from eventfm.io.hdf5_file import Hdf5File, h5py, reading, require_hdf5, stored
from eventfm.io.indexed import IndexedRecording, Names
from eventfm.protocols import Track

_CAMERA = "prophesee/left"
_INDEX = "ms_map_idx"


def sniff(path: Path) -> float:
    """Return 1 for a file with `prophesee/left/{x, y, t, p}` and `ms_map_idx`.

    Raises:
        FormatError: It is no HDF5 file, or has another layout.
    """
    require_hdf5(path)
    with reading(path), h5py.File(path, "r") as file:
        if f"{_CAMERA}/{_INDEX}" not in file:
            raise FormatError(f"it has no {_CAMERA}/{_INDEX}")
    return 1.0


def open_file(
    path: Path, sensor: Sensor | None, on_error: OnError, tracks: Mapping[str, Track] | None = None
) -> IndexedRecording:
    """Return the recording with `tracks`, read when asked for. The calibration in the file says the sensor's size.

    Raises:
        FormatError: The file is damaged or cut off, or has no calibration and no `sensor` is given.
    """
    require_hdf5(path)
    file = Hdf5File(path)
    if sensor is None:
        with reading(path):
            width, height = stored(file["/"], f"{_CAMERA}/calib/resolution")[()]
        sensor = Sensor(int(width), int(height), "M3ED")
    own = Names(events=".", ms_index=_INDEX, offset=None)
    return IndexedRecording(file, _CAMERA, "m3ed", sensor, on_error, dict(tracks or {}), names=own)


READER = Reader(sniff, open_file)
