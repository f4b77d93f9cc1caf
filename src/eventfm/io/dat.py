"""Prophesee DAT: events of eight bytes behind a text header (N-Cars, GEN1, older Metavision recordings)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventfm.events import OnError, Sensor
from eventfm.io.blocks import Block, BlockRecording, cached_index, recording_of
from eventfm.io.columns import Columns
from eventfm.io.contract import DamagedFileError, FormatError, Reader, choose_sensor, report_cut
from eventfm.io.prophesee_header import Header, read_header
from eventfm.io.recording import ArrayRecording

_ROW = np.dtype([("t", "<u4"), ("data", "<u4")])
"""Time, and x[13:0] y[27:14] p[28]."""
_EVENTS = (0, 12)
"""Types of records that are events: those of N-Cars, and the usual ones."""
_OTHERS = {14: "triggers", 40: "flow"}
_BLOCK_EVENTS = 1 << 15
_INDEX_VERSION = 1
_LOOP_US = 1 << 32


def decode(data: NDArray[np.uint8], state: tuple[int, ...]) -> Columns:
    """Return the events of whole records; the state is that of a block: three facts, time of loops, time before."""
    rows = data[: len(data) // _ROW.itemsize * _ROW.itemsize].view(_ROW)
    loops, before = state[3:] if len(state) > 3 else (0, -1)
    raw = rows["t"].astype(np.int64)
    # Time of 32 bits that falls by half its range has begun again; by less, it is disorder.
    fell = np.diff(raw, prepend=raw[:1] if before < 0 else before) < -_LOOP_US // 2
    t = raw + loops + np.cumsum(fell) * _LOOP_US
    place = rows["data"]
    x, y = (place & 0x3FFF).astype(np.uint16), (place >> 14 & 0x3FFF).astype(np.uint16)
    return Columns(x, y, t, (place >> 28 & 1).astype(np.uint8))


def sniff(path: Path) -> float:
    """Return 1 if the file has a text header and, behind it, a known type and size of records.

    Raises:
        FormatError: It has not.
    """
    if path.is_dir():
        raise FormatError("it is a folder")
    with path.open("rb") as file:
        if file.read(1) != b"%":
            raise FormatError("it has no header of lines that begin with %")
    _first_record(read_header(path), path)
    return 1.0


def open_file(path: Path, sensor: Sensor | None, on_error: OnError) -> BlockRecording | ArrayRecording:
    """Return the recording. The size of the sensor is that of the header; N-Cars states none.

    Raises:
        FormatError: The records are no events, or the file ends in the middle of one.
        EventError: Times go backwards.
    """
    header = read_header(path)
    start = _first_record(header, path)
    if rest := (path.stat().st_size - start) % _ROW.itemsize:
        report_cut(f"{path}: cut off in the middle of an event ({rest} of 8 bytes at the end)", on_error)
    blocks = cached_index(path, "dat", _INDEX_VERSION, partial(_scan, start=start))
    right, bottom, backwards = (max(b.state[i] for b in blocks) if blocks else 0 for i in range(3))
    corner: Any = ([right], [bottom]) if blocks else ([], [])
    size = choose_sensor(np.array(corner[0]), np.array(corner[1]), sensor, _stated(header))
    return recording_of(path, "dat", size, blocks, decode, on_error, backwards)


def _first_record(header: Header, path: Path) -> int:
    """Return where records begin, behind two bytes that say their type and size."""
    with path.open("rb") as file:
        file.seek(header.end)
        told = file.read(2)
    if len(told) < 2:
        raise DamagedFileError(f"{path}: it ends at byte {header.end + len(told)}, before any event")
    kind, size = told
    if kind in _OTHERS and size:
        raise FormatError(f"{path} holds {_OTHERS[kind]} and no events")
    if kind not in _EVENTS or size != _ROW.itemsize:
        raise FormatError(f"expected records of type 0 or 12 and of 8 bytes, got type {kind} of {size} bytes")
    return header.end + 2


def _stated(header: Header) -> Sensor | None:
    width, height = (header.values.get(key, "") for key in ("width", "height"))
    if not (width.isascii() and width.isdigit() and height.isascii() and height.isdigit()):
        return None
    sides = int(width), int(height)
    return Sensor(*sides) if all(0 < side <= 1 << 14 for side in sides) else None


def _scan(path: Path, start: int) -> list[Block]:
    """Return the blocks of a file; state: rightmost and bottommost pixel, backward steps so far, loops, time before."""
    stop = start + (path.stat().st_size - start) // _ROW.itemsize * _ROW.itemsize
    blocks: list[Block] = []
    loops, before, last, backwards = 0, -1, None, 0
    for offset in range(start, stop, _BLOCK_EVENTS * _ROW.itemsize):
        size = min(_BLOCK_EVENTS * _ROW.itemsize, stop - offset)
        data = np.fromfile(path, np.uint8, size, offset=offset)
        columns = decode(data, (0, 0, 0, loops, before))
        t = columns.t
        backwards += int((np.diff(t) < 0).sum()) + (last is not None and int(t[0]) < last)
        facts = (int(columns.x.max()), int(columns.y.max()), backwards)
        number = offset - start
        blocks.append(Block(offset, size, number // 8, len(t), int(t.min()), int(t.max()), (*facts, loops, before)))
        last = int(t[-1])
        loops, before = last // _LOOP_US * _LOOP_US, last % _LOOP_US
    return blocks


READER = Reader(sniff, open_file)
