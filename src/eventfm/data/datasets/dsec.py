"""What the data sets made from DSEC (Gehrig et al., RA-L 2021) share: sequences, the places of files, rectified events.

Parts of a sequence lie as the archives of the whole set have them (`<sequence>/events/left/events.h5`,
`<sequence>/disparity/event/000000.png`) or as those of single sequences unpack (`<sequence>_events_left/events.h5`,
`<sequence>_disparity_event/000000.png`), together or apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventfm.data.alignment import read_rectify_map
from eventfm.data.datasets.card import Division
from eventfm.data.datasets.contract import Found, Kind, Problem, Sample
from eventfm.data.datasets.layout import Tree
from eventfm.data.datasets.views import Rectified
from eventfm.events import OnError, Sensor
from eventfm.io.contract import FormatError
from eventfm.io.dsec import open_file
from eventfm.protocols import Recording, Track

SENSOR = Sensor(640, 480, "DSEC rectified")
CITATION = (
    "Gehrig, Aarents, Gehrig, Scaramuzza: DSEC: A Stereo Event Camera Dataset for Driving Scenarios. IEEE RA-L 2021"
)
LICENCE = "CC BY-SA 4.0"
OURS = "eventfm"
"""The name of the division by drives, which holds test sequences whose labels are public."""

_SEQUENCE = r"(?:^|/)((?:interlaken|thun|zurich_city)_\d\d_[a-g])"
_EVENTS = _SEQUENCE + r"[^/]*/(?:.*/)?events\.h5$"
_CALIBRATION = _SEQUENCE + r"[/_](?:.*/)?cam_to_cam\.yaml$"
_RIGHT = re.compile(r"(?:^|[/_])right(?:$|[/_])", re.IGNORECASE)
_DRIVES = {
    "test": ("thun_00", "zurich_city_09", "zurich_city_11"),
    "val": ("zurich_city_05", "zurich_city_07"),
}
"""Drives that are not learnt from, by day and by night; no sequence that DSEC-Semantic learns from is tested on."""


class Labels(NamedTuple):
    """Labels of one kind, which come as pictures with a list of times."""

    times: str
    """What the path of the list ends with, below the name of the sequence: a pattern."""
    pictures: str
    """What the path of the pictures' folder ends with: a pattern."""
    called: tuple[str, str]
    """What the owners call the two, below the folder of the sequence."""
    columns: int
    """Times on a line of the list."""
    calibrated: bool = False
    """Whether the calibration of the sequence is needed to read them; it then stands after the list in `files`."""


def find_labelled(tree: Tree, division: Division, labels: Labels, sequences: Iterable[str], remedy: str) -> Found:
    """Return a sample for each of `sequences` that has all its parts.

    Its files are events, map of rectification, list of times, calibration where there is to be one, and pictures in
    the order of their numbers. These are numbers of frames, with gaps that nobody lists: only by their count can they
    be told to belong to the times, and a sequence whose count is another is left out.
    """
    events = left_events(tree)
    times = {m[1].lower(): file for m, file in tree.match(_SEQUENCE + labels.times)}
    calibrations = {m[1].lower(): file for m, file in tree.match(_CALIBRATION)} if labels.calibrated else {}
    pictures: dict[str, dict[int, str]] = {}
    for match, file in tree.match(_SEQUENCE + labels.pictures + r"/(\d{6})\.png$"):
        pictures.setdefault(match[1].lower(), {}).setdefault(int(match[2]), file)
    samples: list[Sample] = []
    problems: list[Problem] = []
    for sequence in sequences:
        rectify = rectify_map_beside(tree, events.get(sequence))
        parts = {"events/left/events.h5": events.get(sequence), "events/left/rectify_map.h5": rectify}
        parts[labels.called[0]] = times.get(sequence)
        if labels.calibrated:
            parts["calibration/cam_to_cam.yaml"] = calibrations.get(sequence)
        there = pictures.get(sequence, {})
        absent = [name for name, file in parts.items() if file is None] + ([] if there else [labels.called[1]])
        if absent:
            problems += [Problem("missing", f"{sequence}/{name}", "it is not there", remedy) for name in absent]
            continue
        in_order = tuple(there[number] for number in sorted(there))
        problem = _unlike(tree.root / times[sequence], times[sequence], in_order, labels.columns, remedy)
        if problem is not None:
            problems.append(problem)
            continue
        split = split_of(sequence, division)
        files = (*(file for file in parts.values() if file is not None), *in_order)
        samples.append(Sample(f"{split}/{sequence}", files, None, split, None, range(len(in_order))))
    return Found(tuple(samples), tuple(problems))


