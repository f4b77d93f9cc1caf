"""Which formats can be written, by name and by the suffix of the file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sized
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from eventfm.io.atomic import atomic_file
from eventfm.io.contract import FormatError
from eventfm.protocols import Recording, Track
from eventfm.registry import Registry

PIECE = 1_000_000
WRITERS = Registry(
    "writer",
    {
        "eventfm": "eventfm.io.writers:write_store",
        "npz": "eventfm.io.writers:write_npz",
        "npy": "eventfm.io.writers:write_npy",
        "text": "eventfm.io.writers:write_text",
        "csv": "eventfm.io.text_writer:save_csv",
        "evt3": "eventfm.io.prophesee_writers:save_evt3",
        "evt2": "eventfm.io.prophesee_writers:save_evt2",
        "dat": "eventfm.io.prophesee_writers:save_dat",
        "aedat4": "eventfm.io.aedat4_writer:save_aedat4",
        "dsec": "eventfm.io.dsec_writer:save_dsec",
    },
)
"""Functions `(path, recording, overwrite)`; the file appears as a whole or not at all."""
_FORMATS = {
    ".h5": "eventfm",
    ".hdf5": "eventfm",
    ".npz": "npz",
    ".npy": "npy",
    ".txt": "text",
    ".csv": "csv",
    ".raw": "evt3",
    ".dat": "dat",
    ".aedat4": "aedat4",
}
_SUFFIXES = {"evt2": ".raw", "dsec": ".h5"} | {name: suffix for suffix, name in reversed(_FORMATS.items())}


def target_format(path: str | os.PathLike[str], to: str | None = None) -> str:
    """Return the name in `WRITERS` of the format to write: `to`, a name or a suffix, or by the suffix of `path`.

    Raises:
        FormatError: Nothing writes such a format.
    """
    name = to if to is not None else Path(path).suffix.lower()
    found = name if name in WRITERS else _FORMATS.get(name if name.startswith(".") else f".{name}")
    if found is None:
        what = f"{Path(path).name!r}" if to is None else f"{to!r}"
        raise FormatError(
            f"expected a target with one of the extensions {', '.join(_FORMATS)}, or one of the formats "
            f"{', '.join(WRITERS)}, got {what}"
        )
    return found


def target_suffix(to: str) -> str:
    """Return the suffix of files of the format `to`, a name in `WRITERS` or a suffix.

    Raises:
        FormatError: Nothing writes such a format.
    """
    suffix = to if to.startswith(".") else f".{to}"
    return suffix if suffix in _FORMATS else _SUFFIXES.get(target_format("", to), suffix)


def write_store(path: Path, recording: Recording, overwrite: bool = False) -> None:
    """Write the native store, which keeps everything."""
    from eventfm.io.store import save_recording

    save_recording(path, recording, overwrite=overwrite)


def write_npz(path: Path, recording: Recording, overwrite: bool = False) -> None:
    """Write the columns, the sensor and the tracks whose entries share one shape; held in memory meanwhile."""
    events = recording.events_by_index(0, recording.num_events)
    arrays: dict[str, NDArray[Any]] = {name: getattr(events, name) for name in "txyp"}
    lost = []
    for name, track in recording.tracks.items():
        entries = [track.read(i) for i in range(track_length(track))]
        if len({(entry.shape, entry.dtype) for entry in entries}) > 1 or "/" in name:
            lost.append(name)
            continue
        arrays[f"track_{name}_times"] = np.asarray(track.times)
        arrays[f"track_{name}_data"] = np.stack(entries) if entries else np.empty(0, np.uint8)
    warn_of_lost(lost, ".npz")
    if not recording.sensor.inferred:
        arrays["width"] = np.array(recording.sensor.width)
        arrays["height"] = np.array(recording.sensor.height)
    with atomic_file(path, overwrite) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def write_npy(path: Path, recording: Recording, overwrite: bool = False) -> None:
    """Write the events as one structured array t, x, y, p."""
    warn_of_lost(list(recording.tracks), ".npy")
    with atomic_file(path, overwrite) as temporary, temporary.open("wb") as file:
        empty = recording.events_by_index(0, 0).to_structured()
        descr = npy_format.dtype_to_descr(empty.dtype)
        header = {"descr": descr, "fortran_order": False, "shape": (recording.num_events,)}
        npy_format.write_array_header_1_0(file, header)
        for start in range(0, recording.num_events, PIECE):
            file.write(recording.events_by_index(start, start + PIECE).to_structured().tobytes())


def write_text(path: Path, recording: Recording, overwrite: bool = False) -> None:
    """Write a first line `W H`, then rows `t x y p` in microseconds."""
    warn_of_lost(list(recording.tracks), ".txt")
    with atomic_file(path, overwrite) as temporary, temporary.open("w", encoding="ascii") as file:
        if not recording.sensor.inferred:
            file.write(f"{recording.sensor.width} {recording.sensor.height}\n")
        for start in range(0, recording.num_events, PIECE):
            piece = recording.events_by_index(start, start + PIECE)
            columns = (getattr(piece, name).tolist() for name in "txyp")
            file.writelines(f"{t} {x} {y} {p}\n" for t, x, y, p in zip(*columns, strict=True))


def warn_of_lost(names: list[str], suffix: str) -> None:
    """Warn of the tracks that a format cannot hold."""
    if names:
        warnings.warn(f"{suffix} cannot hold the tracks {', '.join(sorted(names))}; they are left behind", stacklevel=3)


def track_length(track: Track) -> int:
    """Return the number of entries of a track."""
    return len(track) if isinstance(track, Sized) else len(track.times)
