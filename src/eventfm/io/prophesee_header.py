"""The text that Prophesee's RAW and DAT files begin with: lines of `% key value`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from eventfm.events import Sensor
from eventfm.io.contract import DamagedFileError, FormatError

_MOST = 64 * 1024
_GEN3, _GEN4 = Sensor(640, 480), Sensor(1280, 720)
BY_SYSTEM: dict[int, tuple[str, Sensor]] = {
    **dict.fromkeys((21, 23, 25, 28, 29, 33, 34, 35, 41), ("evt2", _GEN3)),
    40: ("evt3", _GEN3),
    **dict.fromkeys((26, 31, 39), ("evt2", _GEN4)),
    **dict.fromkeys((30, 46, 48, 49, 50), ("evt3", _GEN4)),
}
"""What cameras write whose files say neither their format nor their size, by `system_ID`."""
_PROXY = 0x80
_FIRST_MODERN = 0x37
"""From this `system_ID` on, words of EVT2.1 have their halves the usual way round where nothing is said."""
_LINE = re.compile(rb"%(?:[ \t][\t\x20-\x7e\x80-\xff]*)?\r?")
_VERSIONS = {"2.0": "evt2", "2.1": "evt21", "3.0": "evt3"}


class Header(NamedTuple):
    """What a header says, and where it ends."""

    values: dict[str, str]
    """By key, in lower case."""
    end: int
    """First byte behind it."""


def read_header(path: Path) -> Header:
    """Return the header of a file; one without any has no values and ends at 0.

    Data may begin with the byte of `%` too, and old headers have no last line: a line is one of text, after "% ".

    Raises:
        DamagedFileError: It does not end.
    """
    with path.open("rb") as file:
        content = file.read(_MOST)
    values: dict[str, str] = {}
    at = 0
    while content[at : at + 1] == b"%":
        stop = content.find(b"\n", at)
        if not _LINE.fullmatch(content[at : stop if stop >= 0 else len(content)]):
            break
        if stop < 0:
            raise DamagedFileError(f"{path}: the header has no end in its first {len(content)} bytes; is it cut off?")
        line = content[at + 1 : stop].decode("latin-1").strip()
        at = stop + 1
        if line.lower() == "end":
            break
        key, _, value = line.partition(" ")
        values.setdefault(key.lower(), value.strip())
    return Header(values, at)


class RawKind(NamedTuple):
    """How the words of a RAW file are written, and by what sensor."""

    format: str
    """`evt2`, `evt21` or `evt3`."""
    sensor: Sensor | None
    swapped: bool = False
    """Whether the halves of EVT2.1's words are the other way round."""


def raw_kind(header: Header, path: Path) -> RawKind:
    """Return what the header of a RAW file says of its words.

    Raises:
        FormatError: It says nothing of a format that is known, or two things that do not agree.
    """
    values = header.values
    options = dict(part.partition("=")[::2] for part in values.get("format", "").split(";"))
    named = next(iter(options), "").strip().lower()
    system = _number(values.get("system_id", "")) & ~_PROXY
    usual = BY_SYSTEM.get(system)
    version = _VERSIONS.get(values.get("evt", ""))
    format = {"evt2": "evt2", "evt21": "evt21", "evt2.1": "evt21", "evt3": "evt3"}.get(named) or version
    if format is None and named:
        raise FormatError(f"{path}: expected words of EVT2, EVT2.1 or EVT3, got {named!r}; convert it with OpenEB")
    if format is None and usual is not None:
        format = usual[0]
    if format is None:
        raise FormatError(f"{path}: the header names no format; say format='evt2', 'evt21' or 'evt3'")
    sizes = {_size(values.get("geometry", "")), _size(f"{options.get('width', '')}x{options.get('height', '')}")}
    sizes.discard(None)
    if len(sizes) > 1:
        raise FormatError(f"{path}: the header names two sizes of the sensor, {sizes}; say sensor=(width, height)")
    sensor = sizes.pop() if sizes else usual[1] if usual is not None else None
    order = (options.get("endianness") or values.get("endianness") or "").lower()
    legacy = order == "legacy" or (not order and 0 < system < _FIRST_MODERN)
    return RawKind(format, sensor, format == "evt21" and legacy)


def _size(text: str) -> Sensor | None:
    found = re.fullmatch(r"\s*(\d{1,5})\s*x\s*(\d{1,5})\s*", text)
    if found is None or not all(0 < int(side) <= 1 << 14 for side in found.groups()):
        return None
    return Sensor(int(found[1]), int(found[2]))


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0
