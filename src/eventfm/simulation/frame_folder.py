"""Folders of frames: pictures in natural order, with times from a list beside them or from a frame rate."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventfm.simulation.frame_stream import FrameError, OnDamage

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".pnm"})
LISTS = ("images.txt", "timestamps.txt")
"""Lists of times. A line is `time name` (as in the Event Camera Dataset), `name time`, or a time alone for the
pictures in natural order; `#` begins a comment. Times with a decimal point are seconds, whole numbers microseconds."""
SHORTEST_STEP_US = 10
"""Whole numbers closer than this are more likely seconds or frame numbers than microseconds."""


class FrameList(NamedTuple):
    """Pictures of one folder with their times."""

    times: list[int]
    """Microseconds."""
    paths: list[Path]


def natural_key(name: str) -> tuple[Any, ...]:
    """Return a sort key that puts `img2` before `img10`."""
    return tuple((1, int(part), part) if part.isdecimal() else (0, 0, part) for part in re.split(r"(\d+)", name))


def find_list(folder: Path) -> Path | None:
    """Return the list of times in `folder`, if there is one."""
    return next((folder / name for name in LISTS if (folder / name).is_file()), None)


def list_frames(folder: Path, fps: float | None = None, on_damage: OnDamage = "raise") -> FrameList:
    """Return the pictures of `folder` in time order.

    With `fps` they are evenly spaced in natural order; else a list of times (`LISTS`) says when each was taken.
    Numbers in the names may step by any constant; a hole in them is a missing picture.

    Raises:
        FrameError: No pictures, neither list nor `fps`, a line that makes no sense, or pictures that are missing
            (with `on_damage="keep"` those are left out with a warning; the others keep their times).
    """
    listing = find_list(folder)
    if fps is None and listing is None:
        raise FrameError(
            f"{folder}: no times for its pictures; give fps=, or a file {' or '.join(LISTS)} with lines `time name` in "
            "seconds"
        )
    if fps is not None:
        return _evenly(folder, fps, on_damage)
    assert listing is not None
    return _listed(folder, listing, on_damage)


def check_fps(fps: float) -> None:
    """Refuse what is no frame rate.

    Raises:
        FrameError: It is not in (0, 1e6] hertz, where a frame has a microsecond of its own.
    """
    if not (math.isfinite(fps) and 0 < fps <= 1e6):
        raise FrameError(f"expected fps in (0, 1e6] frames per second, got {fps!r}")


def read_pictures(frames: FrameList) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (time, picture) one by one; colour is RGB, and rotation noted by the camera (EXIF) is applied.

    Raises:
        FrameError: A file cannot be read as a picture.
    """
    import cv2

    for number, (t_us, path) in enumerate(zip(*frames, strict=True)):
        picture = picture_file(path, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
        if picture is None:
            raise FrameError(f"frame {number} (at {t_us} us): {path} cannot be read as a picture, or is cut off")
        yield t_us, picture if picture.ndim == 2 else np.ascontiguousarray(picture[..., ::-1])


def picture_file(path: Path, flags: int) -> NDArray[Any] | None:
    """Return a picture as OpenCV reads it, grey or BGR; None if it is none, or a JPEG without its end.

    What is missing of a JPEG OpenCV fills with grey, and would not say so.
    """
    import cv2

    data = path.read_bytes()
    if not data or _is_cut_jpeg(data):
        return None
    return cv2.imdecode(np.frombuffer(data, np.uint8), flags)


def _is_cut_jpeg(data: bytes) -> bool:
    if not data.startswith(b"\xff\xd8"):
        return False
    place = 2
    while data[place : place + 1] == b"\xff" and data[place + 1 : place + 2] != b"\xda":
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    # Behind the head, for a thumbnail in it has an end of its own; other things may follow the picture.
    return data.find(b"\xff\xd9", place) < 0


def _pictures(folder: Path) -> list[Path]:
    """Return the pictures in `folder`, or in its one subfolder that has any (`images/`), in natural order."""
    for place in (folder, folder / "images", folder / "imgs", folder / "frames"):
        if place.is_dir():
            found = [path for path in place.iterdir() if path.suffix.lower() in PICTURES]
            if found:
                return sorted(found, key=lambda path: natural_key(path.name))
    raise FrameError(f"{folder}: expected pictures ({', '.join(sorted(PICTURES))}), found none")


def _evenly(folder: Path, fps: float, on_damage: OnDamage) -> FrameList:
    check_fps(fps)
    paths = _pictures(folder)
    places = _places(paths, on_damage)
    return FrameList([round(place * 1e6 / fps) for place in places], paths)


def _places(paths: list[Path], on_damage: OnDamage) -> list[int]:
    """Return the number of each frame from the numbers in the names, 0, 1, 2 ... where the names have none."""
    counted = list(range(len(paths)))
    ends = [re.search(r"(\d+)\D*$", path.name) for path in paths]
    if len(paths) < 3 or not all(ends):
        return counted
    numbers = [int(end.group(1)) for end in ends if end is not None]
    steps = [b - a for a, b in pairwise(numbers)]
    step = min(steps)
    if step <= 0 or any(s % step for s in steps):
        return counted  # no running number: dates, hashes
    holes = [i for i, s in enumerate(steps) if s != step]
    if not holes:
        return counted
    num_missing = sum(steps[i] // step - 1 for i in holes)
    if num_missing > len(paths):
        return counted
    where = f"{num_missing} frames are missing, the first after {paths[holes[0]]}"
    if on_damage == "raise":
        raise FrameError(f"{where}; add them, rename the pictures without a hole, or say on_damage=keep to leave gaps")
    warnings.warn(f"{where}; the others keep their times", stacklevel=4)
    return [(number - numbers[0]) // step for number in numbers]


def _listed(folder: Path, listing: Path, on_damage: OnDamage) -> FrameList:
    rows = [
        (number, fields)
        for number, line in enumerate(listing.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if (fields := line.partition("#")[0].replace(",", " ").split())
    ]
    if not rows:
        raise FrameError(f"{listing} holds no times")
    texts, names = zip(*(_time_and_name(listing, number, fields) for number, fields in rows), strict=True)
    times = _microseconds(listing, list(texts))
    if all(name is None for name in names):
        pictures = _pictures(folder)
        if len(pictures) != len(times):
            raise FrameError(
                f"{listing} has {len(times)} times for {len(pictures)} pictures, from {pictures[0].name} to "
                f"{pictures[-1].name}; expected as many, or lines `time name`"
            )
        return FrameList(times, pictures)
    if None in names:
        bad = rows[names.index(None)]
        raise FrameError(
            f"{listing}, line {bad[0]}: expected a time and a name as on the other lines, got a time alone"
        )
    paths = [folder / str(name) for name in names]
    missing = [i for i, path in enumerate(paths) if not path.is_file()]
    if missing:
        what = (
            f"{listing}: {len(missing)} of {len(paths)} pictures are missing, the first is frame {missing[0]} "
            f"(at {times[missing[0]]} us), {names[missing[0]]}"
        )
        if on_damage == "raise":
            raise FrameError(f"{what}; add them, or say on_damage=keep to do without")
        warnings.warn(f"{what}; they were left out", stacklevel=4)
    gone = set(missing)
    kept = [i for i in range(len(paths)) if i not in gone]
    return FrameList([times[i] for i in kept], [paths[i] for i in kept])


def _time_and_name(listing: Path, number: int, fields: list[str]) -> tuple[str, str | None]:
    if _is_time(fields[0]):
        return fields[0], " ".join(fields[1:]) or None
    if len(fields) > 1 and _is_time(fields[-1]):
        return fields[-1], " ".join(fields[:-1])
    raise FrameError(f"{listing}, line {number}: expected `time name` or a time, got {' '.join(fields)[:60]!r}")


def _is_time(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _microseconds(listing: Path, texts: list[str]) -> list[int]:
    if any(not text.lstrip("+-").isdecimal() for text in texts):
        return [round(float(text) * 1e6) for text in texts]
    times = [int(text) for text in texts]
    if len(times) > 1 and float(np.median(np.abs(np.diff(times)))) < SHORTEST_STEP_US:
        raise FrameError(
            f"{listing}: whole numbers are read as microseconds, and these are {abs(times[1] - times[0])} apart; "
            "write seconds with a decimal point, or give fps="
        )
    return times
