"""NumPy files: `.npy` and `.npz` with a structured array, an (N, 4) array or one array per column.

Both kinds of N-ImageNet samples (Kim et al., ICCV 2021) are among them, `event_data` and `x_pos, y_pos, timestamp,
polarity`, with a sensor of 640x480.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from eventfm.events import Events, OnError, Sensor
from eventfm.io.columns import file_columns, guess_order, table_columns
from eventfm.io.contract import FormatError, Reader, choose_sensor, report_cut
from eventfm.io.recording import ArrayRecording, ArrayTrack
from eventfm.protocols import Track

_FIELDS = {
    "x": ("x", "xs", "x_pos"),
    "y": ("y", "ys", "y_pos"),
    "t": ("t", "ts", "timestamp", "timestamps", "time"),
    "p": ("p", "ps", "pol", "polarity", "polarities", "on"),
}
_WHOLE = ("events", "event_data", "arr_0")
_N_IMAGENET_KEYS = {"event_data", "x_pos"}
_N_IMAGENET = (Sensor(640, 480, "N-ImageNet"),)
_LARGEST_RATIO = 2000


def sniff(path: Path) -> float:
    """Return 1 for a `.npy` file, 0.9 for a zip archive of them, whose names may say more to other readers.

    Raises:
        FormatError: It is neither.
    """
    if path.is_dir():
        raise FormatError("it is a folder")
    with path.open("rb") as file:
        start = file.read(6)
    if start == b"\x93NUMPY":
        return 1.0
    if not start.startswith(b"PK\x03\x04"):
        raise FormatError("it starts neither as .npy nor as .npz")
    try:
        names = npz_names(path)
    except FormatError:  # a damaged archive is told from another format when it is opened
        return 0.5
    if not names:
        raise FormatError("the zip archive holds no .npy file")
    return 0.9


def npz_names(path: Path) -> list[str]:
    """Return the names of the arrays in an npz.

    Raises:
        FormatError: It is none, or its list of members is damaged.
    """
    if path.is_dir():
        raise FormatError("it is a folder")
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            raise FormatError("it does not start as .npz")
    try:
        with zipfile.ZipFile(path) as archive:
            return [name[:-4] for name in archive.namelist() if name.endswith(".npy")]
    except Exception as error:  # zipfile lets out whatever damaged bytes raise
        raise FormatError(f"{path}: damaged or cut off: {error}") from None


def read_npz(path: Path, names: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """Return the arrays called `names`, or all, of those that an npz holds; nothing else is looked at.

    Raises:
        FormatError: The file is damaged, or an array holds pickled objects, which are never loaded.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {
                item.filename[:-4]: _read_member(archive, item)
                for item in archive.infolist()
                if item.filename.endswith(".npy") and (names is None or item.filename[:-4] in names)
            }
    except FormatError:
        raise
    except Exception as error:  # numpy and zipfile let out whatever damaged bytes raise, tokenize.TokenError included
        raise FormatError(f"{path}: damaged or cut off: {error}") from None


def open_file(path: Path, sensor: Sensor | None, on_error: OnError) -> ArrayRecording:
    """Return the recording, in memory, with the tracks that `convert` wrote. Nothing is ever unpickled.

    Raises:
        FormatError: The file is damaged, or no events are found in it.
    """
    source = str(path)
    arrays = _load(path, on_error)
    columns, order = _find(arrays, source)
    stated = None
    if "width" in arrays and "height" in arrays:
        stated = Sensor(_scalar(arrays, "width", source), _scalar(arrays, "height", source))
    found = file_columns(columns, source) if order is None else table_columns(columns["table"], order, source)
    known = _N_IMAGENET if _N_IMAGENET_KEYS & set(arrays) else ()
    size = choose_sensor(found.x, found.y, sensor, stated, known)
    events = Events.checked(*found, size, on_error=on_error, source=source)
    return ArrayRecording(events, _tracks(arrays, source), "numpy")


