"""The native store: HDF5 in the DSEC layout, with tracks, sensor and provenance.

A file holds one recording at its root, or many under `recordings/<id>/`. A recording is `events/{x, y, t, p}`,
`ms_to_idx` and `t_offset` as DSEC has them (see `indexed`), with int64 times, and one group per track with `times`
and `data`. `events/noise` (1 = noise) is there where a simulator knows it. Sensor, format of origin and provenance
are attributes, and so are the names of the classes of a track of such. Small recordings without tracks may share
columns under `packed/` instead (see `store_packing`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np

from eventfm.events import OnError, Sensor
from eventfm.io.atomic import atomic_file
from eventfm.io.contract import FormatError, Reader
from eventfm.io.hdf5_file import Hdf5File, Hdf5Track, h5py, reading, require_hdf5, stored, version_of
from eventfm.io.hdf5_sink import hdf5_writer
from eventfm.io.indexed import IndexedRecording
from eventfm.io.recording import as_track_times
from eventfm.io.store_layout import (
    CLASSES,
    FINGERPRINT,
    ID_GROUP,
    PLAIN_VERSION,
    VERSION,
    VERSION_KEY,
    check_id,
    read_text,
    write_recording,
)
from eventfm.io.store_packed import Packed, PackedRecording, PackedTable, read_packed
from eventfm.io.store_packing import Packer
from eventfm.protocols import Recording, Track

_TABLES_KEPT = 32


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
        file.attrs[VERSION_KEY] = PLAIN_VERSION
        write_recording(file, recording, provenance, check)
    return target


def save_recordings(
    path: str | os.PathLike[str],
    recordings: Mapping[str, Recording] | Iterable[tuple[str, Recording]],
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    pack_up_to: int | None = None,
) -> Path:
    """Write many recordings, by id, into one file and return the path; see `save_recording`.

    With `pack_up_to`, recordings of at most so many events share columns (`store_packing`), which is faster and
    smaller where they are many; of those with tracks or labels of noise each stays by itself.

    Raises:
        FormatError: An id comes twice, is empty, or holds `/` or `::`.
    """
    target = Path(path)
    pairs = recordings.items() if isinstance(recordings, Mapping) else recordings
    with atomic_file(target, overwrite) as temporary, hdf5_writer(temporary) as (file, check):
        group, packer, taken = file.create_group(ID_GROUP), Packer(file, pack_up_to, check), set[str]()
        for identifier, recording in pairs:
            check_id(identifier, taken)
            taken.add(identifier)
            if not packer.take(identifier, recording):
                write_recording(group.create_group(identifier), recording, provenance, check)
        file.attrs[VERSION_KEY] = VERSION if packer.close(provenance) else PLAIN_VERSION
    return target


def list_recordings(path: str | os.PathLike[str]) -> list[str]:
    """Return the ids of the recordings in a store; none for a file that holds one at its root.

    Raises:
        FormatError: The file is no store.
    """
    file = Path(path)
    with reading(file):
        return _ids(Hdf5File(file, chunk_cache=False), _packed_table(file, version_of(file)))


def sniff(path: Path) -> float:
    """Return 1 for a file written by `save_recording` or `save_recordings`.

    Raises:
        FormatError: It is none, or of a newer version.
    """
    require_hdf5(path)
    with reading(path), h5py.File(path, "r") as file:
        _require_version(file)
    return 1.0


def open_file(path: Path, sensor: Sensor | None, on_error: OnError) -> Recording:
    """Return the recording at `path`, or `"path::id"`, read when asked for.

    Raises:
        FormatError: The file holds many recordings and no id was given, or none of that id; or it is damaged.
    """
    name, mark, identifier = str(path).rpartition("::")
    if mark and not path.exists():
        return opener(Path(name), sensor, on_error)(identifier)
    require_hdf5(path)
    file = Hdf5File(path)
    with reading(path):
        _require_version(file["/"])
        if ids := _ids(file, _packed_table(path, version_of(path))):
            raise FormatError(
                f"{path} holds {len(ids)} recordings: {_some(ids)}; "
                f'open one of them with open_recording("{path}::{ids[0]}")'
            )
        if "events" not in file["/"]:
            raise FormatError(f"{path} holds no recording")
    return _of_group(file, "/", sensor, on_error)


def opener(path: Path, sensor: Sensor | None, on_error: OnError) -> Callable[[str], Recording]:
    """Return what opens a recording of the store at `path` by its id; the file is looked at once for all of them.

    Raises:
        FormatError: The file is no store, or damaged. What comes back raises it for an id that is not there.
    """
    version = version_of(path)
    table = _packed_table(path, version)
    file = Hdf5File(path, chunk_cache=False, version=version)
    packed = None if table is None else Packed.of(file, table)

    def open_one(identifier: str) -> Recording:
        if table is not None and packed is not None and identifier in table.ids:
            number = table.ids[identifier]
            stated = table.sensors[table.kind[number]]
            return cast(Recording, PackedRecording(packed, number, sensor or stated, on_error))
        with reading(path):
            if "/" in identifier or not identifier or identifier not in _groups(file):
                raise FormatError(f"{path} holds no recording {identifier!r}; it holds {_some(_ids(file, table))}")
        return _of_group(file, f"{ID_GROUP}/{identifier}", sensor, on_error)

    return open_one


@lru_cache(maxsize=_TABLES_KEPT)
def _packed_table(path: Path, version: tuple[int, ...]) -> PackedTable | None:
    """Return what a store says of its packed recordings, None without such; `version` tells it from a later file.

    Raises:
        FormatError: The file is no store, or damaged.
    """
    require_hdf5(path)
    file = Hdf5File(path, chunk_cache=False)
    with reading(path):
        return read_packed(file) if _require_version(file["/"]) == VERSION else None


def _ids(file: Hdf5File, table: PackedTable | None) -> list[str]:
    return sorted([*_groups(file), *(table.ids if table is not None else ())])


def _groups(file: Hdf5File) -> Any:
    return file[ID_GROUP] if ID_GROUP in file["/"] else ()


def _of_group(file: Hdf5File, group: str, sensor: Sensor | None, on_error: OnError) -> IndexedRecording:
    with reading(file.path):
        root = file[group]
        attributes = root.attrs
        stated = Sensor(
            int(attributes["sensor_width"]),
            int(attributes["sensor_height"]),
            read_text(root, "sensor_name"),
            bool(attributes["sensor_inferred"]),
        )
        provenance = json.loads(read_text(root, "provenance"))
        known = read_text(root, FINGERPRINT) if FINGERPRINT in attributes else None
    tracks = StoredTracks(file, group)
    return IndexedRecording(file, group, "eventfm", sensor or stated, on_error, tracks, provenance, fingerprint=known)


def _require_version(root: Any) -> int:
    version = root.attrs.get(VERSION_KEY)
    if version is None:
        raise FormatError("it is an HDF5 file, but eventfm did not write it")
    if version not in (PLAIN_VERSION, VERSION):
        raise FormatError(f"it is a store of version {version}; this eventfm reads versions up to {VERSION}")
    return int(version)


class StoredTracks(Mapping[str, Track]):
    """The tracks of a recording, looked for when the first is asked for: many readers want the events alone."""

    def __init__(self, file: Hdf5File, group: str) -> None:
        self._file = file
        self._group = group

    def __getitem__(self, name: str) -> Track:
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    @cached_property
    def _found(self) -> dict[str, Track]:
        with reading(self._file.path):
            return _tracks(self._file, self._group)


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
