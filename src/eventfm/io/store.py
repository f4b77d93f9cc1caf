"""The native store: HDF5 in the DSEC layout, with tracks, sensor and provenance.

A file holds one recording at its root, or many under `recordings/<id>/`. A recording is `events/{x, y, t, p}`,
`ms_to_idx` and `t_offset` as DSEC has them (see `indexed`), with int64 times, and one group per track with `times`
and `data`. `events/noise` (1 = noise) is there where a simulator knows it. Sensor, format of origin and provenance
are attributes, and so are the names of the classes of a track of such.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eventfm.events import OnError, Sensor
from eventfm.io.atomic import atomic_file
from eventfm.io.contract import FormatError, Reader
from eventfm.io.hdf5_file import Hdf5File, Hdf5Track, h5py, reading, require_hdf5, stored
from eventfm.io.hdf5_sink import hdf5_writer
from eventfm.io.indexed import IndexedRecording
from eventfm.io.recording import as_track_times
from eventfm.io.store_layout import CLASSES, ID_GROUP, VERSION, VERSION_KEY, check_id, read_text, write_recording
from eventfm.protocols import Recording, Track


def save_recording(
    path: str | os.PathLike[str],
    recording: Recording,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write one recording with its tracks and return the path; the recording is read piece by piece.

    Args:
        path: The file to write; it appears as a whole or not at all.
        recording: What to write.
        provenance: JSON-ready notes of where it came from, kept with it.
        overwrite: Whether a file that exists may be replaced.

    Raises:
        FileExistsError: The file exists and `overwrite` is not set.
        WriteError: The system refused to write.
    """
    target = Path(path)
    with atomic_file(target, overwrite) as temporary, hdf5_writer(temporary) as (file, check):
        file.attrs[VERSION_KEY] = VERSION
        write_recording(file, recording, provenance, check)
    return target


def save_recordings(
    path: str | os.PathLike[str],
    recordings: Mapping[str, Recording] | Iterable[tuple[str, Recording]],
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write many recordings, by id, into one file and return the path; see `save_recording`.

    Raises:
        FormatError: An id comes twice, is empty, or holds `/` or `::`.
    """
    target = Path(path)
    pairs = recordings.items() if isinstance(recordings, Mapping) else recordings
    with atomic_file(target, overwrite) as temporary, hdf5_writer(temporary) as (file, check):
        file.attrs[VERSION_KEY] = VERSION
        group = file.create_group(ID_GROUP)
        for identifier, recording in pairs:
            check_id(identifier, group)
            write_recording(group.create_group(identifier), recording, provenance, check)
    return target


def list_recordings(path: str | os.PathLike[str]) -> list[str]:
    """Return the ids of the recordings in a store; none for a file that holds one at its root.

    Raises:
        FormatError: The file is no store.
    """
    file = Path(path)
    sniff(file)
    with reading(file), h5py.File(file, "r") as handle:
        return sorted(handle[ID_GROUP]) if ID_GROUP in handle else []


def sniff(path: Path) -> float:
    """Return 1 for a file written by `save_recording` or `save_recordings`.

    Raises:
        FormatError: It is none, or of a newer version.
    """
    require_hdf5(path)
    with reading(path), h5py.File(path, "r") as file:
        _require_version(file)
    return 1.0


def open_file(path: Path, sensor: Sensor | None, on_error: OnError) -> IndexedRecording:
    """Return the recording at `path`, or `"path::id"`, read when asked for.

    Raises:
        FormatError: The file holds many recordings and no id was given, or none of that id; or it is damaged.
    """
    name, mark, identifier = str(path).rpartition("::")
    if path.exists() or not mark:
        name, identifier = str(path), ""
    file_path = Path(name)
    require_hdf5(file_path)
    # One handle serves all looks: a store of thousands is looked at once per recording, so each look counts.
    file = Hdf5File(file_path, chunk_cache=not identifier)
    with reading(file_path):
        _require_version(file["/"])
        many = file[ID_GROUP] if ID_GROUP in file["/"] else {}
        if identifier and ("/" in identifier or identifier not in many):
            raise FormatError(f"{file_path} holds no recording {identifier!r}; it holds {_some(sorted(many))}")
        if not identifier and len(many):
            ids = sorted(many)
            raise FormatError(
                f"{file_path} holds {len(ids)} recordings: {_some(ids)}; "
                f'open one of them with open_recording("{file_path}::{ids[0]}")'
            )
        if not identifier and "events" not in file["/"]:
            raise FormatError(f"{file_path} holds no recording")
        group = f"{ID_GROUP}/{identifier}" if identifier else "/"
        root = file[group]
        attributes = root.attrs
        stated = Sensor(
            int(attributes["sensor_width"]),
            int(attributes["sensor_height"]),
            read_text(root, "sensor_name"),
            bool(attributes["sensor_inferred"]),
        )
        provenance = json.loads(read_text(root, "provenance"))
        tracks = _tracks(file, group)
    return IndexedRecording(file, group, "eventfm", sensor or stated, on_error, tracks, provenance)


def _require_version(root: Any) -> None:
    version = root.attrs.get(VERSION_KEY)
    if version is None:
        raise FormatError("it is an HDF5 file, but eventfm did not write it")
    if version != VERSION:
        raise FormatError(f"it is a store of version {version}; this eventfm reads version {VERSION}")


def _tracks(file: Hdf5File, group: str) -> dict[str, Track]:
    tracks: dict[str, Track] = {}
    for name, item in file[group].items():
        if isinstance(item, h5py.Group) and "times" in item and "data" in item:
            times = as_track_times(np.asarray(stored(item, "times")[()]))
            data = item["data"]
            if isinstance(data, h5py.Dataset):
                stored(item, "data", ndim=data.ndim)
            if len(data) != len(times):
                raise FormatError(f"{file.path}: track {name} has {len(data)} entries and {len(times)} times")
            classes = tuple(map(str, json.loads(read_text(item, CLASSES)))) if CLASSES in item.attrs else ()
            tracks[name] = Hdf5Track(file, f"{group.rstrip('/')}/{name}/data", times, classes)
    return tracks


def _some(ids: list[str]) -> str:
    return ", ".join(map(repr, ids[:5])) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")


READER = Reader(sniff, open_file)
