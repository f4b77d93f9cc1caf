"""EVIMO2 v2 folders (Burner et al., 2022), `dataset_events_{t, xy, p}.npy`, and the npz of EVIMO (IROS 2019).

The Samsung camera of EVIMO2 marks its polarity the other way round than the Prophesee cameras; its recordings are
turned, so that 1 is ON everywhere. A camera is told by the folders above, as the data set names them. Times are
seconds, and start at 0.
"""

from __future__ import annotations

from pathlib import Path

from eventfm.events import Events, OnError, Sensor
from eventfm.io.arrays import npz_names, read_npz
from eventfm.io.columns import table_columns
from eventfm.io.contract import FormatError, Reader, choose_sensor
from eventfm.io.npy_columns import NpyColumns, NpyFile
from eventfm.io.recording import ArrayRecording
from eventfm.io.searched import SearchedRecording, find_sensor
from eventfm.protocols import Recording

_FILES = {"t": "dataset_events_t.npy", "xy": "dataset_events_xy.npy", "p": "dataset_events_p.npy"}
_SAMSUNG = "samsung_mono"
_PROPHESEE = ("left_camera", "right_camera")
_SENSOR = Sensor(640, 480, "EVIMO2")
_V1_SENSOR = Sensor(346, 260, "EVIMO")


def sniff(path: Path) -> float:
    """Return 1 for a folder with the three files, or an npz with `events`, `index` and `discretization`.

    Raises:
        FormatError: It is neither.
    """
    if path.is_dir():
        if not all((path / name).is_file() for name in _FILES.values()):
            raise FormatError(f"the folder has no {', '.join(_FILES.values())}")
        return 1.0
    names = npz_names(path)
    if not {"events", "index", "discretization"} <= set(names):
        raise FormatError("it is no npz with events, index and discretization")
    return 1.0


def open_path(path: Path, sensor: Sensor | None, on_error: OnError) -> Recording:
    """Return the recording: a folder is mapped into memory, an npz is read as a whole.

    Raises:
        FormatError: A file is missing, damaged or cut off.
    """
    if path.is_dir():
        files = {name: NpyFile(path / file) for name, file in _FILES.items()}
        cameras = path.resolve().parts
        source = NpyColumns(path, files, "s", flipped=_SAMSUNG in cameras)
        stated = _SENSOR if {_SAMSUNG, *_PROPHESEE} & set(cameras) else None
        size = find_sensor(source, sensor, stated, (_SENSOR,))
        return SearchedRecording(source, "evimo", size, on_error)
    table = read_npz(path, ("events",)).get("events")
    if table is None or table.ndim != 2 or table.shape[1] != 4 or table.dtype.kind not in "iuf":
        found = "nothing" if table is None else f"{table.dtype}{table.shape}"
        raise FormatError(f"{path}: expected numbers (N, 4) as events, got {found}")
    columns = table_columns(table, "txyp", str(path), "s")
    size = choose_sensor(columns.x, columns.y, sensor, known=(_V1_SENSOR, _SENSOR))
    events = Events.checked(*columns, size, on_error=on_error, source=str(path))
    return ArrayRecording(events, format="evimo")


READER = Reader(sniff, open_path)
