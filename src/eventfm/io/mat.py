"""MATLAB exports of events: columns `x, y, ts, pol` (UCF101-DVS, HMDB-DVS, ASL-DVS), or one table of four rows.

Columns may lie in a structure, such as `TD`. A table, such as `events.e_data`, is (4, N) or (N, 4). Versions 5 to 7
are read by `mat5`, version 7.3 is HDF5. ASL-DVS shows its scenes turned by 180 degrees: that is left to whoever uses
the data set, for nothing in the files says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventfm.events import Events, OnError, Sensor
from eventfm.io.columns import Columns, file_columns, guess_order, table_columns
from eventfm.io.contract import FormatError, Reader, choose_sensor
from eventfm.io.mat5 import read_numbers
from eventfm.io.recording import ArrayRecording

_FIELDS = {
    "x": ("x", "xs"),
    "y": ("y", "ys"),
    "t": ("ts", "t", "timestamp", "timestamps"),
    "p": ("pol", "p", "ps", "polarity"),
}
_TABLES = ("e_data", "events", "event_data")
_KNOWN = (Sensor(34, 34, "N-MNIST"), Sensor(128, 128, "DVS128"), Sensor(240, 180, "DAVIS240"))
_MAT5, _MAT73 = b"MATLAB 5.0 MAT-file", b"MATLAB 7.3 MAT-file"


def sniff(path: Path) -> float:
    """Return 1 for a MATLAB file of version 5 to 7.3.

    Raises:
        FormatError: It is none.
    """
    if path.is_dir():
        raise FormatError("it is a folder")
    with path.open("rb") as file:
        start = file.read(len(_MAT5))
    if start not in (_MAT5, _MAT73):
        raise FormatError("it does not start with MATLAB 5.0 or MATLAB 7.3")
    return 1.0


def open_file(path: Path, sensor: Sensor | None, on_error: OnError) -> ArrayRecording:
    """Return the recording, in memory. Times with a fraction are seconds, whole ones microseconds.

    Raises:
        FormatError: No events are found, or the file is damaged.
    """
    with path.open("rb") as file:
        is_hdf5 = file.read(len(_MAT73)) == _MAT73
    columns = _find(_read_hdf5(path) if is_hdf5 else read_numbers(path), str(path))
    size = choose_sensor(columns.x, columns.y, sensor, known=_KNOWN)
    return ArrayRecording(Events.checked(*columns, size, on_error=on_error, source=str(path)), format="mat")


def _find(arrays: Mapping[str, NDArray[Any]], source: str) -> Columns:
    for prefix in sorted({name.rpartition(".")[0] for name in arrays}):
        at = f"{prefix}." if prefix else ""
        names = {key: next((at + n for n in known if at + n in arrays), None) for key, known in _FIELDS.items()}
        if None not in names.values():
            return file_columns({key: arrays[str(name)].reshape(-1) for key, name in names.items()}, source)
    for name, array in arrays.items():
        if name.rpartition(".")[2] in _TABLES and array.ndim == 2 and 4 in array.shape:
            table = array if array.shape[1] == 4 else array.T
            return table_columns(table, guess_order(table[:1000].astype(np.float64)), source)
    held = ", ".join(f"{name} {array.dtype}{array.shape}" for name, array in arrays.items())[:400]
    raise FormatError(
        f"{source}: expected columns x, y, ts, pol or a table of four rows or columns called "
        f"{', '.join(_TABLES)}; it has {held or 'no numbers'}"
    )


def _read_hdf5(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays with names that are looked for, at the top and in structures; HDF5 holds them transposed."""
    from eventfm.io.hdf5_file import h5py, reading, stored

    wanted = {*_TABLES, *(name for known in _FIELDS.values() for name in known)}
    arrays: dict[str, NDArray[Any]] = {}
    with reading(path), h5py.File(path, "r") as file:
        groups = {"": file, **{name: item for name, item in file.items() if isinstance(item, h5py.Group)}}
        for prefix, group in groups.items():
            for name in sorted(wanted & set(group)):
                data = group[name]
                if isinstance(data, h5py.Dataset) and data.ndim <= 2 and data.dtype.kind in "iufb":
                    array = np.asarray(stored(group, name, ndim=data.ndim)[()])
                    arrays[f"{prefix}.{name}" if prefix else name] = array.T
    return arrays


READER = Reader(sniff, open_file)
