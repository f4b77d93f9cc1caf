"""Flatbuffers (google.github.io/flatbuffers/flatbuffers_internals): read with every offset checked, and written."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventfm.io.contract import FormatError

_ALIGNMENT = 8


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


class Vector(NamedTuple):
    """The content of a vector, which begins at a multiple of 8 bytes."""

    num_items: int
    content: bytes


def pack(identifier: bytes, scalars: Sequence[tuple[str, int]], vector: Vector) -> bytes:
    """Return a size-prefixed flatbuffer of the kind `identifier`.

    The first fields of its root table are `scalars`, each a numpy type and a number, and the next is `vector`.
    """
    columns = [(f"field{i}", code) for i, (code, _) in enumerate(scalars)]
    layout, vtable = _layout([*columns, ("vector", "<u4")])
    start = _aligned(12 + vtable.nbytes)
    content = _aligned(start + layout.itemsize + 4)
    table = np.zeros(1, layout)
    table["back"] = vtable.nbytes
    for (name, _), (_, value) in zip(columns, scalars, strict=True):
        table[name] = value
    table["vector"] = content - 4 - start - _offset_of(layout, "vector")
    head = struct.pack("<I4s", start - 4, identifier)
    head += bytes(start - 12 - vtable.nbytes) + vtable.tobytes() + table.tobytes()
    body = head + bytes(content - 8 - len(head)) + struct.pack("<I", vector.num_items) + vector.content
    return struct.pack("<I", len(body)) + body


def tables(rows: NDArray[np.void]) -> Vector:
    """Return a vector of tables, one for each row of a structured array; its fields, in order, are theirs."""
    layout, vtable = _layout([(name, rows.dtype[name]) for name in rows.dtype.names or ()])
    first = _aligned(4 * len(rows) + vtable.nbytes)
    table = np.zeros(len(rows), layout)
    at = first + np.arange(len(rows)) * layout.itemsize
    table["back"] = at - (first - vtable.nbytes)
    for name in rows.dtype.names or ():
        table[name] = rows[name]
    offsets = (at - 4 * np.arange(len(rows))).astype("<u4").tobytes()
    padding = bytes(first - vtable.nbytes - len(offsets))
    return Vector(len(rows), offsets + padding + vtable.tobytes() + table.tobytes())


def _layout(fields: list[tuple[str, Any]]) -> tuple[np.dtype[np.void], NDArray[np.uint16]]:
    """Return the layout of tables with these fields, each aligned to its own size, and their vtable."""
    natural = np.dtype([("back", "<i4"), *fields], align=True)
    offsets = [_offset_of(natural, name) for name, _ in fields]
    size = _aligned(natural.itemsize)
    layout = np.dtype(
        {
            "names": ["back", *(name for name, _ in fields)],
            "formats": ["<i4", *(kind for _, kind in fields)],
            "offsets": [0, *offsets],
            "itemsize": size,
        }
    )
    return layout, np.array([4 + 2 * len(offsets), size, *offsets], "<u2")


def _offset_of(layout: np.dtype[np.void], name: str) -> int:
    fields = layout.fields
    assert fields is not None
    return int(fields[name][1])


def _aligned(position: int) -> int:
    return -(-position // _ALIGNMENT) * _ALIGNMENT


def _unpack(code: str, data: bytes, position: int) -> tuple[Any, ...]:
    if position < 0 or position + struct.calcsize(code) > len(data):
        raise FormatError(f"damaged flatbuffer: offset {position} lies outside its {len(data)} bytes")
    return struct.unpack_from(code, data, position)
