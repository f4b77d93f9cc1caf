"""Folders of the RPG memmap layout (event_utils, Stoffregen et al., ECCV 2020): `t.npy`, `xy.npy`, `p.npy`.

The writer maps the files without a header: t float64 seconds, xy int16, p uint8; files with a header are read as it
says. `metadata.json` may state `sensor_resolution` (height, width); `images.npy` with `timestamps.npy` are pictures.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from eventfm.events import OnError, Sensor
from eventfm.io.columns import to_microseconds
from eventfm.io.contract import FormatError, Reader
from eventfm.io.npy_columns import NpyColumns, NpyFile, NpyTrack
from eventfm.io.recording import as_track_times
from eventfm.io.searched import SearchedRecording, find_sensor
from eventfm.protocols import Track

_RAW = {"t": (np.float64, (1,)), "xy": (np.int16, (2,)), "p": (np.uint8, (1,))}
_LARGEST_NOTE = 1 << 20


def sniff(path: Path) -> float:
    """Return 0.9 for a folder, or its folder `memmap`, with t.npy, xy.npy and p.npy.

    Raises:
        FormatError: It is none.
    """
    _folder(path)
    return 0.9


def open_folder(path: Path, sensor: Sensor | None, on_error: OnError) -> SearchedRecording:
    """Return the recording, mapped into memory, with a track `frames` where it has pictures.

    Raises:
        FormatError: A file is missing, damaged or cut off.
    """
    folder = _folder(path)
    files = {name: NpyFile(folder / f"{name}.npy", raw) for name, raw in _RAW.items()}
    source = NpyColumns(folder, files, "s" if files["t"].dtype.kind == "f" else "us")
    stated = _stated(folder)
    tracks: dict[str, Track] = {}
    frames = _frames(folder, stated)
    if frames is not None:
        tracks["frames"] = frames
        if stated is None and len(frames):
            height, width = frames.read(0).shape[:2]
            stated = Sensor(width, height)
    return SearchedRecording(source, "rpg_memmap", find_sensor(source, sensor, stated), on_error, tracks)


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise FormatError("it is no folder")
    for folder in (path, path / "memmap"):
        if all((folder / f"{name}.npy").is_file() for name in _RAW):
            return folder
    raise FormatError("the folder has no t.npy, xy.npy and p.npy")


def _stated(folder: Path) -> Sensor | None:
    note = folder / "metadata.json"
    if not note.is_file():
        return None
    if note.stat().st_size > _LARGEST_NOTE:
        raise FormatError(f"{note}: {note.stat().st_size} bytes are too many for a note")
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{note}: damaged: {error}") from None
    resolution = found.get("sensor_resolution") if isinstance(found, dict) else None
    if not (isinstance(resolution, list) and len(resolution) >= 2 and all(isinstance(a, int) for a in resolution[:2])):
        return None
    return Sensor(resolution[1], resolution[0])


def _frames(folder: Path, stated: Sensor | None) -> NpyTrack | None:
    """Return the pictures; without a header their size must be stated, and the writer leaves one byte if none is."""
    pictures, times = folder / "images.npy", folder / "timestamps.npy"
    if not (pictures.is_file() and times.is_file()):
        return None
    seconds = NpyFile(times, (np.float64, (1,)))
    if stated is not None and pictures.stat().st_size == len(seconds):
        return None
    shape = (stated.height, stated.width, 1) if stated is not None else (1, 1, 1)
    data = NpyFile(pictures, (np.uint8, shape))
    if data.shape[1:] == (1, 1, 1):
        return None
    return NpyTrack(data, as_track_times(to_microseconds(seconds[:].reshape(-1), str(times), "s")))


READER = Reader(sniff, open_folder)
