"""Write HDF5 files so that a full disk is an error and not a crash.

When the system refuses a write, the HDF5 library is left with a file that it can neither finish nor forget, and may
end the process with a segmentation fault. It therefore writes through a file object that never fails: after the
first error the rest is kept in memory, so that the library can close in peace, and the error is raised afterwards.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eventfm.io.hdf5_file import h5py


class Sink:
    """A file object for h5py; `error` is what the system said to the first write that failed."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self._position = 0
        self._size = 0
        self._kept: list[tuple[int, bytes]] = []
        self.error: OSError | None = None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to `offset` and return the new position."""
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def write(self, data: Any) -> int:
        """Write all of `data`, or keep what the system did not take."""
        rest = memoryview(data).cast("B")
        count = len(rest)
        while len(rest) and self.error is None:
            try:
                self._file.seek(self._position)
                written = self._file.write(rest) or 0
            except OSError as error:
                self.error = error
                break
            self._position += written
            rest = rest[written:]
        if len(rest):
            self._kept.append((self._position, bytes(rest)))
            self._position += len(rest)
        self._size = max(self._size, self._position)
        return count

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` with what was written, kept or not; zeros where nothing was."""
        view = memoryview(buffer).cast("B")
        self._file.seek(self._position)
        found = self._file.read(len(view)) or b""
        view[:] = found + bytes(len(view) - len(found))
        for start, data in self._kept:
            first, last = max(start, self._position), min(start + len(data), self._position + len(view))
            if first < last:
                view[first - self._position : last - self._position] = data[first - start : last - start]
        self._position += len(view)
        return len(view)

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes; h5py knows a file object by this method."""
        out = bytearray(size)
        self.readinto(out)
        return bytes(out)

    def truncate(self, size: int | None = None) -> int:
        """Set the size of the file."""
        self._size = self._position if size is None else size
        if self.error is None:
            try:
                self._file.truncate(self._size)
            except OSError as error:
                self.error = error
        return self._size

    def flush(self) -> None:
        """Do nothing; nothing is buffered here."""

    def check(self) -> None:
        """Raise the error of the first write that failed, if one did."""
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@contextmanager
def hdf5_writer(path: Path) -> Iterator[tuple[Any, Callable[[], None]]]:
    """Give a new HDF5 file and a function that raises if a write has failed; call it between pieces.

    Raises:
        OSError: The system refused a write; the file at `path` is then of no use.
    """
    sink = Sink(path)
    try:
        with h5py.File(sink, "w") as file:
            yield file, sink.check
        sink.check()
    finally:
        sink.close()
