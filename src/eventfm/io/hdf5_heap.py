"""Arrays of bytes of varying length in HDF5 files, found without the library.

HDF5 keeps such arrays in global heaps and their places in the data set, 16 bytes each: length, address of a heap, and
number in it. The library believes all of it, and a damaged file can make it allocate or search without end; here every
place is checked against the file, and a part of an array can be read without the rest. See "Global Heap" in the HDF5
file format specification, version 3.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventfm.io.contract import DamagedFileError, FormatError
from eventfm.io.hdf5_file import h5py

PLACE = np.dtype([("length", "<u4"), ("heap", "<u8"), ("number", "<u4")])
_HEAP_HEADER = struct.Struct("<4sB3xQ")
_ITEM_HEADER = struct.Struct("<HHIQ")
_HEAPS = 256


class ByteHeap:
    """The file as bytes, and the arrays in its heaps; open it in the process that reads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._data: NDArray[np.uint8] = np.memmap(path, np.uint8, "r")
        self._items = lru_cache(_HEAPS)(self._find_items)

    def places(self, data: Any) -> Iterator[NDArray[np.void]]:
        """Yield the places (rows, columns) of a data set (N, columns) of such arrays, piece by piece.

        Pieces that were never written are left out: files of recordings are made larger in advance.
        """
        shape, row_bytes = data.shape, data.shape[1] * PLACE.itemsize
        pieces: list[tuple[int, int, int]] = []
        if data.chunks:
            data.id.chunk_iter(lambda info: pieces.append((info.chunk_offset[0], info.byte_offset, info.size)))
        elif data.id.get_offset() is not None:
            pieces.append((0, data.id.get_offset(), shape[0] * row_bytes))
        if sum(size for _, _, size in pieces) > len(self._data):
            raise DamagedFileError(f"{self._path}: the pieces of {data.name} do not fit into the file")
        for first, offset, size in sorted(pieces):
            rows = min(size // row_bytes, shape[0] - first)
            raw = self._data[offset : offset + max(rows, 0) * row_bytes]
            if len(raw) != rows * row_bytes:
                raise DamagedFileError(
                    f"{self._path}: damaged or cut off: rows from {first} of {data.name} at {offset}"
                )
            yield np.frombuffer(raw.tobytes(), PLACE).reshape(rows, shape[1])

    def bytes_at(self, place: np.void, start: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        """Return bytes `start` to `stop` of one array.

        Raises:
            DamagedFileError: The place leads nowhere.
        """
        length, heap, number = int(place["length"]), int(place["heap"]), int(place["number"])
        if length == 0:
            return self._data[:0]
        offset, size = self._items(heap).get(number, (0, -1))
        if length > size:
            raise DamagedFileError(f"{self._path}: the heap at byte {heap} has no array {number} of {length} bytes")
        return self._data[offset + start : offset + (length if stop is None else min(stop, length))]

    def _find_items(self, heap: int) -> dict[int, tuple[int, int]]:
        """Return offset and size of each array of the heap at byte `heap`."""
        if heap + _HEAP_HEADER.size > len(self._data):
            raise DamagedFileError(f"{self._path}: cut off: a heap should lie at byte {heap}")
        magic, version, size = _HEAP_HEADER.unpack(self._data[heap : heap + _HEAP_HEADER.size].tobytes())
        if magic != b"GCOL" or version != 1 or heap + size > len(self._data):
            raise DamagedFileError(f"{self._path}: damaged or cut off: no whole heap at byte {heap}")
        items: dict[int, tuple[int, int]] = {}
        at, end = heap + _HEAP_HEADER.size, heap + size
        while at + _ITEM_HEADER.size <= end:
            number, _, _, length = _ITEM_HEADER.unpack(self._data[at : at + _ITEM_HEADER.size].tobytes())
            at += _ITEM_HEADER.size
            # Number 0 is the space that is left, which ends the heap.
            if number == 0:
                break
            if at + length > end:
                raise DamagedFileError(f"{self._path}: array {number} at byte {at} is longer than its heap")
            items[number] = (at, length)
            at += -(-length // 8) * 8
        return items


def require_byte_arrays(group: Any, name: str, columns: int) -> Any:
    """Return the data set (N, columns) `name` of byte arrays.

    Raises:
        FormatError: It is none, or is compressed, or its chunks hold part of the columns.
    """
    data = group.get(name)
    if not isinstance(data, h5py.Dataset) or data.ndim != 2 or data.shape[1] != columns:
        raise FormatError(f"expected a data set {name} of shape (N, {columns}), got {data}")
    if h5py.check_vlen_dtype(data.dtype) != np.dtype(np.uint8):
        raise FormatError(f"expected arrays of bytes in {name}, got {data.dtype}")
    if data.id.get_create_plist().get_nfilters() or (data.chunks and data.chunks[1] != columns):
        raise FormatError(f"expected {name} without filters, in chunks of whole rows; repack it with h5repack -f NONE")
    return data
