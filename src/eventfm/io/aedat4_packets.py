"""What the packets of an AEDAT 4.0 file hold: events, frames, inertial samples, triggers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventfm.io import flatbuffer
from eventfm.io.contract import FormatError

_EVENT = np.dtype(
    {"names": ["t", "x", "y", "p"], "formats": ["<i8", "<i2", "<i2", "u1"], "offsets": [0, 8, 10, 12], "itemsize": 16}
)
_CHANNELS = {0: 1, 16: 3, 24: 4}
_IMU_FIELDS = 10
_INPUT, _GENERATOR, _FRAME, _EXPOSURE, _PULSE, _RESET = range(6)
_TRIGGERS = (
    (1, _RESET), (1, _INPUT), (0, _INPUT), (1, _PULSE), (1, _GENERATOR), (0, _GENERATOR),
    (1, _FRAME), (0, _FRAME), (1, _EXPOSURE), (0, _EXPOSURE),
)  # fmt: skip
"""Edge and channel of the ten types of triggers, by number; what begins rises and what ends falls."""


class FrameHead(NamedTuple):
    """A frame without its pixels."""

    time_us: int
    """Middle of the exposure."""
    width: int
    height: int


def events(data: bytes) -> NDArray[np.void]:
    """Return the events of an `EVTS` packet as a view with the fields t, x, y, p."""
    start, count = flatbuffer.root(data, b"EVTS").vector(0, _EVENT.itemsize)
    return np.frombuffer(data, _EVENT, count, start) if count else np.empty(0, _EVENT)


def frame_head(data: bytes) -> FrameHead:
    """Return time and size of a `FRME` packet.

    Raises:
        FormatError: The size and the number of pixels do not agree.
    """
    return _frame(data)[0]


def frame(data: bytes) -> NDArray[np.uint8]:
    """Return the picture of a `FRME` packet, (H, W) or (H, W, 3) RGB uint8 (it is stored as BGR or BGRA)."""
    head, channels, start = _frame(data)
    pixels = np.frombuffer(data, np.uint8, head.width * head.height * channels, start)
    if channels == 1:
        return pixels.reshape(head.height, head.width)
    return np.ascontiguousarray(pixels.reshape(head.height, head.width, channels)[..., 2::-1])


def num_samples(data: bytes, kind: str) -> int:
    """Return the number of entries of an `IMUS` or `TRIG` packet."""
    return flatbuffer.root(data, kind.encode()).vector(0, 4)[1]


def imu_samples(data: bytes) -> tuple[list[int], list[list[float]]]:
    """Return times in microseconds and rows of an `IMUS` packet.

    A row is temperature (degrees Celsius), acceleration x, y, z (g), angular velocity x, y, z (degrees per second)
    and magnetic field x, y, z (microtesla).
    """
    samples = flatbuffer.root(data, b"IMUS").tables(0)
    times = [sample.scalar(0, "q", 0) for sample in samples]
    return times, [[sample.scalar(field, "f", 0.0) for field in range(1, _IMU_FIELDS + 1)] for sample in samples]


def triggers(data: bytes) -> tuple[list[int], list[tuple[int, int]]]:
    """Return times in microseconds and rows (edge, channel) of a `TRIG` packet.

    AEDAT4 knows types of triggers instead. Channel 0 is the camera's input and 1 its generator, both with edges; 2 is
    a frame and 3 an exposure, from start (edge 1) to end (0); 4 is a pulse at the input, and 5 sets the clock to zero.
    A type that is not known, negative or from 10 on, is the channel of an edge 1.
    """
    found = flatbuffer.root(data, b"TRIG").tables(0)
    types = [int(one.scalar(1, "b", 0)) for one in found]
    return [one.scalar(0, "q", 0) for one in found], [
        _TRIGGERS[kind] if 0 <= kind < len(_TRIGGERS) else (1, kind) for kind in types
    ]


def trigger_type(edge: int, channel: int) -> int | None:
    """Return the number of the type that `triggers` gives as `edge` and `channel`; None if there is none."""
    if (edge, channel) in _TRIGGERS:
        return _TRIGGERS.index((edge, channel))
    is_other = edge == 1 and -128 <= channel < 128 and not 0 <= channel < len(_TRIGGERS)
    return channel if is_other else None


def _frame(data: bytes) -> tuple[FrameHead, int, int]:
    table = flatbuffer.root(data, b"FRME")
    time: Any = table.scalar(0, "q", 0)
    begin, end = table.scalar(3, "q", 0), table.scalar(4, "q", 0)
    if 0 < begin <= end:
        time = (begin + end) // 2
    code, width, height = table.scalar(5, "b", 0), table.scalar(6, "h", 0), table.scalar(7, "h", 0)
    start, count = table.vector(10, 1)
    channels = _CHANNELS.get(code)
    if channels is None:
        raise FormatError(f"damaged: a frame of pixel format {code}; expected 0, 16 or 24 (8 bit, 1, 3 or 4 channels)")
    if width <= 0 or height <= 0 or width * height * channels != count:
        raise FormatError(f"damaged: a frame of {width}x{height}x{channels} with {count} bytes of pixels")
    return FrameHead(int(time), width, height), channels, start
