"""The text that Prophesee's RAW and DAT files begin with: lines of `% key value`."""

from __future__ import annotations

import re
from collections.abc import Mapping
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
"""What Prophesee's cameras write whose files say neither their format nor their size, by `system_ID`."""
_PROXY = 0x80
_FIRST_MODERN = 0x37
"""From this `system_ID` on, words of EVT2.1 have their halves the usual way round where nothing is said."""
_LINE = re.compile(rb"%(?:[ \t][\t\x20-\x7e\x80-\xff]*)?\r?")
_VERSIONS = {"2.0": "evt2", "2.1": "evt21", "3.0": "evt3"}
_NAMES = {"evt2": "evt2", "evt2.0": "evt2", "evt21": "evt21", "evt2.1": "evt21", "evt3": "evt3", "evt3.0": "evt3"}
_LARGEST_RAW = 1 << 11
"""Pixels a side that the words of all three formats can address."""
LEGACY = "_legacy"
"""Behind the name of a format, in a hint: the halves of its words are the other way round."""


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


def raw_kind(header: Header, path: Path, format: str = "", sensor: Sensor | None = None) -> RawKind:
    """Return what the header of a RAW file says of its words.

    Args:
        header: What the file begins with.
        path: Named in errors.
        format: `evt2`, `evt21`, `evt21_legacy` or `evt3`, whatever the header says of it.
        sensor: Its size, whatever the header says of it.

    Raises:
        FormatError: It says nothing of a format that is known, a size that no sensor has, or two things that do not
            agree.
    """
    values = header.values
    name, *pairs = values.get("format", "").split(";")
    options = {key.strip().lower(): value.strip() for key, _, value in (pair.partition("=") for pair in pairs)}
    # What a number of a system means is for its maker to say.
    system = _number(values.get("system_id", "")) & ~_PROXY if _is_by_prophesee(values) else 0
    usual, usual_size = BY_SYSTEM.get(system, ("", None))
    if format:
        words, swapped = format.removesuffix(LEGACY), format.endswith(LEGACY)
    else:
        words = _stated_words(name.strip(), values.get("evt", ""), usual, path)
        swapped = _is_legacy(options.get("endianness") or values.get("endianness", ""), system, path)
    if sensor is None:
        sensor = _stated_size(values.get("geometry", ""), options, path) or usual_size
    return RawKind(words, sensor, words == "evt21" and swapped)


def size_of(width: str, height: str, largest: int, path: Path) -> Sensor:
    """Return the size that a header states.

    Raises:
        FormatError: A side is no number from 1 to `largest`.
    """
    sides = width.strip(), height.strip()
    if not all(re.fullmatch(r"[0-9]{1,9}", side) and 0 < int(side) <= largest for side in sides):
        raise FormatError(
            f"{path}: expected a sensor of 1 to {largest} pixels a side in the header, got "
            f"{sides[0][:40]!r} by {sides[1][:40]!r}; say sensor=(width, height)"
        )
    return Sensor(int(width), int(height))


def _stated_words(name: str, version: str, usual: str, path: Path) -> str:
    """Return the format that `format` (a name) and `evt` (a version) agree on, else the usual one of the camera."""
    hint = "say format='evt2', 'evt21', 'evt21_legacy' or 'evt3' to read them as such"
    if name and name.lower() not in _NAMES:
        raise FormatError(
            f"{path}: expected words of EVT2, EVT2.1 or EVT3, got {name[:40]!r}; convert it with OpenEB, or {hint}"
        )
    if version and version not in _VERSIONS:
        raise FormatError(f"{path}: expected words of evt 2.0, 2.1 or 3.0, got {version[:40]!r}; {hint}")
    stated = {_NAMES.get(name.lower()), _VERSIONS.get(version)} - {None}
    if len(stated) > 1:
        raise FormatError(f"{path}: the header names two formats of words, {name} and evt {version}; {hint}")
    words = stated.pop() if stated else usual
    if not words:
        raise FormatError(f"{path}: the header names no format; {hint}")
    return words


def _stated_size(geometry: str, options: Mapping[str, str], path: Path) -> Sensor | None:
    """Return the size that the line `geometry` and the options of `format` agree on; None if neither is there."""
    sizes = []
    if geometry:
        width, _, height = geometry.lower().partition("x")
        sizes.append(size_of(width, height, _LARGEST_RAW, path))
    if "width" in options or "height" in options:
        sizes.append(size_of(options.get("width", ""), options.get("height", ""), _LARGEST_RAW, path))
    if len(set(sizes)) > 1:
        named = " and ".join(f"{size.width}x{size.height}" for size in sizes)
        raise FormatError(
            f"{path}: the header names two sizes of the sensor, {named}; say which with sensor=(width, height)"
        )
    return sizes[0] if sizes else None


def _is_legacy(order: str, system: int, path: Path) -> bool:
    """Return whether the halves of 64-bit words are the other way round; early systems do not say that they are."""
    if order.lower() not in ("", "little", "legacy"):
        raise FormatError(
            f"{path}: expected words of endianness little or legacy, got {order[:40]!r}; say format='evt21' or "
            "'evt21_legacy' to read them as such"
        )
    return order.lower() == "legacy" or (not order and 0 < system < _FIRST_MODERN)


def _is_by_prophesee(values: Mapping[str, str]) -> bool:
    """Return whether camera and plugin are Prophesee's, as those of early headers are that name nobody."""
    makers = {values.get(f"{part}_integrator_name", "") for part in ("plugin", "camera")}
    if makers == {""}:
        makers = {values.get("integrator_name") or "Prophesee"}
    return {maker.lower() for maker in makers} == {"prophesee"}


def _number(text: str) -> int:
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else 0