def _tracks(arrays: Mapping[str, NDArray[Any]], source: str) -> dict[str, Track]:
    tracks: dict[str, Track] = {}
    for name in sorted(key[6:-6] for key in arrays if key.startswith("track_") and key.endswith("_times")):
        times, data = arrays[f"track_{name}_times"], arrays.get(f"track_{name}_data")
        if data is None or data.ndim == 0 or times.dtype.kind not in "iuf":
            raise FormatError(f"{source}: track {name} is damaged: expected times and data of one length")
        tracks[name] = ArrayTrack(times, data)
    return tracks


def _find(arrays: Mapping[str, NDArray[Any]], source: str) -> tuple[dict[str, NDArray[Any]], str | None]:
    """Return named columns and None, or `{"table": (N, 4)}` and the order of its columns."""
    whole = next((arrays[name] for name in _WHOLE if name in arrays), None)
    fields: Mapping[str, Any] = arrays
    if whole is not None and whole.dtype.names is not None:
        fields = {name: whole[name] for name in whole.dtype.names}
    elif whole is not None and whole.ndim == 2 and whole.shape[1] == 4 and whole.dtype.kind in "iuf":
        return {"table": whole}, guess_order(whole[:1000].astype(np.float64))
    found = {key: next((name for name in known if name in fields), None) for key, known in _FIELDS.items()}
    missing = [key for key, name in found.items() if name is None]
    if missing:
        raise FormatError(
            f"{source}: expected columns x, y, t, p or an (N, 4) array; no {', '.join(missing)} "
            f"among {', '.join(f'{name} {array.dtype}{array.shape}' for name, array in arrays.items())[:400]}"
        )
    return {key: np.asarray(fields[str(name)]).reshape(-1) for key, name in found.items()}, None


def _scalar(arrays: Mapping[str, NDArray[Any]], name: str, source: str) -> int:
    array = arrays[name]
    if array.size != 1 or array.dtype.kind not in "iu":
        raise FormatError(f"{source}: expected one whole number as {name}, got {array.dtype}{array.shape}")
    return int(array.reshape(-1)[0])


def _load(path: Path, on_error: OnError) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file:
            if file.read(2) == b"\x93N":
                return {"arr_0": _read_npy(file, path.stat().st_size, str(path), on_error)}
    except FormatError:
        raise
    except Exception as error:  # numpy lets out whatever damaged bytes raise, tokenize.TokenError included
        raise FormatError(f"{path}: damaged or cut off: {error}") from None
    return read_npz(path)


def _read_member(archive: zipfile.ZipFile, item: zipfile.ZipInfo) -> NDArray[Any]:
    name = f"{archive.filename}, {item.filename}"
    if item.file_size > _LARGEST_RATIO * max(item.compress_size, 1):
        raise FormatError(f"{name}: claims {item.file_size} bytes in {item.compress_size} compressed ones")
    with archive.open(item) as file:
        return _read_npy(file, item.file_size, name, "raise")


def _read_npy(file: IO[bytes], size: int, name: str, on_error: OnError) -> NDArray[Any]:
    """Return the array, or the whole rows that are there, after comparing what the header claims with `size`."""
    file.seek(0)
    version = npy_format.read_magic(file)
    read_header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    shape, fortran, dtype = read_header(file)
    if dtype.hasobject:
        raise FormatError(f"{name}: holds pickled objects, which are never loaded; store plain numbers")
    held = size - file.tell()
    row_bytes = math.prod(shape[1:]) * dtype.itemsize
    if min(shape, default=0) < 0 or (row_bytes == 0 and shape):
        raise FormatError(f"{name}: damaged: shape {shape} of {dtype}")
    if row_bytes * (shape[0] if shape else 1) <= held:
        file.seek(0)
        return np.asarray(npy_format.read_array(file, allow_pickle=False))
    if fortran or not shape:
        raise FormatError(f"{name}: cut off: the header claims shape {shape} of {dtype}, only {held} bytes follow")
    num_rows = held // row_bytes
    report_cut(f"{name}: cut off after event {num_rows} of {shape[0]}", on_error)
    return np.frombuffer(file.read(num_rows * row_bytes), dtype).reshape(num_rows, *shape[1:])


READER = Reader(sniff, open_file)
