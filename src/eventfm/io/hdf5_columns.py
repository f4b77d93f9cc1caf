"""Columns in HDF5 files, read by position: one data set per column, or one table (N, 4) of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eventfm.events import Sensor
from eventfm.io.columns import Columns, file_columns, guess_order, table_columns, to_microseconds
from eventfm.io.contract import FormatError
from eventfm.io.hdf5_file import Hdf5File, h5py, reading, stored

_FIELDS = {"x": ("x", "xs"), "y": ("y", "ys"), "t": ("t", "ts"), "p": ("p", "ps")}
_PROBED = 1 << 16


class Hdf5Columns:
    """Four data sets of one length; `fields` says what each of `xytp` is called."""

    def __init__(self, file: Hdf5File, fields: Mapping[str, str]) -> None:
        self._file = file
        self._fields = dict(fields)
        self.name = str(file.path)
        with reading(file.path):
            columns = {key: stored(file["/"], field) for key, field in fields.items()}
            lengths = {key: len(column) for key, column in columns.items()}
            if len(set(lengths.values())) != 1:
                raise FormatError(f"{self.name}: expected four columns of one length, got {lengths}; is it cut off?")
            self._length = lengths["t"]
            self._unit = _unit(columns["t"], lambda start, stop: np.asarray(columns["t"][start:stop]))

    def __len__(self) -> int:
        return self._length

    def read(self, start: int, stop: int) -> Columns:
        """Return events `start` to `stop`."""
        with reading(self._file.path):
            named = {key: np.asarray(self._file[field][start:stop]) for key, field in self._fields.items()}
        return file_columns(named, self.name, self._unit)

    def time(self, i: int) -> int:
        """Return the time of event `i` in microseconds."""
        with reading(self._file.path):
            t = np.asarray(self._file[self._fields["t"]][i : i + 1])
        return int(to_microseconds(t, self.name, self._unit)[0])


class Hdf5Table:
    """One data set (N, 4) whose columns are in `order`; the order is guessed where none is given."""

    def __init__(
        self, file: Hdf5File, table: str, order: str | None = None, unit: Literal["s", "us"] | None = None
    ) -> None:
        self._file = file
        self._table = table
        self.name = str(file.path)
        with reading(file.path):
            data = stored(file["/"], table, ndim=2)
            if data.shape[1] != 4:
                raise FormatError(f"{self.name}: expected events of shape (N, 4), got {data.shape}")
            if data.dtype.kind not in "iuf":
                raise FormatError(f"{self.name}: expected a table of numbers, got {data.dtype}")
            self._length = len(data)
            self._order = order or guess_order(np.asarray(data[:1000], np.float64))
            at = self._order.index("t")
            self._unit = unit or _unit(data, lambda start, stop: np.asarray(data[start:stop])[:, at])

    def __len__(self) -> int:
        return self._length

    def read(self, start: int, stop: int) -> Columns:
        """Return events `start` to `stop`."""
        with reading(self._file.path):
            table = np.asarray(self._file[self._table][start:stop])
        return table_columns(table, self._order, self.name, self._unit)

    def time(self, i: int) -> int:
        """Return the time of event `i` in microseconds."""
        return int(self.read(i, i + 1).t[0])


def column_fields(group: Any) -> dict[str, str] | None:
    """Return what `x`, `y`, `t` and `p` are called in `group`, from the root; None if one of them is missing."""
    found = {key: next((name for name in known if name in group), None) for key, known in _FIELDS.items()}
    if None in found.values():
        return None
    return {key: f"{group.name}/{name}" for key, name in found.items()}


def stated_sensor(root: Any, events: Any = None) -> Sensor | None:
    """Return the size that an attribute `sensor_resolution` (height, width) or `height` and `width` in `events` say."""
    if "sensor_resolution" in root.attrs:
        resolution = np.asarray(root.attrs["sensor_resolution"]).reshape(-1)
        if len(resolution) >= 2 and resolution.dtype.kind in "iuf":
            return Sensor(int(resolution[1]), int(resolution[0]))
    if isinstance(events, h5py.Group) and "height" in events and "width" in events:
        return Sensor(_scalar(events, "width"), _scalar(events, "height"))
    return None


def _scalar(group: Any, name: str) -> int:
    found = group[name]
    if not isinstance(found, h5py.Dataset) or found.size != 1 or found.dtype.kind not in "iuf":
        raise FormatError(f"expected one number as {name} in {group.name}, got {found}")
    return int(np.asarray(found[()]).reshape(-1)[0])


def _unit(data: Any, times: Callable[[int, int], NDArray[Any]]) -> Literal["s", "us"]:
    """Return the unit of times: seconds where one has a fraction, of all, so that every slice is read alike."""
    if data.dtype.kind != "f":
        return "us"
    for start in range(0, len(data), _PROBED):
        t = times(start, start + _PROBED)
        if (t != np.rint(t)).any():
            return "s"
    return "us"
