"""The container of AEDAT 4.0: header, streams, packets and their compression.

A file is the line `#!AER-DAT4.0`, a size-prefixed flatbuffer `IOHE` (compression, position of the data table, XML
that describes the streams), then packets {int32 stream, int32 size, payload}, then a data table. The table is only
used to know where the packets end.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from xml.etree import ElementTree

from eventfm.io import flatbuffer
from eventfm.io.contract import FormatError

MAGIC = b"#!AER-DAT4.0\r\n"
_COMPRESSIONS = ("none", "lz4", "lz4", "zstd", "zstd")
_LARGEST_HEADER = 1 << 24
_LARGEST_PACKET = 1 << 28
_STEP = 1 << 22


class Stream(NamedTuple):
    """One stream: its kind is the identifier of its packets, `EVTS`, `FRME`, `IMUS` or `TRIG`."""

    number: int
    kind: str
    width: int
    height: int
    source: str
    inferred: bool = False
    """Whether the size was read off the events, as eventfm notes it when it writes."""


class Header(NamedTuple):
    """What the head of a file says."""

    compression: str
    streams: dict[int, Stream]
    start: int
    """Where the first packet starts."""
    stop: int | None
    """Where the packets end; None if the file was never closed, so that they may end anywhere."""


class Packet(NamedTuple):
    """Where the payload of one packet lies in the file."""

    stream: int
    offset: int
    size: int


def read_header(path: Path) -> Header:
    """Return the header of the file.

    Raises:
        FormatError: It is no AEDAT4 file, or the header is damaged or cut off.
    """
    file_size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise FormatError("it does not start with #!AER-DAT4.0")
        prefix = file.read(4)
        size = struct.unpack("<I", prefix)[0] if len(prefix) == 4 else 0
        start = len(MAGIC) + 4 + size
        if not 0 < size <= _LARGEST_HEADER or start > file_size:
            raise FormatError(f"{path}: cut off or damaged: a header of {size} bytes in a file of {file_size}")
        data = prefix + file.read(size)
    table = flatbuffer.root(data, b"IOHE")
    code = table.scalar(0, "i", 0)
    if not 0 <= code < len(_COMPRESSIONS):
        raise FormatError(f"{path}: unknown compression {code}; known: none, lz4, lz4hc, zstd, zstdhc")
    position = table.scalar(1, "q", -1)
    if 0 < position < start:
        raise FormatError(f"{path}: damaged: the data table at {position} lies inside the header")
    return Header(_COMPRESSIONS[code], _streams(table.string(2), path), start, position if position > 0 else None)


def walk(file: BinaryIO, header: Header, file_size: int) -> Iterator[Packet]:
    """Yield the packets in file order.

    Raises:
        FormatError: A packet of an unknown stream or an impossible size, or the file ends inside a packet.
    """
    position = header.start
    stop = file_size if header.stop is None else header.stop
    while position < min(stop, file_size):
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            raise FormatError(f"cut off at byte {file_size}, in the head of a packet")
        stream, size = struct.unpack("<ii", head)
        if stream not in header.streams or size < 0 or position + 8 + size > stop:
            raise FormatError(f"damaged at byte {position}: a packet of stream {stream} with {size} bytes")
        if position + 8 + size > file_size:
            raise FormatError(f"cut off at byte {file_size}, in a packet of {size} bytes that starts at {position}")
        yield Packet(stream, position + 8, size)
        position += 8 + size
    if header.stop is not None and header.stop > file_size:
        raise FormatError(f"cut off at byte {file_size}; the packets should end at {header.stop}")


def read_packet(file: BinaryIO, packet: Packet, compression: str) -> bytes:
    """Return the flatbuffer of a packet, at most 256 MiB.

    Raises:
        FormatError: The payload cannot be decompressed.
    """
    file.seek(packet.offset)
    payload = file.read(packet.size)
    try:
        data = _UNPACK[compression](payload)
    except FormatError:
        raise
    except Exception as error:  # lz4 raises RuntimeError, zstandard a class of its own
        raise FormatError(f"damaged: the packet at byte {packet.offset} does not decompress: {error}") from None
    if len(data) > _LARGEST_PACKET:
        raise FormatError(f"damaged: the packet at byte {packet.offset} is larger than {_LARGEST_PACKET} bytes")
    return data


def _unpack_lz4(payload: bytes) -> bytes:
    import lz4.frame

    package: Any = lz4.frame  # it has no types
    decompressor = package.LZ4FrameDecompressor()
    # The output grows step by step, because the size that the frame states may be damaged.
    parts = [decompressor.decompress(payload, max_length=_STEP)]
    total = len(parts[0])
    while not decompressor.eof and not decompressor.needs_input and total <= _LARGEST_PACKET:
        parts.append(decompressor.decompress(b"", max_length=_STEP))
        total += len(parts[-1])
    return b"".join(parts)


def _unpack_zstd(payload: bytes) -> bytes:
    import zstandard

    parts: list[bytes] = []
    total = 0
    with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(payload) as reader:
        while total <= _LARGEST_PACKET and (part := reader.read(_STEP)):
            parts.append(part)
            total += len(part)
    return b"".join(parts)


_UNPACK: dict[str, Callable[[bytes], bytes]] = {"none": bytes, "lz4": _unpack_lz4, "zstd": _unpack_zstd}


def _streams(xml: bytes, path: Path) -> dict[int, Stream]:
    """Return the streams that the XML of the header describes; other nodes of it are ignored."""
    text = xml.rstrip(b"\0")
    if b"<!" in text:
        raise FormatError(f"{path}: the XML of the header declares entities, which no recorder writes")
    try:
        tree = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise FormatError(f"{path}: the XML of the header is damaged: {error}") from None
    streams: dict[int, Stream] = {}
    for node in tree.iterfind("node[@name='outInfo']/node"):
        info = node.find("node[@name='info']")
        name = node.get("name", "")
        if not (name.isascii() and name.isdigit()) or len(name) > 9:
            raise FormatError(f"{path}: the XML of the header names a stream {name!r}; expected a number")
        streams[int(name)] = Stream(
            int(name), _attribute(node, "typeIdentifier"), _pixels(info, "sizeX"), _pixels(info, "sizeY"),
            _attribute(info, "source"), _attribute(info, "sizeInferred") == "true",
        )  # fmt: skip
    if not streams:
        raise FormatError(f"{path}: the XML of the header describes no stream")
    return streams


def _attribute(node: ElementTree.Element | None, key: str) -> str:
    found = None if node is None else node.find(f"attr[@key='{key}']")
    return "" if found is None else (found.text or "").strip()


def _pixels(node: ElementTree.Element | None, key: str) -> int:
    text = _attribute(node, key)
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0
