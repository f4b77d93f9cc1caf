"""The encodings of `event_camera_msgs/EventPacket`: bytes to events.

`evt3` is what the sensor sends; its decoder goes on from packet to packet. `mono`, `libcaer` and `libcaer_cmp` are
decoded packet by packet, from the packet's `time_base` on. The layouts are those of the messages' own description
(github.com/ros-event-camera).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventfm.io.contract import DamagedFileError, FormatError
from eventfm.io.ros_messages import Packet, Rows
from eventfm.io.trigger_track import Rows as Triggers
from eventfm.io.trigger_track import triggers_of

ENCODINGS = ("evt3", "mono", "libcaer", "libcaer_cmp")
SENSOR_CLOCK = ("evt3", "mono")
"""Encodings that say the sensor's own time; the others count from the host's clock."""

State = tuple[int, ...]
_WRAP_US = 1 << 31
_LATEST_NS = 1 << 62


def decode(packets: list[Packet], state: State) -> tuple[Rows, State]:
    """Return the events of packets of one encoding, in turn, and the state to go on from.

    Times are microseconds of the sensor's clock for `SENSOR_CLOCK` and of the host's for the others.

    Raises:
        FormatError: An encoding that is not known, or that changes.
    """
    encodings = sorted({packet.encoding for packet in packets})
    if len(encodings) != 1 or encodings[0] not in ENCODINGS:
        raise FormatError(f"expected event packets of one encoding among {', '.join(ENCODINGS)}, got {encodings}")
    if encodings[0] == "evt3":
        return _evt3(packets, state)
    rows = []
    for packet in packets:
        if packet.encoding == "libcaer_cmp":
            one, state = _libcaer_cmp(packet, state)
        else:
            one = _mono(packet) if packet.encoding == "mono" else _libcaer(packet)
        rows.append(one)
    return join(rows), state


def join(rows: list[Rows]) -> Rows:
    """Return the events of all `rows`, in turn."""
    if len(rows) == 1:
        return rows[0]
    return Rows(*(np.concatenate(columns) for columns in zip(*rows, strict=True)))


def triggers(packets: list[Packet], state: State) -> Triggers:
    """Return the triggers of packets of the encoding `trigger`, or of those among the words of `evt3`.

    `state` is that of `evt3` before the packets. Other encodings have none.
    """
    found = [np.empty((0, 3), np.int64)]
    if packets and packets[0].encoding == "evt3":
        from eventfm.io import evt3

        found.append(triggers_of(_evt3_words(packets), state, evt3))
    for packet in packets:
        if packet.encoding == "trigger":
            # As mono, with the channel in place of y.
            rows = _mono(packet)
            found.append(np.stack((rows.t, rows.p.astype(np.int64), rows.y.astype(np.int64)), 1))
    return np.concatenate(found)


def _evt3(packets: list[Packet], state: State) -> tuple[Rows, State]:
    from eventfm.io import evt3  # compiled, and needed by few of those who ask what a file is

    columns, state = evt3.decode(_evt3_words(packets), state)
    return Rows(*columns), state


def _evt3_words(packets: list[Packet]) -> NDArray[np.uint16]:
    return np.concatenate([_words(packet, "u2") for packet in packets])


def _base_ns(packet: Packet) -> int:
    if packet.time_base_ns >= _LATEST_NS:
        raise DamagedFileError(f"an event packet with a time base of {packet.time_base_ns} ns")
    return packet.time_base_ns


def _mono(packet: Packet) -> Rows:
    # u64: polarity[63] y[62:48] x[47:32] nanoseconds since the time base[31:0]
    words = _words(packet, "u8")
    t = (_base_ns(packet) + (words & 0xFFFFFFFF).astype(np.int64)) // 1000
    return Rows((words >> 32) & 0xFFFF, (words >> 48) & 0x7FFF, t, words >> 63)


def _libcaer(packet: Packet) -> Rows:
    # u32: x[31:17] y[16:2] polarity[1] valid[0]; i32: microseconds, which wrap at 2^31
    words = _words(packet, "u4")
    data, low = words[: len(words) // 2 * 2 : 2], words[1::2].view(np.int32).astype(np.int64)
    # A time that goes back a little is disorder, to be found by those who check; only half the range is a wrap.
    wraps = np.concatenate([np.zeros(min(len(low), 1), np.int64), np.cumsum(np.diff(low) < -_WRAP_US // 2)])
    t = _base_ns(packet) // 1000 + low + wraps * _WRAP_US
    return Rows(data >> 17, (data >> 2) & 0x7FFF, t, (data >> 1) & 1)


def _libcaer_cmp(packet: Packet, state: State) -> tuple[Rows, State]:
    """Return events and the column that is in force, all that one packet leaves to the next.

    A u16 word is a code [15:12] and: 0 time[23:12], 1 time[11:0], 2 x[10:0], 3 one event at y[10:0] p[11],
    4 y[10:0] p[11] of the vectors to come, 5 a mask[7:0] of events from there on, after which y is 8 further.
    """
    words = _words(packet, "u2").astype(np.int64)
    code, rest = words >> 12, words & 0xFFF
    x = _held(rest & 0x7FF, code == 2, state[0] if state else 0)
    t = _base_ns(packet) // 1000 + (_held(rest, code == 0, 0) << 12 | _held(rest, code == 1, 0))
    base = _held(rest, code == 4, 0)
    is_vector = code == 5
    before = np.cumsum(is_vector) - is_vector
    y = np.where(is_vector, (base & 0x7FF) + 8 * (before - _held(before, code == 4, 0)), rest & 0x7FF)
    p = np.where(is_vector, base, rest) >> 11
    mask = np.where(is_vector, rest & 0xFF, (code == 3).astype(np.int64))
    word, bit = np.nonzero(mask[:, None] >> np.arange(8) & 1)
    return Rows(x[word], y[word] + bit, t[word], p[word]), (int(x[-1]) if len(x) else 0,)


def _held(values: NDArray[np.int64], given: NDArray[np.bool_], at_first: int) -> NDArray[np.int64]:
    """Return at each place the latest of `values` that was given up to it."""
    last = np.maximum.accumulate(np.where(given, np.arange(len(values)), -1))
    return np.where(last >= 0, values[last], at_first)


def _words(packet: Packet, kind: str) -> NDArray[Any]:
    size = int(kind[1])
    whole = packet.payload[: len(packet.payload) // size * size]
    order = ">" if packet.big_endian else "<"
    return whole.view(np.dtype(order + kind)).astype(np.dtype(kind), copy=False)
