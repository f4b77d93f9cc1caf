"""ROS messages read from their bytes: arrays of events, packets of events, pictures, inertial samples.

ROS 1 packs fields without gaps. ROS 2 (CDR) puts four bytes in front and aligns each number to its own size, counted
from behind them. Nothing is decoded field by field that is an array: events are viewed in the buffer.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventfm.io.contract import DamagedFileError, FormatError
from eventfm.io.png import require_sound

EVENT_ARRAYS = ("dvs_msgs/msg/EventArray", "prophesee_event_msgs/msg/EventArray")
EVENT_PACKETS = ("event_camera_msgs/msg/EventPacket",)
IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
IMU = "sensor_msgs/msg/Imu"

_CHANNELS = {
    "mono8": (1, 1), "8UC1": (1, 1), "rgb8": (3, 1), "bgr8": (3, 1), "8UC3": (3, 1), "rgba8": (4, 1), "bgra8": (4, 1),
    "mono16": (1, 2), "16UC1": (1, 2), "rgb16": (3, 2), "bgr16": (3, 2),
}  # fmt: skip
_CDR_STRIDE = 16


class Rows(NamedTuple):
    """Events of one message as it holds them: pixels, microseconds, polarity 0 or 1."""

    x: NDArray[Any]
    y: NDArray[Any]
    t: NDArray[np.int64]
    p: NDArray[Any]


class Packet(NamedTuple):
    """A message of type `event_camera_msgs/EventPacket`; its events are still encoded."""

    stamp_us: int
    width: int
    height: int
    time_base_ns: int
    encoding: str
    big_endian: bool
    payload: NDArray[np.uint8]


class Fields:
    """The fields of one message, read in turn from its bytes; `cdr` tells ROS 2 from ROS 1."""

    def __init__(self, raw: bytes, cdr: bool) -> None:
        self.raw = raw
        self.cdr = cdr
        self.position = self._start = 4 if cdr else 0
        if len(raw) < self._start:
            raise DamagedFileError(f"a message of {len(raw)} bytes")
        # The second of the four bytes of CDR is odd for little-endian numbers.
        self.order = ">" if cdr and not raw[1] & 1 else "<"

    def numbers(self, code: str, count: int = 1) -> tuple[Any, ...]:
        """Return `count` numbers of the type `code` of `struct`."""
        size = struct.calcsize(code)
        self.align(size)
        at = self.take(size * count)
        return struct.unpack_from(f"{self.order}{count}{code}", self.raw, at)

    def number(self, code: str) -> int:
        """Return one whole number of the type `code` of `struct`."""
        return int(self.numbers(code)[0])

    def text(self) -> str:
        """Return a string."""
        size = self.number("I")
        at = self.take(size)
        return self.raw[at : at + size].rstrip(b"\0").decode("latin-1")

    def data(self) -> NDArray[np.uint8]:
        """Return an array of bytes as a view."""
        size = self.number("I")
        return np.frombuffer(self.raw, np.uint8, size, self.take(size))

    def stamp_ns(self) -> int:
        """Return the stamp of a header, which must come first, and go past the header; 0 where it is not set."""
        if not self.cdr:
            self.number("I")
        seconds, nanoseconds = self.numbers("I", 2)
        self.text()
        return int(seconds) * 10**9 + int(nanoseconds)

    def align(self, size: int) -> None:
        """Go to where a number of `size` bytes may begin."""
        if self.cdr:
            self.position += -(self.position - self._start) % size

    def take(self, size: int) -> int:
        """Go past `size` bytes and return where they begin.

        Raises:
            DamagedFileError: The message ends before.
        """
        at = self.position
        if at + size > len(self.raw):
            raise DamagedFileError(f"a message of {len(self.raw)} bytes that should go on to byte {at + size}")
        self.position = at + size
        return at


def event_array(raw: bytes, cdr: bool) -> tuple[tuple[int, int], Rows]:
    """Return sensor width and height, and the events, of a `dvs_msgs` or `prophesee_event_msgs` `EventArray`.

    An event is u16 x, u16 y, a time of u32 seconds and u32 nanoseconds, and u8 polarity: 13 bytes in ROS 1. Times are
    cut to whole microseconds. In ROS 2 the seconds are aligned to 4 bytes, so that an event comes every 16 bytes, and
    x and y lie at the end of the 16 bytes before, except for the first event, which has nothing before it.

    Raises:
        DamagedFileError: The message ends before its events do.
    """
    fields = Fields(raw, cdr)
    fields.stamp_ns()
    height, width = fields.numbers("I", 2)
    count = fields.number("I")
    if not count:
        none = np.empty(0, np.int64)
        return (width, height), Rows(none, none, none, none)
    stride = _CDR_STRIDE if cdr else 13
    start = fields.take((count - 1) * stride + 13)

    def column(offset: int, code: str) -> NDArray[Any]:
        # Read-only: the bytes belong to the message.
        return np.ndarray((count,), np.dtype(fields.order + code), raw, start + offset, (stride,))

    x, y = column(-2 if cdr else 0, "u2"), column(0 if cdr else 2, "u2")
    if cdr:
        first = np.ndarray((2,), np.dtype(fields.order + "u2"), raw, start)
        x, y = x.copy(), y.copy()
        x[0], y[0] = first
    t = column(4, "u4").astype(np.int64) * 1_000_000 + column(8, "u4") // 1000
    return (width, height), Rows(x, y, t, column(12, "u1"))


def event_packet(raw: bytes, cdr: bool, bag_time_ns: int) -> Packet:
    """Return a message of type `event_camera_msgs/EventPacket`.

    Where the header has no stamp, the time at which the message was recorded, `bag_time_ns`, takes its place.
    """
    fields = Fields(raw, cdr)
    stamp_ns = fields.stamp_ns() or bag_time_ns
    height, width = fields.numbers("I", 2)
    _, time_base = fields.numbers("Q", 2)
    encoding = fields.text()
    big_endian = bool(fields.number("B"))
    return Packet(stamp_ns // 1000, width, height, int(time_base), encoding, big_endian, fields.data())


def stamp_us(raw: bytes, cdr: bool, bag_time_ns: int) -> int:
    """Return the stamp of a message that begins with a header, microseconds; the time of recording if it has none."""
    return (Fields(raw, cdr).stamp_ns() or bag_time_ns) // 1000


def imu_sample(raw: bytes, cdr: bool) -> tuple[float, ...]:
    """Return acceleration x, y, z (m/s^2) and angular velocity x, y, z (rad/s) of a `sensor_msgs/Imu`."""
    fields = Fields(raw, cdr)
    fields.stamp_ns()
    # Orientation and its covariance, angular velocity, covariance, acceleration, covariance.
    numbers = fields.numbers("d", 4 + 9 + 3 + 9 + 3 + 9)
    return (*numbers[25:28], *numbers[13:16])


def picture(raw: bytes, cdr: bool, compressed: bool) -> NDArray[Any]:
    """Return the picture of a `sensor_msgs` `Image` or `CompressedImage`: (H, W) or (H, W, 3) RGB, 8 or 16 bit.

    Raises:
        FormatError: An encoding that is not known, or bytes that are no picture.
    """
    fields = Fields(raw, cdr)
    fields.stamp_ns()
    if compressed:
        return _compressed(fields)
    height, width = fields.numbers("I", 2)
    encoding = fields.text()
    big_endian = bool(fields.number("B"))
    step = fields.number("I")
    data = fields.data()
    if encoding not in _CHANNELS:
        raise FormatError(f"a picture of encoding {encoding!r}; known: {', '.join(_CHANNELS)}")
    channels, size = _CHANNELS[encoding]
    row = width * channels * size
    if not height or not width or step < row or len(data) < step * (height - 1) + row:
        raise DamagedFileError(f"a picture of {width}x{height} {encoding} with {len(data)} bytes, {step} a row")
    kind = np.dtype(">u2" if big_endian else "<u2") if size == 2 else np.dtype(np.uint8)
    shape = (height, width, channels)
    view = np.ndarray(shape, kind, data.data, strides=(step, channels * size, size))
    picked = (..., 0) if channels == 1 else np.s_[..., 2::-1] if encoding.startswith("bgr") else np.s_[..., :3]
    return np.ascontiguousarray(view[picked], np.uint16 if size == 2 else np.uint8)


def _compressed(fields: Fields) -> NDArray[Any]:
    import cv2

    fields.text()
    data = fields.data()
    require_sound(bytes(data), "a compressed picture")
    found = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
    if found is None:
        raise DamagedFileError(f"a compressed picture of {len(data)} bytes that cannot be decoded")
    return np.asarray(found) if found.ndim == 2 else np.ascontiguousarray(found[..., 2::-1])
