"""ATIS 40-bit events without a header: the `.bin` and `.bs2` files of N-MNIST and N-Caltech101.

An event is five bytes: x, y, then polarity (1 bit) and time in microseconds (23 bits), big-endian. A row with
y = 240 is no event; it says that 2**13 us are to be added to every time from there on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eventfm.events import Events, OnError, Sensor
from eventfm.io.contract import FormatError, Reader, choose_sensor, report_cut
from eventfm.io.recording import ArrayRecording

_OVERFLOW_ROW = 240
_OVERFLOW_US = 1 << 13
_SUFFIXES = (".bin", ".bs2")
_KNOWN = (Sensor(34, 34, "N-MNIST"), Sensor(240, 180, "N-Caltech101"))
_SNIFFED = 20_000
_FEWEST_TO_TELL = 16


def decode(data: bytes) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8]]:
    """Return the columns x, y, t (microseconds) and p of whole five-byte rows; a rest of bytes is left out."""
    rows = np.frombuffer(data, np.uint8, len(data) // 5 * 5).reshape(-1, 5)
    t: NDArray[np.int64] = (rows[:, 2] & 0x7F).astype(np.int64) << 16
    t |= rows[:, 3].astype(np.int64) << 8
    t |= rows[:, 4]
    x, y, p = rows[:, 0], rows[:, 1], rows[:, 2] >> np.uint8(7)
    overflow = y == _OVERFLOW_ROW
    if overflow.any():
        t += np.cumsum(overflow) * _OVERFLOW_US
        kept = ~overflow
        return x[kept], y[kept], t[kept], p[kept]
    return x, y, t, p


def sniff(path: Path) -> float:
    """Return 0.6 (0.4 without the usual extension) if the bytes read as rows whose time runs forward.

    There is no header to go by: time must go forward in 95 % of the steps and move at all, and few events are
    believed only with the extension `.bs2`.

    Raises:
        FormatError: The bytes do not look like this format.
    """
    if path.is_dir():
        raise FormatError("it is a folder")
    known_suffix = path.suffix.lower() in _SUFFIXES
    size = path.stat().st_size
    if size % 5 and not known_suffix:
        raise FormatError(f"its {size} bytes are not a multiple of 5")
    with path.open("rb") as file:
        x, y, t, _ = decode(file.read(5 * _SNIFFED))
    if len(t) < _FEWEST_TO_TELL:
        if path.suffix.lower() == ".bs2" and size % 5 == 0:
            return 0.4
        raise FormatError(f"{len(t)} events are too few to tell; say format='atis' if it is one")
    if np.mean(t[1:] < t[:-1]) > 0.05:
        raise FormatError("time does not run forward when it is read as 40-bit events")
    if t[-1] <= t[0] or (np.ptp(x) == 0 and np.ptp(y) == 0):
        raise FormatError("read as 40-bit events, neither time nor place changes")
    return 0.6 if known_suffix else 0.4


def open_file(path: Path, sensor: Sensor | None, on_error: OnError) -> ArrayRecording:
    """Return the recording, in memory. Sizes 34x34 (N-MNIST) and 240x180 (N-Caltech101) are taken as known.

    Raises:
        FormatError: The file ends in the middle of an event.
    """
    data = path.read_bytes()
    if len(data) % 5:
        report_cut(f"{path}: cut off in the middle of event {len(data) // 5} ({len(data) % 5} of 5 bytes)", on_error)
    x, y, t, p = decode(data)
    size = choose_sensor(x, y, sensor, known=_KNOWN)
    return ArrayRecording(Events.checked(x, y, t, p, size, on_error=on_error, source=str(path)), format="atis")


READER = Reader(sniff, open_file)
