"""Prophesee DAT: events of eight bytes behind a text header (N-Cars, GEN1, older Metavision recordings).

The two layouts are those of Prophesee's `load_cd_events.m`; files of version 1 are of its first camera, the ATIS.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from eventfm.events import OnError, Sensor
from eventfm.io.blocks import Block, BlockRecording, cached_index, recording_of, stretches
from eventfm.io.columns import Columns
from eventfm.io.contract import DamagedFileError, FormatError, Reader, choose_sensor, report_cut
from eventfm.io.gathered import Gathered
from eventfm.io.prophesee_header import Header, read_header, size_of
from eventfm.io.recording import ArrayRecording
from eventfm.io.word_columns import Seen, empty_columns, nothing_seen

_ROW = np.dtype([("t", "<u4"), ("data", "<u4")])
"""Time, and from the lowest bit on x, y and p, as `Layout` says."""
_EVENTS = (0, 12)
"""Types of records that are events: those of N-Cars, and the usual ones."""
_OTHERS = {14: "triggers", 40: "flow"}
_BLOCK_EVENTS = 1 << 15
_INDEX_VERSION = 3
_LOOP_US = 1 << 32
_START = (0, -1)
"""Time of loops and time before, at the beginning of a file."""


class Layout(NamedTuple):
    """How many bits x and y take."""

    x: int
    y: int


LAYOUTS = {"1": Layout(9, 8), "2": Layout(14, 14)}
"""By the version that the header names."""
_BITS_OF_FIRST = 21
"""No record of version 1 uses more: x, y and four bits of which the first is the polarity."""


def decode(data: NDArray[np.uint8], state: tuple[int, ...], layout: Layout = LAYOUTS["2"]) -> Columns:
    """Return the events of whole records; the state is that of a block: three facts, time of loops, time before."""
    rows = _rows(data)
    columns = empty_columns(len(rows))
    _decode(
        rows["t"], rows["data"], np.array(state[3:] or _START, np.int64), layout.x, layout.y, *columns, nothing_seen()
    )
    return columns


def decode_plainly(data: NDArray[np.uint8], state: tuple[int, ...], layout: Layout = LAYOUTS["2"]) -> Columns:
    """Return what `decode` returns, by NumPy."""
    rows = _rows(data)
    loops, before = state[3:] or _START
    raw = rows["t"].astype(np.int64)
    fell = np.diff(raw, prepend=raw[:1] if before < 0 else before) < -_LOOP_US // 2
    t = raw + loops + np.cumsum(fell) * _LOOP_US
    place = rows["data"]
    x, y = place & ((1 << layout.x) - 1), place >> layout.x & ((1 << layout.y) - 1)
    return Columns(x.astype(np.uint16), y.astype(np.uint16), t, (place >> sum(layout) & 1).astype(np.uint8))


def _rows(data: NDArray[np.uint8]) -> NDArray[np.void]:
    return data[: len(data) // _ROW.itemsize * _ROW.itemsize].view(_ROW)


@numba.njit(cache=True, nogil=True)
def _decode(
    times: NDArray[np.uint32],
    places: NDArray[np.uint32],
    state: NDArray[np.int64],
    x_bits: int,
    y_bits: int,
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.uint8],
    seen: Seen,
) -> None:
    """Write the events into the columns, and what follows into `state`, the time of loops and the time before."""
    loops, before = state
    right, bottom, backwards, triggers, earliest, latest, last = seen
    x_mask, y_mask = (1 << x_bits) - 1, (1 << y_bits) - 1
    for n in range(len(times)):
        raw, place = np.int64(times[n]), np.int64(places[n])
        # Time of 32 bits that falls by more than half its range has begun again; by less, it is disorder.
        if before >= 0 and raw - before < -_LOOP_US // 2:
            loops += _LOOP_US
        column, row, now, before = place & x_mask, place >> x_bits & y_mask, loops + raw, raw
        x[n], y[n], t[n], p[n] = column, row, now, place >> (x_bits + y_bits) & 1
        right, bottom = max(right, column), max(bottom, row)
        earliest, latest = min(earliest, now), max(latest, now)
        backwards, last = backwards + (now < last), now
    state[0], state[1] = loops, before
    seen[0], seen[1], seen[2], seen[3] = right, bottom, backwards, triggers
    seen[4], seen[5], seen[6] = earliest, latest, last


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
        FormatError: The records are no events or of no known version, the header states a size that no sensor has, or
            the file ends in the middle of an event.
        EventError: Times go backwards.
    """
    header = read_header(path)
    start = _first_record(header, path)
    layout = _layout(header, path, start)
    stated = _stated(header, layout, path) if sensor is None else None
    if rest := (path.stat().st_size - start) % _ROW.itemsize:
        report_cut(f"{path}: cut off in the middle of an event ({rest} of 8 bytes at the end)", on_error)
    gathered = Gathered((path.stat().st_size - start) // _ROW.itemsize)
    scan = partial(_scan, start=start, layout=layout, gathered=gathered)
    blocks = cached_index(path, "dat", _INDEX_VERSION, scan)
    right, bottom, backwards = (max(b.state[i] for b in blocks) if blocks else 0 for i in range(3))
    corner: Any = ([right], [bottom]) if blocks else ([], [])
    size = choose_sensor(np.array(corner[0]), np.array(corner[1]), sensor, stated)
    decoder = partial(decode, layout=layout)
    return recording_of(path, "dat", size, blocks, decoder, on_error, backwards, gathered=gathered)


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


def _layout(header: Header, path: Path, start: int) -> Layout:
    """Return the layout of the records; where no version is named, the second if one of the first records needs it."""
    version = header.values.get("version")
    if version is None:
        first = np.fromfile(path, _ROW, _BLOCK_EVENTS, offset=start)
        version = "2" if (first["data"] >> _BITS_OF_FIRST).any() else "1"
    if version not in LAYOUTS:
        raise FormatError(
            f"{path}: expected a DAT file of version 1 or 2, got {version[:40]!r}; convert it with OpenEB"
        )
    return LAYOUTS[version]


def _stated(header: Header, layout: Layout, path: Path) -> Sensor | None:
    """Return the size that the header states, if any."""
    sides = [header.values.get(key, "") for key in ("width", "height")]
    return size_of(sides[0], sides[1], 1 << max(layout), path) if any(sides) else None


def _scan(path: Path, start: int, layout: Layout, gathered: Gathered) -> list[Block]:
    """Return the blocks of a file, whose events go to `gathered` as well.

    Their state: rightmost and bottommost pixel so far, backward steps so far, time of loops, time before.
    """
    stop = start + (path.stat().st_size - start) // _ROW.itemsize * _ROW.itemsize
    blocks: list[Block] = []
    state, seen, backwards = np.array(_START, np.int64), nothing_seen(), 0
    for offset, data in stretches(path, start, stop, _BLOCK_EVENTS * _ROW.itemsize):
        rows, size = _rows(data), len(data)
        before, seen = tuple(state.tolist()), nothing_seen(int(seen[-1]))
        _decode(rows["t"], rows["data"], state, layout.x, layout.y, *gathered.room(len(rows)), seen)
        gathered.took(len(rows))
        right, bottom, back, _, earliest, latest, _ = seen.tolist()
        backwards += back
        number = (offset - start) // _ROW.itemsize
        blocks.append(Block(offset, size, number, len(rows), earliest, latest, (right, bottom, backwards, *before)))
    return blocks


READER = Reader(sniff, open_file)
