"""Write one recording into a group of an HDF5 file, piece by piece, in the layout of the native store."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Mapping
from typing import Any

import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from eventfm import __version__
from eventfm.io.contract import FormatError
from eventfm.io.hdf5_file import entry_name
from eventfm.protocols import Recording, Track

VERSION_KEY = "eventfm_store"
VERSION = 2
"""Of a store that packs small recordings (`store_packing`)."""
PLAIN_VERSION = 1
"""Of every other store."""
ID_GROUP = "recordings"
_RESERVED = {"events", "ms_to_idx", "t_offset", ID_GROUP}
_CHUNK = 40_000
_PIECE = 1_000_000
_LARGEST_NUM_MS = 2**31
_LONGEST_TEXT = 60_000
_TRACK_CHUNK_BYTES = 1 << 16
COLUMNS = {"x": np.uint16, "y": np.uint16, "t": np.int64, "p": np.uint8}
CLASSES = "classes"
"""Attribute of a track of classes: their names, by number, as a list in JSON. It is there where somebody named them."""
FINGERPRINT = "fingerprint"
"""Attribute of a recording that brought its own (`fingerprint.fingerprint`), which its events alone do not give."""
NOISE = "noise"
"""Column of `events/` that is there only where the recording knows which events are noise."""


def write_recording(
    group: Any, recording: Recording, provenance: Mapping[str, Any] | None, check: Callable[[], None]
) -> None:
    """Write events, index, tracks and attributes of `recording` into the empty `group`.

    `check` is called after every piece; what it raises ends the writing.

    Raises:
        FormatError: Pieces of the recording do not follow each other in time, it lasts longer than 24 days, or a
            track has a name that the layout needs.
    """
    sensor = recording.sensor
    _write_events(group, recording, check)
    for name, track in recording.tracks.items():
        if name in _RESERVED or "/" in name or not name.strip("."):
            raise FormatError(f"a track cannot be called {name!r} in the store; rename it")
        _write_track(group.create_group(name), track, check)
    group.attrs["sensor_width"] = sensor.width
    group.attrs["sensor_height"] = sensor.height
    write_text(group, "sensor_name", sensor.name)
    group.attrs["sensor_inferred"] = sensor.inferred
    write_text(group, "source_format", recording.format)
    if isinstance(known := getattr(recording, "fingerprint", None), str):
        write_text(group, FINGERPRINT, known)
    write_text(group, "eventfm_version", __version__)
    write_text(group, "provenance", json.dumps(dict(provenance or {})))


def check_id(identifier: str, taken: Container[str]) -> None:
    """Refuse an id that cannot name a recording.

    Raises:
        FormatError: It is empty, holds `/` or `::`, or is taken.
    """
    if not identifier.strip(".") or "/" in identifier or "::" in identifier:
        raise FormatError(f"expected an id without '/' and '::', got {identifier!r}")
    if identifier in taken:
        raise FormatError(f"two recordings have the id {identifier!r}")


def read_text(group: Any, name: str) -> str:
    """Return the text attribute `name` of `group`.

    Raises:
        FormatError: It is not of fixed length. HDF5 may read text of variable length for ever in a damaged file.
    """
    attribute = group.attrs.get_id(name)
    if attribute.dtype.kind != "S" or attribute.shape != ():
        raise FormatError(f"expected text of fixed length as attribute {name}, got {attribute.dtype}")
    return bytes(group.attrs[name]).decode()


def write_text(group: Any, name: str, text: str) -> None:
    """Write a text attribute of `group`.

    Raises:
        FormatError: It is longer than an attribute may be.
    """
    data = text.encode()
    if len(data) > _LONGEST_TEXT:
        raise FormatError(f"{name} has {len(data)} bytes; an HDF5 attribute holds at most {_LONGEST_TEXT}")
    group.attrs[name] = np.array(data, f"S{max(len(data), 1)}")


def _write_events(group: Any, recording: Recording, check: Callable[[], None]) -> None:
    chunk = max(1, min(_CHUNK, recording.num_events))
    events = group.create_group("events")
    columns = {name: growing(events, name, dtype, chunk) for name, dtype in COLUMNS.items()}
    index = growing(group, "ms_to_idx", np.uint64, max(1, min(_CHUNK, _num_ms(*recording.t_range))))
    offset_us: int | None = None
    last_us, written, next_ms = 0, 0, 0
    for start in range(0, recording.num_events, _PIECE):
        piece = recording.events_by_index(start, start + _PIECE)
        if not len(piece):
            continue
        if offset_us is None:
            offset_us = int(piece.t[0])
        elif piece.t[0] < last_us:
            raise FormatError(f"time goes backwards from {last_us} us to {piece.t[0]} us between two pieces")
        if piece.noise is not None and not written:
            columns[NOISE] = growing(events, NOISE, np.uint8, chunk)
        if (piece.noise is not None) != (NOISE in columns):
            raise FormatError("some pieces of the recording say which events are noise and others do not")
        last_us = int(piece.t[-1])
        relative = piece.t - offset_us
        for name, column in columns.items():
            append(column, relative if name == "t" else getattr(piece, name))
        stop_ms = _num_ms(offset_us, last_us)
        for first in range(next_ms, stop_ms, _PIECE):
            boundaries = np.arange(first, min(first + _PIECE, stop_ms), dtype=np.int64) * 1000
            append(index, (written + np.searchsorted(relative, boundaries, side="left")).astype(np.uint64))
            check()
        next_ms = stop_ms
        written += len(piece)
        check()
    group.create_dataset("t_offset", data=np.int64(offset_us or 0))


def _num_ms(first_us: int, last_us: int) -> int:
    """Return the entries of `ms_to_idx`: one per millisecond that begins no later than the last event."""
    if last_us < first_us:
        return 0
    count = (last_us - first_us) // 1000 + 1
    if count > _LARGEST_NUM_MS:
        raise FormatError(f"the recording lasts {count} ms, more than 24 days: one of its times must be wrong")
    return count


def growing(group: Any, name: str, dtype: Any, chunk: int) -> Any:
    """Return a new column of `group` with no entry yet, to be written by `append`."""
    return group.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(chunk,), **_compression())


def append(column: Any, values: NDArray[Any]) -> None:
    """Write `values` to the end of a column."""
    start = len(column)
    column.resize((start + len(values),))
    column[start:] = values


def _compression() -> Mapping[str, Any]:
    return hdf5plugin.Blosc(cname="lz4", clevel=5, shuffle=hdf5plugin.Blosc.BITSHUFFLE)


def _write_track(group: Any, track: Track, check: Callable[[], None]) -> None:
    """Write `times` and `data`: one data set (N, ...), or one per entry where entries differ in shape or dtype."""
    if classes := getattr(track, CLASSES, ()):
        write_text(group, CLASSES, json.dumps(list(classes)))
    times = np.asarray(track.times, np.int64)
    group.create_dataset("times", data=times)
    if not len(times):
        group.create_dataset("data", data=np.empty(0, np.uint8))
        return
    first = np.asarray(track.read(0))
    rows = max(1, min(len(times), _TRACK_CHUNK_BYTES // max(first.nbytes, 1)))
    shape, chunks = (len(times), *first.shape), (rows, *first.shape)
    options = {"chunks": chunks, **_compression()} if first.size else {}
    data = group.create_dataset("data", shape, first.dtype, **options)
    for start in range(0, len(times), rows):
        entries = [np.asarray(track.read(i)) for i in range(start, min(start + rows, len(times)))]
        if any(entry.shape != first.shape or entry.dtype != first.dtype for entry in entries):
            break
        data[start : start + len(entries)] = np.stack(entries)
        check()
    else:
        return
    del group["data"]
    ragged = group.create_group("data")
    for i in range(len(times)):
        entry = np.asarray(track.read(i))
        ragged.create_dataset(entry_name(i), data=entry, **(_compression() if entry.size and entry.ndim else {}))
        check()
