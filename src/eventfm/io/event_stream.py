"""Event Stream 2.0, `.es`: events of a DVS in five bytes, time as steps between them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numba
import numpy as np
from numpy.typing import NDArray

from eventfm.events import OnError, Sensor
from eventfm.io.blocks import Block, BlockRecording, cached_index, recording_of
from eventfm.io.columns import Columns
from eventfm.io.contract import DamagedFileError, FormatError, Reader, report_cut
from eventfm.io.gathered import Gathered
from eventfm.io.recording import ArrayRecording
from eventfm.io.word_columns import empty_columns, first_of

_MAGIC = b"Event Stream"
_KINDS = {0: "generic", 1: "dvs", 2: "atis", 4: "color"}
_DVS = 1
_HEADER = 20
"""Bytes of magic word, version, kind, width and height."""
_CHUNK = 1 << 18
_INDEX_VERSION = 1
_STEP, _RESET = 0xFF, 0xFE
_LONGEST_STEP = 127
_EVENT = 5


def sniff(path: Path) -> float:
    """Return 1 if the file begins with the format's name.

    Raises:
        FormatError: It does not.
    """
    if path.is_dir():
        raise FormatError("it is a folder")
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise FormatError("it does not begin with the words Event Stream")
    return 1.0


def open_file(path: Path, sensor: Sensor | None, on_error: OnError) -> BlockRecording | ArrayRecording:
    """Return the recording. Rows are counted from below in the file, and from above in memory.

    Raises:
        FormatError: It is of another version or kind, or ends in the middle of an event.
    """
    stated = _stated(path)
    gathered = Gathered(path.stat().st_size // _EVENT)
    scan = partial(_scan, height=stated.height, gathered=gathered)
    blocks = cached_index(path, "es", _INDEX_VERSION, scan)
    end = blocks[-1].offset + blocks[-1].size if blocks else _HEADER
    if rest := path.stat().st_size - end:
        report_cut(f"{path}: cut off in the middle of an event ({rest} of {_EVENT} bytes at the end)", on_error)
    decode = partial(_block, height=stated.height)
    # Steps of time are never negative: it does not go backwards.
    return recording_of(path, "es", sensor or stated, blocks, decode, on_error, 0, gathered=gathered)


def decode(data: NDArray[np.uint8], time: int = 0) -> tuple[Columns, int, int]:
    """Return the whole events in `data`, rows as the file counts them, the time after them, and the bytes used."""
    columns = empty_columns(len(data) // _EVENT)
    found, time, used = _decode(data, time, *columns)
    return first_of(columns, found), time, used


def decode_plainly(data: NDArray[np.uint8], time: int = 0) -> tuple[Columns, int, int]:
    """Return what `decode` returns, byte by byte in plain Python."""
    content, rows, at = data.tobytes(), [], 0
    while at < len(content):
        first = content[at]
        if first in (_STEP, _RESET):
            time += _LONGEST_STEP if first == _STEP else 0
            at += 1
            continue
        if at + _EVENT > len(content):
            break
        time += first >> 1
        column, row = (int.from_bytes(content[at + i : at + i + 2], "little") for i in (1, 3))
        rows.append((column, row, time, first & 1))
        at += _EVENT
    table = np.array(rows, np.int64).reshape(-1, 4)
    x, y, p = table[:, 0].astype(np.uint16), table[:, 1].astype(np.uint16), table[:, 3].astype(np.uint8)
    return Columns(x, y, table[:, 2], p), time, at


@numba.njit(cache=True, nogil=True)
def _decode(
    data: NDArray[np.uint8],
    time: int,
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.uint8],
) -> tuple[int, int, int]:
    """Write the whole events of `data` into the columns; return how many there are, the time and the bytes used."""
    n, at = 0, 0
    while at < len(data):
        first = data[at]
        if first >= _RESET:
            if first == _STEP:
                time += _LONGEST_STEP
            at += 1
            continue
        if at + _EVENT > len(data):
            break
        time += first >> 1
        x[n] = data[at + 1] | np.uint16(data[at + 2]) << 8
        y[n] = data[at + 3] | np.uint16(data[at + 4]) << 8
        t[n], p[n] = time, first & 1
        n += 1
        at += _EVENT
    return n, time, at


def _block(data: NDArray[np.uint8], state: tuple[int, ...], height: int) -> Columns:
    columns, _, _ = decode(data, *state)
    _from_above(columns, height)
    return columns


def _from_above(columns: Columns, height: int) -> None:
    """Count rows from above; one beyond the sensor becomes one beyond it on the other side, which is refused later."""
    np.subtract(np.uint16(height - 1), columns.y, out=columns.y)


def _scan(path: Path, height: int, gathered: Gathered) -> list[Block]:
    """Return the blocks of a file, whose events go to `gathered` as well; their state is the time before them."""
    blocks: list[Block] = []
    offset, size, start, time = _HEADER, path.stat().st_size, 0, 0
    while offset < size:
        data = np.fromfile(path, np.uint8, min(_CHUNK, size - offset), offset=offset)
        room = gathered.room(len(data) // _EVENT)
        found, after, used = _decode(data, time, *room)
        if not used:
            break
        columns = first_of(room, found)
        _from_above(columns, height)
        gathered.took(found)
        t = columns.t
        ends = (int(t[0]), int(t[-1])) if len(t) else (time, after)
        blocks.append(Block(offset, used, start, len(t), *ends, (time,)))
        offset, start, time = offset + used, start + len(t), after
    return blocks


def _stated(path: Path) -> Sensor:
    with path.open("rb") as file:
        header = file.read(_HEADER)
    if len(header) < len(_MAGIC) + 4:
        raise DamagedFileError(f"{path}: it ends at byte {len(header)}, inside its header")
    version, kind = tuple(header[12:15]), header[15]
    if version[0] != 2:
        raise FormatError(f"{path}: expected version 2 of Event Stream, got {'.'.join(map(str, version))}")
    if kind != _DVS:
        raise FormatError(f"{path} holds {_KINDS.get(kind, f'kind {kind}')} events; only those of a dvs are read")
    if len(header) < _HEADER:
        raise DamagedFileError(f"{path}: it ends at byte {len(header)}, inside its header")
    width, height = (int.from_bytes(header[i : i + 2], "little") for i in (16, 18))
    if not width or not height:
        raise DamagedFileError(f"{path}: the header says that the sensor has {width}x{height} pixels")
    return Sensor(width, height)


READER = Reader(sniff, open_file)
