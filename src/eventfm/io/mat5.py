"""Numbers in MATLAB 5 files (`.mat`, versions 5 to 7), read within the bounds of the file.

`scipy.io.loadmat` believes the sizes that a damaged file claims and allocates them; here every element must lie in the
one that holds it. Cells, text, sparse arrays, objects and functions are passed over: nothing in a file can run. See
"MAT-File Format" by The MathWorks.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eventfm.io.contract import DamagedFileError

_HEADER = 128
_KINDS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX, _COMPRESSED = 14, 15
_STRUCT, _NUMBERS = 2, range(6, 16)
_DEEPEST = 8
_LARGEST_RATIO = 1100
"""zlib makes nothing smaller than 1/1032."""


def read_numbers(path: Path) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of real numbers by name; those in a structure as `structure.field`.

    Raises:
        DamagedFileError: The file is damaged or cut off; the message says at which byte.
    """
    data = path.read_bytes()
    order = {b"IM": "<", b"MI": ">"}.get(data[126:_HEADER])
    if order is None:
        raise DamagedFileError(f"{path}: byte 126 should say IM or MI, got {data[126:_HEADER]!r}")
    found: dict[str, NDArray[np.generic]] = {}
    for kind, body, at in _elements(data[_HEADER:], order, path, _HEADER):
        if kind == _COMPRESSED:
            for inner, inflated, _ in _elements(_inflate(body, path, at), order, path, at):
                if inner == _MATRIX:
                    _read_matrix(inflated, order, "", found, path, at, 0)
        elif kind == _MATRIX:
            _read_matrix(body, order, "", found, path, at, 0)
    return found


def _elements(data: bytes, order: str, path: Path, base: int) -> Iterator[tuple[int, bytes, int]]:
    """Yield kind, content and place of the elements that follow each other in `data`."""
    at = 0
    while at < len(data):
        if at + 8 > len(data):
            raise DamagedFileError(f"{path}: cut off at byte {base + at}: no room for an element")
        first, size = struct.unpack_from(order + "II", data, at)
        start = at + 8
        if first >> 16:
            kind, size, start, following = first & 0xFFFF, first >> 16, at + 4, at + 8
            if size > 4:
                raise DamagedFileError(f"{path}: damaged at byte {base + at}: a small element of {size} bytes")
        else:
            kind = first
            following = start + (size if kind == _COMPRESSED else -(-size // 8) * 8)
        if start + size > len(data):
            raise DamagedFileError(f"{path}: cut off: the element at byte {base + at} claims {size} bytes")
        yield kind, data[start : start + size], base + at
        at = following


def _inflate(body: bytes, path: Path, at: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        out = unpacker.decompress(body, _LARGEST_RATIO * max(len(body), 1))
    except zlib.error as error:
        raise DamagedFileError(f"{path}: damaged: the element at byte {at} cannot be unpacked: {error}") from None
    if not unpacker.eof:
        raise DamagedFileError(f"{path}: damaged or cut off: the element at byte {at} does not end")
    return out


def _read_matrix(
    body: bytes, order: str, prefix: str, found: dict[str, NDArray[np.generic]], path: Path, at: int, depth: int
) -> None:
    """Add what the matrix holds to `found`; `prefix` is its name where it is a field."""
    if not body:
        return
    parts = list(_elements(body, order, path, at))
    if len(parts) < 3 or len(parts[0][1]) < 4 or len(parts[1][1]) % 4:
        raise DamagedFileError(f"{path}: damaged: the matrix at byte {at} has no head")
    kind = struct.unpack_from(order + "I", parts[0][1])[0] & 0xFF
    is_complex = struct.unpack_from(order + "I", parts[0][1])[0] & 0x800
    shape = tuple(np.frombuffer(parts[1][1], order + "i4").tolist())
    name = prefix or parts[2][1].rstrip(b"\0").decode("latin-1")
    if kind in _NUMBERS and not is_complex and len(parts) > 3:
        dtype = _KINDS.get(parts[3][0])
        raw = parts[3][1]
        if dtype is None or len(raw) % np.dtype(dtype).itemsize:
            raise DamagedFileError(f"{path}: damaged: the numbers of {name} at byte {at} are of kind {parts[3][0]}")
        values = np.frombuffer(raw, np.dtype(order + dtype))
        count = 1
        for axis in shape:
            count *= axis
        if min(shape, default=-1) < 0 or count != len(values):
            raise DamagedFileError(f"{path}: damaged: {name} claims shape {shape} and has {len(values)} numbers")
        found[name] = values.reshape(shape, order="F").astype(np.dtype(dtype), copy=False)
    if kind == _STRUCT and shape == (1, 1) and len(parts) > 4 and depth < _DEEPEST:
        length = int(np.frombuffer(parts[3][1][:4].ljust(4, b"\0"), order + "i4")[0])
        if length <= 0:
            raise DamagedFileError(f"{path}: damaged: the structure {name} at byte {at} has names of {length} bytes")
        names = [parts[4][1][k : k + length].split(b"\0")[0] for k in range(0, len(parts[4][1]), length)]
        for field, (inner, content, place) in zip(names, parts[5:], strict=False):
            if inner == _MATRIX:
                _read_matrix(content, order, f"{name}.{field.decode('latin-1')}", found, path, place, depth + 1)
