"""Event Camera Dataset folders (Mueggler et al., IJRR 2017): events.txt, images.txt + images/, imu.txt."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from eventfm.events import OnError, Sensor
from eventfm.io.columns import to_microseconds
from eventfm.io.contract import FormatError, Reader
from eventfm.io.recording import ArrayRecording, ArrayTrack, PictureTrack
from eventfm.io.text import read_events
from eventfm.protocols import Track


def sniff(path: Path) -> float:
    """Return 0.9 for a folder with events.txt.

    Raises:
        FormatError: It is none.
    """
    if not path.is_dir():
        raise FormatError("it is no folder")
    if _file(path, "events.txt") is None:
        raise FormatError("the folder has no events.txt")
    return 0.9


def open_folder(path: Path, sensor: Sensor | None, on_error: OnError) -> ArrayRecording:
    """Return the recording: events in memory, track `frames` read picture by picture, track `imu` (6,) where present.

    `imu` entries are acceleration in m/s^2 and angular velocity in rad/s, as the file has them. Pictures that
    images.txt lists and the folder lacks are left out and counted in one warning. Names may be in another case. The
    sensor is as large as the pictures; without any it is inferred from the events.
    """
    events = _file(path, "events.txt")
    if events is None:
        raise FormatError(f"{path}: expected a folder with events.txt")
    tracks: dict[str, Track] = {}
    frames = _frames(path)
    if frames is not None:
        tracks["frames"] = frames
        if sensor is None and len(frames):
            height, width = frames.read(0).shape[:2]
            sensor = Sensor(width, height)
    imu = _file(path, "imu.txt")
    if imu is not None and imu.stat().st_size:
        table = _imu_table(imu)
        tracks["imu"] = ArrayTrack(to_microseconds(table[:, 0], str(imu), "s"), table[:, 1:])
    return ArrayRecording(read_events(events, sensor, on_error), tracks, "ecd")


def _file(folder: Path, name: str) -> Path | None:
    """Return the file of a folder that is called `name`, or so in another case."""
    if (folder / name).is_file():
        return folder / name
    return next((file for file in folder.iterdir() if file.name.lower() == name and file.is_file()), None)


def _frames(path: Path) -> PictureTrack | None:
    listing = _file(path, "images.txt")
    if listing is None:
        return None

    @cache
    def in_another_case() -> dict[str, Path]:
        return {file.relative_to(path).as_posix().lower(): file for file in path.rglob("*")}

    times: list[float] = []
    pictures: list[Path] = []
    num_missing = 0
    for number, line in enumerate(listing.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        fields = line.split(maxsplit=1)
        if not fields:
            continue
        try:
            time, name = float(fields[0]), fields[1]
        except (ValueError, IndexError):
            raise FormatError(f"{listing}: line {number} is no `time path`: {line[:60]!r}") from None
        picture = path / name
        if not picture.is_file():
            picture = in_another_case().get(PurePosixPath(name).as_posix().lower(), picture)
        if picture.is_file():
            times.append(time)
            pictures.append(picture)
        else:
            num_missing += 1
    if num_missing:
        total = num_missing + len(pictures)
        warnings.warn(f"{listing}: {num_missing} of {total} pictures are missing and were left out", stacklevel=2)
    return PictureTrack(to_microseconds(np.array(times, np.float64), str(listing), "s"), pictures)


def _imu_table(path: Path) -> NDArray[np.float64]:
    try:
        table = np.loadtxt(path, ndmin=2, encoding="latin-1")
    except ValueError as error:
        raise FormatError(f"{path}: {error}") from None
    if table.shape[1] != 7:
        raise FormatError(f"{path}: expected 7 columns (time, acceleration, angular velocity), got {table.shape[1]}")
    return table


READER = Reader(sniff, open_folder)