def split_of(sequence: str, division: Division) -> str:
    """Return the split of a sequence whose labels are public: all are training in the owners' division."""
    drive = sequence.rpartition("_")[0]
    if division.name != OURS:
        return "train"
    return next((split for split, drives in _DRIVES.items() if drive in drives), "train")


def left_events(tree: Tree) -> dict[str, str]:
    """Return the file with the events of the left camera of each sequence."""
    return {m[1].lower(): file for m, file in tree.match(_EVENTS) if not _RIGHT.search(file)}


def rectify_map_beside(tree: Tree, events: str | None) -> str | None:
    """Return `rectify_map.h5` in the folder of a file of events, whatever its case, if it is there."""
    if events is None:
        return None
    wanted = str(PurePosixPath(events).with_name("rectify_map.h5")).lower()
    return next((file for file in tree.files if file.lower() == wanted), None)


def open_rectified(
    events: Path, rectify: Path, on_error: OnError, tracks: Mapping[str, Track], sensor: Sensor = SENSOR
) -> Recording:
    """Return events that are moved by the map of rectification; those that then lie beside `sensor` are left out.

    Raises:
        CalibrationError: The map is missing or holds something else.
        FormatError: It is of another size, or the events are damaged.
    """
    recording = open_file(events, None, on_error)
    places = read_rectify_map(rectify)
    if places.shape[:2] != (recording.sensor.height, recording.sensor.width):
        raise FormatError(f"{rectify}: expected a map of 640x480 pixels, got {places.shape[1]}x{places.shape[0]}")
    return Rectified(recording, places, sensor, tracks)


def read_times(path: Path, columns: int = 1) -> NDArray[np.int64]:
    """Return the times of labels (N, columns), microseconds; what stands behind a `#` does not count.

    Raises:
        FormatError: A line has another number of columns, or they are no whole numbers.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = [row for line in lines if (row := line.split("#")[0].replace(",", " ").split())]
    if any(len(row) != columns or not all(word.isdecimal() for word in row) for row in rows):
        wanted = "a whole number" if columns == 1 else f"{columns} whole numbers"
        raise FormatError(f"{path.name}: expected {wanted} of microseconds on every line")
    return np.array(rows, np.int64).reshape(-1, columns)


def require_picture(picture: NDArray[np.generic], shape: tuple[int, ...], name: str) -> None:
    """Check that a label is a picture of 16 bits of the sensor's size.

    Raises:
        FormatError: It is not.
    """
    if picture.shape != shape or picture.dtype != np.uint16:
        raise FormatError(
            f"{name}: expected a picture of shape {shape} and 16 bits, got {picture.shape} of {picture.dtype}"
        )


def _unlike(path: Path, list_file: str, pictures: tuple[str, ...], columns: int, remedy: str) -> Problem | None:
    """Return what is wrong with the pictures and their list, if anything."""
    try:
        count = len(read_times(path, columns))
    except FormatError as error:
        return Problem("damaged", list_file, str(error), remedy)
    if count == len(pictures):
        return None
    kind: Kind = "missing" if len(pictures) < count else "unexpected"
    folder = str(PurePosixPath(pictures[0]).parent)
    what = f"{list_file} has {count:,} times, and there are {len(pictures):,} pictures, so that none has a time"
    return Problem(kind, folder, what, remedy, abs(count - len(pictures)))
