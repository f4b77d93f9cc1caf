"""What a recording holds, and recordings from one format to another."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sized
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from eventfm.events import OnError, Sensor
from eventfm.io.atomic import atomic_file
from eventfm.io.contract import FormatError
from eventfm.io.opening import open_recording
from eventfm.protocols import Recording, Track

_PIECE = 1_000_000
_TARGETS = (".h5", ".hdf5", ".npz", ".npy", ".txt")


def summarise(recording: Recording) -> dict[str, Any]:
    """Return format, number of events, first and last time, sensor and entries per track, ready for JSON.

    The keys are `format, num_events, t_first_us, t_last_us, sensor{width, height, inferred}, tracks{name: count}`;
    without events the times are 0 and -1.
    """
    sensor = recording.sensor
    return {
        "format": recording.format,
        "num_events": int(recording.num_events),
        "t_first_us": int(recording.t_range[0]),
        "t_last_us": int(recording.t_range[1]),
        "sensor": {"width": int(sensor.width), "height": int(sensor.height), "inferred": bool(sensor.inferred)},
        "tracks": {name: _length(track) for name, track in recording.tracks.items()},
    }


def convert(
    source: str | os.PathLike[str] | Recording,
    target: str | os.PathLike[str],
    *,
    format: str | None = None,
    sensor: Sensor | tuple[int, int] | None = None,
    on_error: OnError = "raise",
    overwrite: bool = False,
) -> Path:
    """Write `source` in the format that the extension of `target` names, and return the path.

    `.h5` and `.hdf5` are the native store and keep everything; `.npz` keeps columns, sensor and tracks whose entries
    share one shape; `.npy` (structured t, x, y, p) and `.txt` (first line `W H`, then rows `t x y p` in microseconds)
    keep the events. A warning names the tracks that are left behind. The target appears as a whole or not at all.

    Raises:
        FormatError: Another extension, or the source is damaged.
        FileExistsError: The target exists and `overwrite` is not set.
        WriteError: The system refused to write.
    """
    path = Path(target)
    suffix = path.suffix.lower()
    if suffix not in _TARGETS:
        raise FormatError(f"expected a target with one of the extensions {', '.join(_TARGETS)}, got {path.name!r}")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; pass overwrite=True to replace it")
    recording = open_recording(source, format, sensor, on_error) if isinstance(source, str | os.PathLike) else source
    if suffix in (".h5", ".hdf5"):
        from eventfm.io.store import save_recording

        origin = {} if isinstance(source, Recording) else {"source": Path(source).name}
        return save_recording(path, recording, origin, overwrite)
    if suffix == ".npz":
        _write_npz(path, recording, overwrite)
        return path
    _warn_of_lost(list(recording.tracks), suffix)
    (_write_npy if suffix == ".npy" else _write_text)(path, recording, overwrite)
    return path


def _write_npz(path: Path, recording: Recording, overwrite: bool) -> None:
    events = recording.events_by_index(0, recording.num_events)
    arrays: dict[str, NDArray[Any]] = {name: getattr(events, name) for name in "txyp"}
    lost = []
    for name, track in recording.tracks.items():
        entries = [track.read(i) for i in range(_length(track))]
        if len({(entry.shape, entry.dtype) for entry in entries}) > 1 or "/" in name:
            lost.append(name)
            continue
        arrays[f"track_{name}_times"] = np.asarray(track.times)
        arrays[f"track_{name}_data"] = np.stack(entries) if entries else np.empty(0, np.uint8)
    _warn_of_lost(lost, ".npz")
    if not recording.sensor.inferred:
        arrays["width"] = np.array(recording.sensor.width)
        arrays["height"] = np.array(recording.sensor.height)
    with atomic_file(path, overwrite) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _write_npy(path: Path, recording: Recording, overwrite: bool) -> None:
    with atomic_file(path, overwrite) as temporary, temporary.open("wb") as file:
        empty = recording.events_by_index(0, 0).to_structured()
        descr = npy_format.dtype_to_descr(empty.dtype)
        header = {"descr": descr, "fortran_order": False, "shape": (recording.num_events,)}
        npy_format.write_array_header_1_0(file, header)
        for start in range(0, recording.num_events, _PIECE):
            file.write(recording.events_by_index(start, start + _PIECE).to_structured().tobytes())


def _write_text(path: Path, recording: Recording, overwrite: bool) -> None:
    with atomic_file(path, overwrite) as temporary, temporary.open("w", encoding="ascii") as file:
        if not recording.sensor.inferred:
            file.write(f"{recording.sensor.width} {recording.sensor.height}\n")
        for start in range(0, recording.num_events, _PIECE):
            piece = recording.events_by_index(start, start + _PIECE)
            columns = (getattr(piece, name).tolist() for name in "txyp")
            file.writelines(f"{t} {x} {y} {p}\n" for t, x, y, p in zip(*columns, strict=True))


def _warn_of_lost(names: list[str], suffix: str) -> None:
    if names:
        warnings.warn(f"{suffix} cannot hold the tracks {', '.join(sorted(names))}; they are left behind", stacklevel=3)


def _length(track: Track) -> int:
    return len(track) if isinstance(track, Sized) else len(track.times)
