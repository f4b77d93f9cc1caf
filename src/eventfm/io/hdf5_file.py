"""HDF5 files that are opened in the process that reads them, and data sets that are checked before they are read."""

from __future__ import annotations

import math
import os
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import hdf5plugin  # noqa: F401  (registers the blosc, zstd and lz4 filters)
import numpy as np
from numpy.typing import NDArray

from eventfm.events import EventError
from eventfm.io.contract import DamagedFileError, FormatError
from eventfm.io.hdf5_chunks import SoundDataset, h5py

__all__ = ["Hdf5File", "Hdf5Track", "entry_name", "h5py", "reading", "require_hdf5", "stored", "version_of"]
MAX_OPEN = 8192
"""Groups and data sets of a file that stay open, about 25 kB each; a store may have a million."""
MAX_FILES = 128
"""Files that a process keeps open; a data set may have thousands, and systems often allow 256 or 1024."""
MAGIC = b"\x89HDF\r\n\x1a\n"


class Hdf5File:
    """A file by path, opened at first use in each process and never pickled; one handle serves all that read it.

    Without `chunk_cache` no decompressed chunk is kept: that is for files of many small recordings, each read as a
    whole, whose caches would fill the memory. With `version` no other file may be at `path` when it is first read in
    this process.
    """

    def __init__(self, path: Path, chunk_cache: bool = True, version: tuple[int, ...] | None = None) -> None:
        self.path = path
        self.chunk_cache = chunk_cache
        self._version = version
        self._handle: _Handle | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None, "_version": None}  # on another machine it is another one

    def __getitem__(self, name: str) -> Any:
        """Return the group or data set called `name`; `"/"` is the root."""
        if self._handle is None or self._handle.process != os.getpid():
            self._handle = _handle_of(self.path, self.chunk_cache, self._version)
        return self._handle.find(name)


class _Handle:
    """A file; `find` returns a group or data set by its name, and keeps those open that were last asked for.

    It is opened at first use, and again after it was let go for the sake of others.
    """

    def __init__(self, path: Path, chunk_cache: bool, version: tuple[int, ...]) -> None:
        self.process = os.getpid()
        self._path = path
        self._options = {} if chunk_cache else {"rdcc_nbytes": 0}
        self._version = version
        self._find: Callable[[str], Any] | None = None

    def find(self, name: str) -> Any:
        """Return the group or data set called `name`.

        Raises:
            FormatError: The file was let go, and is another one by now.
        """
        # Another thread may let go of the file meanwhile: what was found in it holds it open until it has been read.
        find = self._find
        if find is None:
            find = self._find = self._opened()
            _OPEN.append(weakref.ref(self))
            while len(_OPEN) > MAX_FILES:
                if (first := _OPEN.popleft()()) is not None:
                    first.let_go()
        return find(name)

    def let_go(self) -> None:
        """Close the file as soon as nothing of it is in use."""
        self._find = None

    def _opened(self) -> Callable[[str], Any]:
        _require_same(self._path, self._version)
        file = h5py.File(self._path, "r", **self._options)
        return lru_cache(maxsize=MAX_OPEN)(lambda name: _sound(file[name]))


def _sound(found: Any) -> Any:
    """Return a group as it is, and a data set so that its damaged chunks are refused."""
    return SoundDataset(found) if isinstance(found, h5py.Dataset) else found


_HANDLES: weakref.WeakValueDictionary[tuple[Any, ...], _Handle] = weakref.WeakValueDictionary()
_OPEN: deque[weakref.ref[_Handle]] = deque()
"""What was opened, in that order."""


def _handle_of(path: Path, chunk_cache: bool, expected: tuple[int, ...] | None) -> _Handle:
    """Return the handle of what now is at `path`: a file that has been replaced is another one."""
    version = _require_same(path, expected)
    key = (os.getpid(), chunk_cache, version)
    found = _HANDLES.get(key)
    return found if found is not None else _HANDLES.setdefault(key, _Handle(path, chunk_cache, version))


def _require_same(path: Path, expected: tuple[int, ...] | None) -> tuple[int, ...]:
    found = version_of(path)
    if expected not in (None, found):
        raise FormatError(f"{path} was replaced since it was opened; open it again")
    return found


def version_of(path: Path) -> tuple[int, ...]:
    """Return what tells the file at `path` from one that takes its place."""
    stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size


class Hdf5Track:
    """A track in an HDF5 file: `times` (N,) in memory, entries read when asked for.

    `data` names a data set (N, ...), or a group with one data set per entry where their shapes differ. `classes` are
    the names of the numbers in it, where it has classes and the file says.
    """

    def __init__(self, file: Hdf5File, data: str, times: NDArray[np.int64], classes: tuple[str, ...] = ()) -> None:
        self._file = file
        self._data = data
        self.times = times
        self.classes = classes

    def __len__(self) -> int:
        return len(self.times)

    def read(self, i: int) -> NDArray[Any]:
        """Return entry `i`."""
        i = range(len(self.times))[i]
        with reading(self._file.path):
            data = self._file[self._data]
            return np.asarray(_sound(data[entry_name(i)])[()] if isinstance(data, h5py.Group) else data[i])


def entry_name(i: int) -> str:
    """Return the name of entry `i` in the group of a track whose entries differ in shape."""
    return f"{i:08d}"


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what h5py raises about a damaged file into `DamagedFileError`."""
    try:
        yield
    except (FileNotFoundError, FormatError, EventError):
        raise
    except (
        OSError,
        RuntimeError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        MemoryError,
    ) as error:
        raise DamagedFileError(f"{path}: damaged or cut off: {error}") from error


def require_hdf5(path: Path) -> None:
    """Refuse what is no HDF5 file.

    Raises:
        FormatError: It is a folder, or does not start as HDF5 does.
    """
    if path.is_dir():
        raise FormatError("it is a folder")
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise FormatError("it is no HDF5 file")


def stored(group: Any, name: str, ndim: int = 1) -> Any:
    """Return the data set `name` of `group` once its size is known to be real.

    A damaged header may claim any shape, and HDF5 reads what was never written as zeros; so the chunks that exist
    must cover the shape.

    Raises:
        FormatError: There is no such data set, or it is not written in full.
    """
    found = group.get(name)
    if not isinstance(found, h5py.Dataset) or found.ndim != ndim:
        raise FormatError(f"expected a data set {name} of {ndim} dimensions in {group.name}, got {found}")
    if found.size == 0:
        return found
    found = _sound(found)
    if found.chunks:
        needed = math.prod(-(-size // chunk) for size, chunk in zip(found.shape, found.chunks, strict=True))
        complete = found.id.get_num_chunks() >= needed
    else:
        complete = found.id.get_storage_size() >= found.size * found.dtype.itemsize
    if not complete:
        raise FormatError(f"data set {found.name} of shape {found.shape} is not written in full; the file is cut off")
    return found
