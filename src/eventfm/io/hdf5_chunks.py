"""Chunks of HDF5 data sets, looked at before HDF5 unpacks them.

A damaged chunk, or one of a data set whose header claims larger chunks than there are, may unpack to less than a chunk.
HDF5 then reads what lies behind it in memory, and may crash. Blosc believes the sizes at the start of each chunk, so
each is looked at; zlib knows by a checksum whether it unpacked all, and LZF is told the size once for all, so that one
look at a data set is enough.
"""

from __future__ import annotations

import math
import zlib
from contextlib import suppress
from itertools import product
from typing import Any

import h5py as _h5py

from eventfm.io.contract import FormatError

h5py: Any = _h5py
_DEFLATE, _LZF, _BLOSC = 1, 32000, 32001
_BLOSC_HEADER = 16
"""Bytes at the start of a chunk; the last twelve are its size, that of its blocks, and its size when packed."""
_BLOSC_VALUES = 4
"""Numbers in the header of a data set that Blosc reads without asking whether they are there."""


class SoundDataset(h5py.Dataset):  # type: ignore[misc]
    """A data set that unpacks no chunk which is not as large as it should be; the same in all else."""

    def __init__(self, found: Any) -> None:
        super().__init__(found.id)
        settings = found.id.get_create_plist()
        self._num_filters = settings.get_nfilters()
        number, _, values, _ = settings.get_filter(self._num_filters - 1) if self._num_filters else (0, 0, (), b"")
        self._filter, self._values = number, values
        self._high = self.chunks[0] if self.size and number in (_DEFLATE, _LZF, _BLOSC) else 0
        self._num_rows = self.shape[0] if self.ndim else 1
        self._looked_at: set[int] = set()

    def __getitem__(self, wanted: Any, *more: Any) -> Any:
        """Return what is wanted, as h5py does.

        Raises:
            FormatError: A chunk of it is damaged.
        """
        if self._high:
            for number in self._rows_of_chunks(wanted):
                if number not in self._looked_at:
                    self._look(number)
                    self._looked_at.add(number)
        return super().__getitem__(wanted, *more)

    def _rows_of_chunks(self, wanted: Any) -> range:
        """Return which rows of chunks what is wanted may lie in; of filters that are looked at once, the first."""
        rows, high = range(self._num_rows), self._high
        if self._filter != _BLOSC:
            return range(1)
        if isinstance(wanted, slice):
            rows = rows[wanted]
        elif isinstance(wanted, int):
            rows = rows[wanted:][:1] if wanted >= 0 else rows
        if not rows:
            return range(0)
        first, last = sorted((rows[0], rows[-1]))
        return range(first // high, last // high + 1)

    def _look(self, number: int) -> None:
        size = math.prod(self.chunks) * self.dtype.itemsize
        others = (range(0, side, step) for side, step in zip(self.shape[1:], self.chunks[1:], strict=True))
        for corner in product((number * self._high,), *others):
            try:
                skipped, data = self.id.read_direct_chunk(corner)
            except (OSError, RuntimeError, ValueError):
                if self.id.get_chunk_info_by_coord(corner).byte_offset is None:
                    continue  # it was never written and holds zeros
                raise
            unfiltered = bool(skipped & 1 << (self._num_filters - 1))
            found = len(data) if unfiltered else _unpacked_size(data, self._filter, self._values, size)
            if found != size:
                raise FormatError(f"{self.file.filename}: the chunk at {corner} of {self.name} is damaged")


def _unpacked_size(data: bytes, number: int, values: tuple[int, ...], size: int) -> int:
    """Return to how many bytes a chunk will be unpacked, -1 where it cannot be."""
    if number == _DEFLATE:
        with suppress(zlib.error):
            return len(zlib.decompressobj().decompress(data, size + 1))
        return -1
    if number == _LZF:
        return values[2] if len(values) > 2 else -1
    if len(data) < _BLOSC_HEADER or len(values) < _BLOSC_VALUES:
        return -1
    unpacked, block, packed = (int.from_bytes(data[at : at + 4], "little") for at in (4, 8, 12))
    return unpacked if packed == len(data) and 0 < block <= unpacked else -1
