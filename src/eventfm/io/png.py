"""PNG, looked at before a decoder takes memory for what it claims."""

from __future__ import annotations

import struct

from eventfm.io.contract import FormatError

_PNG = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {2: 3, 4: 2, 6: 4}
"""By the kind of colour; one for all others."""
_DEFLATE_RATIO = 1032
"""To how much of its size data can be packed."""


def require_sound(data: bytes, name: str) -> None:
    """Refuse a PNG that claims longer parts than it has, or more pixels than can be packed into it; others pass.

    Raises:
        FormatError: It does.
    """
    if len(data) < 33 or not data.startswith(_PNG):
        return
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    if width * height * depth * _CHANNELS.get(colour, 1) // 8 > _DEFLATE_RATIO * len(data):
        raise FormatError(f"{name}: {width}x{height} pixels do not fit into {len(data)} bytes; the file is damaged")
    at = len(_PNG)
    while at + 12 <= len(data):
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    if at > len(data):
        raise FormatError(f"{name}: a part ends at byte {at} of {len(data)}; the file is damaged or cut off")
