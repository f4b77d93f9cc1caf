"""One stream of events, in files of each format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording
from eventfm.io.writers import WRITERS
from eventfm.random import generator

SENSOR = Sensor(640, 480)
_LONGEST_RUN = 12
"""Neighbours that a vector of EVT3 holds."""
_TIME_BITS = 24
"""Of EVT3's clock; the stream is to be shorter, so that it is told without loops."""


def stream(count: int) -> Events:
    """Return `count` events of edges that drift to the right, read out row by row: short runs of neighbours."""
    rng = generator(0, "decoding benchmark")
    sizes = np.minimum(rng.geometric(0.45, count), _LONGEST_RUN)
    sizes = sizes[: int(np.searchsorted(np.cumsum(sizes), count)) + 1]
    runs = len(sizes)
    t = np.cumsum(rng.integers(0, 4, runs)) + 1000
    edge, start, speed = rng.integers(0, 12, runs), rng.uniform(0, SENSOR.width, 12), rng.uniform(100, 900, 12)
    x = (start[edge] + speed[edge] * t * 1e-6 + rng.normal(0, 2, runs)) % (SENSOR.width - _LONGEST_RUN)
    y, p = rng.integers(0, SENSOR.height, runs), edge % 2
    run = np.repeat(np.arange(runs), sizes)[:count]
    place = np.arange(count) - np.repeat(np.cumsum(sizes) - sizes, sizes)[:count]
    return Events.checked(x.astype(np.int64)[run] + place, y[run], t[run], p[run], SENSOR)


def make_files(folder: Path, events: Events) -> dict[str, Path]:
    """Return the files of the stream by format, written into `folder`."""
    recording = ArrayRecording(events)
    out = {}
    for name, (suffix, write) in _KINDS.items():
        out[name] = folder / f"{name.replace(' ', '_')}_{len(events)}{suffix}"
        write(out[name], recording, events)
    return out


def vector_words(events: Events) -> NDArray[np.uint16]:
    """Return words of EVT3, where neighbours of one time, row and polarity, at most 12, share a base and a mask."""
    x, y, t, p = (column.astype(np.int64) for column in (events.x, events.y, events.t, events.p))
    if t[-1] >> _TIME_BITS:
        raise SystemExit(f"{len(x)} events last longer than {1 << _TIME_BITS} us; take fewer")
    row = np.stack((y, t, p), 1)
    is_first = np.ones(len(x), np.bool_)
    is_first[1:] = (row[1:] != row[:-1]).any(1) | (x[1:] != x[:-1] + 1)
    first = np.flatnonzero(is_first)
    size = np.diff(first, append=len(x))
    # Two runs that chance put side by side are longer than a mask: they are cut into pieces.
    within = np.arange(len(x)) - np.repeat(first, size)
    first = np.flatnonzero(within % _LONGEST_RUN == 0)
    size = np.diff(first, append=len(x))
    x, y, t, p = x[first], y[first], t[first], p[first]
    high, low = t >> 12, t & 0xFFF
    new_high = np.diff(high, prepend=-1) != 0
    new_low = new_high | (np.diff(low, prepend=-1) != 0)
    new_y = np.diff(y, prepend=-1) != 0
    is_run = size > 1
    at = np.cumsum(1 + new_high + new_low + new_y + is_run.astype(np.int64)) - 1
    words = np.empty(int(at[-1]) + 1, "<u2")
    base = p << 11 | x
    words[at] = np.where(is_run, 4 << 12 | (1 << size) - 1, 2 << 12 | base)
    at = at - is_run
    words[at[is_run]] = 3 << 12 | base[is_run]
    words[(at - 1)[new_y]] = y[new_y]
    words[(at - 1 - new_y)[new_low]] = 6 << 12 | low[new_low]
    words[(at - 1 - new_y - new_low)[new_high]] = 8 << 12 | high[new_high]
    return words


def _written_as(format: str) -> Callable[[Path, ArrayRecording, Events], None]:
    return lambda path, recording, _: WRITERS.get(format)(path, recording, overwrite=True)


def _write_vectors(path: Path, _: ArrayRecording, events: Events) -> None:
    size = f"height={SENSOR.height};width={SENSOR.width}"
    path.write_bytes(f"% evt 3.0\n% format EVT3;{size}\n% end\n".encode() + vector_words(events).tobytes())


def _write_es(path: Path, _: ArrayRecording, events: Events) -> None:
    """Write Event Stream 2.0, rows from below; steps of time are all short enough for the events themselves."""
    step = np.diff(events.t, prepend=0)
    step[0] %= 127  # it is told by bytes of their own before
    if step.max() > 126:
        raise SystemExit("expected steps of at most 126 us")
    rows = np.empty(len(events), np.dtype([("first", "u1"), ("x", "<u2"), ("y", "<u2")]))
    rows["first"], rows["x"] = step << 1 | events.p, events.x
    rows["y"] = SENSOR.height - 1 - events.y
    header = b"Event Stream\x02\x00\x00\x01" + np.array([SENSOR.width, SENSOR.height], "<u2").tobytes()
    path.write_bytes(header + b"\xff" * (int(events.t[0]) // 127) + rows.tobytes())


_KINDS = {
    "EVT2": (".raw", _written_as("evt2")),
    "EVT3": (".raw", _written_as("evt3")),
    "EVT3 vectors": (".raw", _write_vectors),
    "DAT": (".dat", _written_as("dat")),
    "AEDAT4": (".aedat4", _written_as("aedat4")),
    "ES": (".es", _write_es),
}
