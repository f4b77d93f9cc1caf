"""AEDAT 1.0 and 2.0 of jAER: big-endian addresses and times, behind lines that begin with #."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eventfm.events import OnError, Sensor
from eventfm.io.blocks import Block, BlockRecording, cached_index, recording_of
from eventfm.io.columns import Columns
from eventfm.io.contract import FormatError, Reader, report_cut
from eventfm.io.recording import ArrayRecording

_MAGIC = re.compile(rb"#!AER-DAT([12])\.0")
_CHIP = re.compile(rb"#\s*AEChip:\s*(\S+)")
_END = b"#End Of ASCII Header"
_LONGEST_LINE = 1 << 16
_ROWS = {1: np.dtype([("address", ">u2"), ("t", ">u4")]), 2: np.dtype([("address", ">u4"), ("t", ">u4")])}
_BLOCK_EVENTS = 1 << 16
_INDEX_VERSION = 1


def sniff(path: Path) -> float:
    """Return 1 if the file begins with the name of one of the versions.

    Raises:
        FormatError: It does not.
    """
    if path.is_dir():
        raise FormatError("it is a folder")
    with path.open("rb") as file:
        if not _MAGIC.match(file.read(12)):
            raise FormatError("it does not begin with #!AER-DAT1.0 or #!AER-DAT2.0")
    return 1.0


def open_file(
    path: Path, sensor: Sensor | None, on_error: OnError, version: int = 0, chip: str = "", raw: bool = False
) -> BlockRecording | ArrayRecording:
    """Return the recording; `version` and `chip` stand above the header, and `raw` leaves x and polarity as they are.

    Words of APS, IMU and the sync input are passed over. Version 1 is of the DVS128.

    Raises:
        FormatError: Neither header nor hint names a known chip, or the file ends in the middle of an event.
        EventError: Times go backwards.
    """
    stated, named, start = _header(path)
    version = version or stated or 2
    chip = chip or ("dvs128" if version == 1 else _known_chip(named, path))
    rest = (path.stat().st_size - start) % _ROWS[version].itemsize
    if rest:
        width = _ROWS[version].itemsize
        report_cut(f"{path}: cut off in the middle of an event ({rest} of {width} bytes at the end)", on_error)
    name = f"aedat{version} {chip} {'raw' if raw else ''}"
    decode = partial(_decode_block, version=version, chip=chip, raw=raw)
    scan = partial(_scan, start=start, version=version, chip=chip, raw=raw)
    blocks = cached_index(path, name, _INDEX_VERSION, scan)
    backwards = blocks[-1].state[0] if blocks else 0
    size = sensor or _size(chip)
    return recording_of(path, "aedat2", size, blocks, decode, on_error, backwards)


def _size(chip: str) -> Sensor:
    from eventfm.io.aedat_addresses import CHIPS

    return Sensor(CHIPS[chip].width, CHIPS[chip].height, chip.upper())


def _known_chip(named: str, path: Path) -> str:
    short = named.rpartition(".")[2].lower()
    for chip in ("dvs128", "davis240", "davis346"):
        if short.startswith(chip):
            return chip
    said = f"names the chip {named[:60]!r}, which is not known" if named else "does not name the chip"
    raise FormatError(
        f"{path}: the header {said}, and the chip tells where x and y lie; say which with "
        "format='aedat2_dvs128', 'aedat2_davis240' or 'aedat2_davis346'"
    )


def _header(path: Path) -> tuple[int, str, int]:
    """Return version (0 if not said), chip and where the events begin.

    Events may begin with the byte of # too, so that lines count while they are text, and up to the line that ends
    them where there is one.
    """
    version, chip = 0, ""
    with path.open("rb") as file:
        start = 0
        while True:
            line = file.readline(_LONGEST_LINE)
            if not (line.startswith(b"#") and line.endswith(b"\n") and _is_text(line)):
                return version, chip, start
            start += len(line)
            if found := _MAGIC.match(line):
                version = int(found[1])
            elif found := _CHIP.match(line):
                chip = found[1].decode("latin-1")
            elif line.startswith(_END):
                return version, chip, start


def _is_text(line: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\r\n" for byte in line)


def _decode_block(data: NDArray[np.uint8], state: tuple[int, ...], version: int, chip: str, raw: bool) -> Columns:
    return _decoded(data, state[1:], version, chip, raw)[0]


def _decoded(
    data: NDArray[np.uint8], state: tuple[int, ...], version: int, chip: str, raw: bool
) -> tuple[Columns, int, int]:
    from eventfm.io.aedat_addresses import CHIPS, decode  # compiled, and not needed to tell what a file is

    row = _ROWS[version]
    rows = data[: len(data) // row.itemsize * row.itemsize].view(row)
    layout = CHIPS[chip].unmirrored() if raw else CHIPS[chip]
    return decode(rows["address"].astype(np.uint32), rows["t"].astype(np.uint32), layout, *state)


def _scan(path: Path, start: int, version: int, chip: str, raw: bool) -> list[Block]:
    """Return the blocks of a file; state: backward steps so far, loops, time as written before."""
    width = _ROWS[version].itemsize
    stop = start + (path.stat().st_size - start) // width * width
    blocks: list[Block] = []
    loops, before, backwards, num_events = 0, -1, 0, 0
    last: int | None = None
    for offset in range(start, stop, _BLOCK_EVENTS * width):
        size = min(_BLOCK_EVENTS * width, stop - offset)
        data = np.fromfile(path, np.uint8, size, offset=offset)
        columns, after, final = _decoded(data, (loops, before), version, chip, raw)
        t = columns.t
        if len(t):
            backwards += int((np.diff(t) < 0).sum()) + (last is not None and int(t[0]) < last)
            facts = (backwards, loops, before)
            blocks.append(Block(offset, size, num_events, len(t), int(t.min()), int(t.max()), facts))
            num_events, last = num_events + len(t), int(t[-1])
        loops, before = after, final
    return blocks


READER = Reader(sniff, open_file)


def _never(path: Path) -> float:
    raise FormatError("a hint about the chip is read only when format= gives it")


def _hint(version: int, chip: str, raw: bool = False) -> Reader:
    return Reader(_never, partial(open_file, version=version, chip=chip, raw=raw))


AEDAT1, AEDAT1_RAW = _hint(1, "dvs128"), _hint(1, "dvs128", raw=True)
DVS128, DVS128_RAW = _hint(2, "dvs128"), _hint(2, "dvs128", raw=True)
DAVIS240, DAVIS240_RAW = _hint(2, "davis240"), _hint(2, "davis240", raw=True)
DAVIS346, DAVIS346_RAW = _hint(2, "davis346"), _hint(2, "davis346", raw=True)
