"""Columns in `.npy` files, mapped into memory and read by position; or raw ones beside a note of their length."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from eventfm.io.columns import Columns, file_columns, to_microseconds
from eventfm.io.contract import DamagedFileError, FormatError

_MAGIC = b"\x93NUMPY"


class NpyFile:
    """One array in a file, mapped at first use in each process; never unpickled."""

    def __init__(self, path: Path, raw: tuple[Any, tuple[int, ...]] | None = None) -> None:
        """Open the array at `path`; `raw` is dtype and shape of one item where the file has no header.

        Raises:
            FormatError: It is no array of numbers, or is cut off.
        """
        self._path = path
        if raw is None or _starts_as_npy(path):
            self._offset, self.shape, self.dtype = _read_header(path)
        else:
            self._offset, self.dtype = 0, np.dtype(raw[0])
            item = int(np.prod(raw[1], dtype=np.int64)) * self.dtype.itemsize
            if item <= 0 or path.stat().st_size % item:
                raise DamagedFileError(
                    f"{path}: {path.stat().st_size} bytes are no whole number of items of {item} bytes"
                )
            self.shape = (path.stat().st_size // item, *raw[1])
        self._map: NDArray[Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None}

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: slice | int) -> NDArray[Any]:
        if self._map is None:
            if not np.prod(self.shape, dtype=np.int64):
                self._map = np.empty(self.shape, self.dtype)
            else:
                self._map = np.memmap(self._path, self.dtype, "r", self._offset, self.shape)
        return np.array(self._map[part])


class NpyColumns:
    """Events from files of `xy` (N, 2), `t` (N,) and `p` (N,); a last axis of 1 is dropped."""

    def __init__(
        self, folder: Path, files: Mapping[str, NpyFile], unit: Literal["s", "us"], flipped: bool = False
    ) -> None:
        self.name = str(folder)
        self._files = dict(files)
        self._unit = unit
        self._flipped = flipped
        lengths = {name: len(file) for name, file in files.items()}
        if len(set(lengths.values())) != 1:
            raise FormatError(f"{folder}: expected files of one length, got {lengths}; is one cut off?")
        self._length = lengths["t"]
        if files["xy"].shape[1:] != (2,):
            raise FormatError(f"{folder}: expected places of shape (N, 2), got {files['xy'].shape}")
        for name in "tp":
            if files[name].shape[1:] not in ((), (1,)):
                raise FormatError(f"{folder}: expected {name} of shape (N,) or (N, 1), got {files[name].shape}")

    def __len__(self) -> int:
        return self._length

    def read(self, start: int, stop: int) -> Columns:
        """Return events `start` to `stop`."""
        xy = self._files["xy"][start:stop]
        t, p = (self._files[name][start:stop].reshape(-1) for name in "tp")
        if self._flipped and p.dtype.kind in "iufb":
            p = p <= 0
        return file_columns({"x": xy[:, 0], "y": xy[:, 1], "t": t, "p": p}, self.name, self._unit)

    def time(self, i: int) -> int:
        """Return the time of event `i` in microseconds."""
        return int(to_microseconds(self._files["t"][i : i + 1].reshape(-1), self.name, self._unit)[0])


class NpyTrack:
    """Entries along the first axis of an array, at `times` (N,) microseconds; a last axis of 1 is dropped."""

    def __init__(self, data: NpyFile, times: NDArray[np.int64]) -> None:
        if len(data) != len(times):
            raise FormatError(f"expected one entry per time of the track, got {len(data)} for {len(times)} times")
        self._data = data
        self.times = times

    def __len__(self) -> int:
        return len(self.times)

    def read(self, i: int) -> NDArray[Any]:
        """Return entry `i`."""
        entry = self._data[i]
        return entry[..., 0] if entry.ndim == 3 and entry.shape[2] == 1 else entry


def _starts_as_npy(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def _read_header(path: Path) -> tuple[int, tuple[int, ...], np.dtype[Any]]:
    """Return offset, shape and dtype of the array, once the file is known to hold all of it."""
    try:
        with path.open("rb") as file:
            version = npy_format.read_magic(file)
            read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
            shape, fortran, dtype = read(file)
            offset = file.tell()
    except OSError:
        raise
    except Exception as error:  # numpy lets out whatever damaged bytes raise, tokenize.TokenError included
        raise DamagedFileError(f"{path}: no header of a .npy file: {error}") from None
    if dtype.hasobject:
        raise FormatError(f"{path}: holds pickled objects, which are never loaded; store plain numbers")
    if not shape or min(shape) < 0 or dtype.itemsize == 0 or (fortran and len(shape) > 1):
        raise FormatError(f"{path}: expected an array by rows, got shape {shape} of {dtype}")
    size = dtype.itemsize
    for axis in shape:
        size *= axis
    if offset + size > path.stat().st_size:
        raise DamagedFileError(f"{path}: cut off: shape {shape} of {dtype} does not fit into the file")
    return offset, tuple(shape), dtype
