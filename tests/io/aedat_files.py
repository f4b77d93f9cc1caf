"""AEDAT 1 to 3 written event by event from the layouts, apart from what reads them."""

from __future__ import annotations

import struct

from eventfm.events import Events

CHIPS = {"dvs128": (128, 128), "davis240": (240, 180), "davis346": (346, 260)}
NAMES = {
    "dvs128": "ch.unizh.ini.jaer.chip.retina.DVS128",
    "davis240": "eu.seebetter.ini.chips.davis.DAVIS240C",
    "davis346": "eu.seebetter.ini.chips.davis.Davis346B",
}
APS, SPECIAL, SYNC = 0x80000000, 0x400, 0x8000


def jaer_address(chip: str, x: int, y: int, p: int) -> int:
    """Return the address that jAER writes for a pixel counted from the top left."""
    width, height = CHIPS[chip]
    column, row = width - 1 - x, height - 1 - y
    return row << 8 | column << 1 | 1 - p if chip == "dvs128" else row << 22 | column << 12 | p << 11


def header2(chip: str = "", version: int = 2) -> bytes:
    lines = [f"#!AER-DAT{version}.0", "# This is a raw AE data file - do not edit", "# Timestamps tick is 1 us"]
    lines += [f"# AEChip: {NAMES.get(chip, chip)}"] if chip else []
    return "".join(f"{line}\r\n" for line in [*lines, "#End Of ASCII Header"]).encode()


def rows2(events: Events, chip: str, version: int = 2, bits: int = 32, between: tuple[int, ...] = ()) -> bytes:
    """Return the records of `events`; behind each come those of the addresses `between`, which are no pixels."""
    kind, out = {1: ">HI", 2: ">II"}[version], bytearray()
    for x, y, t, p in zip(events.x.tolist(), events.y.tolist(), events.t.tolist(), events.p.tolist(), strict=True):
        for address in (jaer_address(chip, x, y, p), *between):
            out += struct.pack(kind, address, t % (1 << bits))
    return bytes(out)


def header3(source: str = "DVS128", minor: int = 1, format: str = "RAW") -> bytes:
    end = "#!END-HEADER\r\n" if minor else ""
    return f"#!AER-DAT3.{minor}\r\n#Format: {format}\r\n#Source 1: {source}\r\n{end}".encode()


def packet(kind: int, size: int, overflow: int, number: int, valid: int, body: bytes, source: int = 1) -> bytes:
    capacity = len(body) // size if size else 0
    return struct.pack("<hhiiiiii", kind, source, size, 4, overflow, capacity, number, valid) + body


def polarity(events: Events, invalid: int = 0, spare: int = 0, source: int = 1, flip: int = 0) -> bytes:
    """Return a packet of `events`, behind them so many invalid ones, and so many places without any."""
    overflow = int(events.t[0]) >> 31
    body = b"".join(
        struct.pack("<II", x << 17 | (flip - 1 - y if flip else y) << 2 | p << 1 | 1, t - (overflow << 31))
        for x, y, t, p in zip(*(getattr(events, name).tolist() for name in "xytp"), strict=True)
    )
    body += struct.pack("<II", 3 << 17, 5) * invalid + b"\xff" * 8 * spare
    return packet(1, 8, overflow, len(events) + invalid, len(events), body, source)
