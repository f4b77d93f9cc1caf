"""Read flatbuffers (google.github.io/flatbuffers/flatbuffers_internals) with every offset checked."""

from __future__ import annotations

import struct
from typing import Any

from eventfm.io.contract import FormatError


class Table:
    """One table of a flatbuffer: fields by number, each looked up and checked when asked for."""

    __slots__ = ("_data", "_position", "_size", "_slots")

    def __init__(self, data: bytes, position: int) -> None:
        (back,) = _unpack("<i", data, position)
        vtable = position - back
        vtable_size, self._size = _unpack("<HH", data, vtable)
        if vtable_size < 4 or vtable_size % 2 or self._size < 4 or position + self._size > len(data):
            raise FormatError(f"damaged flatbuffer: a table of {self._size} bytes with a vtable of {vtable_size}")
        self._slots: tuple[int, ...] = _unpack(f"<{(vtable_size - 4) // 2}H", data, vtable + 4)
        self._data = data
        self._position = position

    def scalar(self, field: int, code: str, default: Any) -> Any:
        """Return the number in `field`, of the `struct` code, or `default` where it is left out."""
        offset = self._offset(field, struct.calcsize("<" + code))
        return default if offset is None else _unpack("<" + code, self._data, offset)[0]

    def vector(self, field: int, item_size: int) -> tuple[int, int]:
        """Return where the vector in `field` starts and its number of items, (0, 0) where it is left out."""
        offset = self._offset(field, 4)
        if offset is None:
            return 0, 0
        start = offset + _unpack("<I", self._data, offset)[0]
        (count,) = _unpack("<I", self._data, start)
        if count * item_size > len(self._data) - start - 4:
            raise FormatError(f"damaged flatbuffer: a vector of {count} items runs past the end of {len(self._data)}")
        return start + 4, count

    def string(self, field: int) -> bytes:
        """Return the bytes of the string or byte vector in `field`."""
        start, count = self.vector(field, 1)
        return self._data[start : start + count]

    def tables(self, field: int) -> list[Table]:
        """Return the tables of the vector of tables in `field`."""
        start, count = self.vector(field, 4)
        offsets = _unpack(f"<{count}I", self._data, start)
        return [Table(self._data, start + 4 * i + offset) for i, offset in enumerate(offsets)]

    def _offset(self, field: int, size: int) -> int | None:
        slot = self._slots[field] if field < len(self._slots) else 0
        if slot == 0:
            return None
        if slot + size > self._size:
            raise FormatError(f"damaged flatbuffer: field {field} lies outside its table")
        return self._position + slot


def root(data: bytes, identifier: bytes) -> Table:
    """Return the root table of a size-prefixed flatbuffer that carries the four-byte `identifier`.

    Raises:
        FormatError: The buffer is shorter than it says, or of another kind.
    """
    size, offset, found = _unpack("<II4s", data, 0)
    if found != identifier:
        raise FormatError(f"damaged flatbuffer: expected kind {identifier.decode()}, got {found!r}")
    if size > len(data) - 4:
        raise FormatError(f"damaged flatbuffer: {size} bytes claimed, {len(data) - 4} there")
    return Table(data, 4 + offset)


def _unpack(code: str, data: bytes, position: int) -> tuple[Any, ...]:
    if position < 0 or position + struct.calcsize(code) > len(data):
        raise FormatError(f"damaged flatbuffer: offset {position} lies outside its {len(data)} bytes")
    return struct.unpack_from(code, data, position)
