"""AEDAT 3.0 and 3.1 of cAER: packets of events behind lines that begin with #. Only polarity events are read.

A packet header is eight numbers in 28 bytes; the higher part of the time is in it. Files of 3.0 count rows from below.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventfm.events import OnError, Sensor
from eventfm.io.blocks import Block, BlockRecording, cached_index, recording_of
from eventfm.io.columns import Columns
from eventfm.io.contract import DamagedFileError, FormatError, Reader, choose_sensor, report_cut
from eventfm.io.recording import ArrayRecording

_MAGIC = re.compile(rb"#!AER-DAT3\.([01])")
_END = b"#!END-HEADER"
_FORMAT = re.compile(rb"#\s*Format:\s*(\S+)")
_SOURCE = re.compile(rb"#\s*Source\s+(\d+):\s*(\S+)")
_LONGEST_LINE = 1 << 16
_PACKET = struct.Struct("<hhiiiiii")
_POLARITY, _EVENT = 1, 8
_LARGEST_OVERFLOW = 1 << 24
_BLOCK_BYTES = 1 << 19
_INDEX_VERSION = 2
_SIZES = {
    "DVS128": (128, 128), "DAVIS128": (128, 128), "DAVIS208": (208, 192), "DAVIS240": (240, 180),
    "DAVIS346": (346, 260), "DAVIS640": (640, 480), "DVS132S": (132, 104),
}  # fmt: skip
"""Width and height by the beginning of the name of a source; no field states them."""


class _Header(NamedTuple):
    minor: int
    sources: dict[int, str]
    end: int


class _Packet(NamedTuple):
    kind: int
    source: int
    number: int
    offset: int
    size: int
    """Bytes, its header among them."""


def sniff(path: Path) -> float:
    """Return 1 if the file begins with the name of one of the versions.

    Raises:
        FormatError: It does not.
    """
    if path.is_dir():
        raise FormatError("it is a folder")
    with path.open("rb") as file:
        if not _MAGIC.match(file.read(12)):
            raise FormatError("it does not begin with #!AER-DAT3.0 or #!AER-DAT3.1")
    return 1.0


def open_file(path: Path, sensor: Sensor | None, on_error: OnError) -> BlockRecording | ArrayRecording:
    """Return the recording of the camera that the first polarity events are of; frames and samples are not read.

    Raises:
        FormatError: The file is damaged or cut off, its packets are compressed, or it is of 3.0 and of a camera whose
            height is not known.
        EventError: Times go backwards.
    """
    header = _header(path)
    *blocks, end = cached_index(path, "aedat3", _INDEX_VERSION, partial(_scan, start=header.end))
    _require_whole(path, end.offset, on_error)
    source = blocks[0].state[0] if blocks else min(header.sources, default=0)
    stated = _known_size(header.sources.get(source, ""))
    corner = max((b.state[1] for b in blocks), default=-1), max((b.state[2] for b in blocks), default=-1)
    given = sensor or stated
    if header.minor == 0 and given is None:
        raise FormatError(
            f"{path}: rows are counted from below in AEDAT 3.0, and its camera "
            f"{header.sources.get(source, '')[:60]!r} is not known; say sensor=(width, height)"
        )
    x, y = ([corner[0]], [corner[1]]) if blocks else ([], [])
    size = choose_sensor(np.array(x), np.array(y), sensor, stated)
    decode = partial(_decode_block, height=size.height if header.minor == 0 else 0)
    return recording_of(path, "aedat3", size, blocks, decode, on_error, blocks[-1].state[3] if blocks else 0)


def _known_size(name: str) -> Sensor | None:
    found = next((known for known in _SIZES if name.upper().startswith(known)), None)
    return Sensor(*_SIZES[found], found) if found else None


def _header(path: Path) -> _Header:
    sources: dict[int, str] = {}
    with path.open("rb") as file:
        first = file.readline(_LONGEST_LINE)
        found = _MAGIC.match(first)
        if not found:
            raise FormatError(f"{path} does not begin with #!AER-DAT3.0 or #!AER-DAT3.1")
        minor, end = int(found[1]), len(first)
        while (line := file.readline(_LONGEST_LINE)).startswith(b"#"):
            end += len(line)
            if line.startswith(_END):
                return _Header(minor, sources, end)
            if (kind := _FORMAT.match(line)) and kind[1] != b"RAW":
                raise FormatError(f"{path}: expected packets of format RAW, got {kind[1][:40].decode('latin-1')!r}")
            if named := _SOURCE.match(line):
                sources[int(named[1][:9])] = named[2].decode("latin-1")
        if minor == 1:
            raise DamagedFileError(f"{path}: expected a line {_END.decode()} before byte {end}; the header is cut off")
    return _Header(minor, sources, end)


def _packets(file: BinaryIO, start: int, total: int) -> Iterator[_Packet]:
    """Return the packets from byte `start` on.

    Raises:
        DamagedFileError: A header is absurd or the file ends inside a packet.
    """
    offset = start
    while offset < total:
        file.seek(offset)
        head = file.read(_PACKET.size)
        if len(head) < _PACKET.size:
            raise DamagedFileError(f"it ends at byte {total}, inside a packet header")
        kind, source, size, ts_offset, overflow, capacity, number, valid = _PACKET.unpack(head)
        if not (0 <= valid <= number <= capacity and size >= 0 and 0 <= overflow <= _LARGEST_OVERFLOW):
            raise DamagedFileError(f"the packet header at byte {offset} says {valid} of {number} of {capacity} events")
        if kind == _POLARITY and (size, ts_offset) != (_EVENT, 4):
            raise DamagedFileError(f"the packet header at byte {offset} says polarity events of {size} bytes")
        whole = _PACKET.size + capacity * size
        if offset + whole > total:
            raise DamagedFileError(f"it ends at byte {total}, inside the packet of {whole} bytes at byte {offset}")
        yield _Packet(kind, source, number, offset, whole)
        offset += whole


def _require_whole(path: Path, end: int, on_error: OnError) -> None:
    """Look again at what stands behind the last whole packet, and say what is wrong with it if there is something."""
    total = path.stat().st_size
    if end >= total:
        return
    with path.open("rb") as file:
        try:
            next(_packets(file, end, total))
        except DamagedFileError as error:
            report_cut(f"{path}: {error}", on_error)


def _scan(path: Path, start: int) -> list[Block]:
    """Return the blocks of a file, each of whole packets, and last an empty one where its whole packets end.

    State: the source, right- and bottommost pixel as written, backward steps so far, and the last time.
    """
    blocks: list[Block] = []
    with path.open("rb") as file:
        for offset, size, source in _stretches(file, start, path.stat().st_size):
            data = np.fromfile(path, np.uint8, size, offset=offset)
            columns = _decode_block(data, (source,), 0)
            t, before = columns.t, blocks[-1] if blocks else None
            number = before.start + before.num_events if before else 0
            if not size:
                blocks.append(Block(offset, 0, number, 0, 0, -1))
            elif len(t):
                backwards = int((np.diff(t) < 0).sum())
                backwards += before.state[3] + (int(t[0]) < before.state[4]) if before else 0
                facts = (source, int(columns.x.max()), int(columns.y.max()), backwards, int(t[-1]))
                blocks.append(Block(offset, size, number, len(t), int(t.min()), int(t.max()), facts))
    return blocks


def _stretches(file: BinaryIO, start: int, total: int) -> Iterator[tuple[int, int, int]]:
    """Return offset and size of stretches of packets with events of the first source that has some, and that source.

    The last one is empty, and lies where the whole packets end.
    """
    source: int | None = None
    begin, end = start, start
    try:
        for packet in _packets(file, start, total):
            wanted = packet.kind == _POLARITY and packet.number > 0
            source = packet.source if source is None and wanted else source
            if not wanted or packet.source != source or packet.offset + packet.size - begin > _BLOCK_BYTES:
                if end > begin and source is not None:
                    yield begin, end - begin, source
                begin = packet.offset
            end = packet.offset + packet.size
            if not wanted or packet.source != source:
                begin = end
    except DamagedFileError:
        pass  # reported by `_require_whole`
    if end > begin and source is not None:
        yield begin, end - begin, source
    yield end, 0, -1


def _decode_block(data: NDArray[np.uint8], state: tuple[int, ...], height: int) -> Columns:
    from eventfm.io.aedat3_packets import decode  # compiled, and not needed to tell what a file is

    columns = decode(data, state[0])
    if not height:
        return columns
    # A row beyond the sensor becomes one beyond it on the other side, which is refused later.
    return columns._replace(y=(height - 1 - columns.y.astype(np.int64)).astype(np.uint16))


READER = Reader(sniff, open_file)
