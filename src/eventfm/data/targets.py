"""What is to be predicted of every pixel: classes, flow and depth as a recording's tracks have them, checked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventfm.data.collection import Collection, Entry
from eventfm.data.transforms import AugmentConfig, Geometry
from eventfm.data.windows import FLOW, Window, WindowConfig, WindowError
from eventfm.events import Events
from eventfm.protocols import Recording

MapKind = Literal["semantic", "flow", "depth"]
MAPS: tuple[MapKind, ...] = ("semantic", "flow", "depth")
"""Labels of pixels: each is a track, and an array of a sample."""
WANTED = ("label", *MAPS, "seen", "before")
"""All that a task may want of a sample beside its input."""
NOT_LABELLED = 255
"""The class of a pixel that has none."""
VALID = "valid"
"""The track that says, where there is one, at which pixels the track `flow` holds."""

_LOOKS = 50
"""Windows whose labels are looked at before a run, if some of them have any."""


class LabelError(ValueError):
    """Raised when labels are missing, or are not what a task can learn from."""


def check_wanted(wanted: tuple[str, ...], window: WindowConfig, augment: AugmentConfig) -> None:
    """Refuse windows and augmentation that what is wanted of a sample cannot go with.

    Raises:
        WindowError: Windows that do not begin and end with the labels; or windows by count, which nobody knows the
            length of before they are read, where the one before is wanted.
        LabelError: Time is to run backwards.
    """
    assert set(wanted) <= set(WANTED), wanted
    maps = [kind for kind in MAPS if kind in wanted]
    for kind in maps:
        by = "frames" if kind == FLOW else "frame"
        if (window.by, window.track) != (by, kind):
            raise WindowError(
                f"labels of {kind} need windows at their own times: give data.window.by={by} data.window.track={kind}, "
                f"got data.window.by={window.by} data.window.track={window.track}"
            )
    if "before" in wanted and window.by == "count":
        raise WindowError("no window by count has another of its length before it; give data.window.by=time")
    if augment.time_flip and (maps or "before" in wanted):
        raise LabelError(
            f"where time runs backwards, {(maps or ['before'])[0]} says nothing; give data.augment.time_flip=0"
        )


def wanted_shapes(
    wanted: tuple[str, ...], channels: int, size: tuple[int, int], labels: tuple[int, int]
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of what is wanted of a sample, but for its `label`.

    Inputs are (channels, *size), and `labels` is the height and width of the labels of their pixels.
    """
    shapes = {
        "semantic": labels,
        "flow": (2, *labels),
        "depth": (1, *labels),
        "seen": labels,
        "before": (channels, *size),
    }
    return {name: shape for name, shape in shapes.items() if name in wanted}


class Labelled(NamedTuple):
    """One map of labels: an entry of the track of its kind."""

    kind: MapKind
    recording: Recording
    number: int
    name: str
    """What people call the recording."""

    def read(self, num_classes: int | None = None) -> NDArray[np.generic]:
        """Return the map as large as the sensor.

        `semantic` (h, w) int64, below `num_classes` or 255; `flow` (2, h, w) float32, pixels, and `depth` (h, w)
        float32, metres, both NaN where unknown. In the track, flow may also be (h, w, 2), and is not known where it is
        not finite or the track `valid` has 0; depth is not known where it is not finite or not above 0; and signed
        class numbers may have -1 for 255.

        Raises:
            LabelError: The map has another size or kind of numbers, or classes beyond those that there are.
            FormatError: The file is damaged.
        """
        values = self.recording.tracks[self.kind].read(self.number)
        if self.kind == "flow":
            return self._flow(values)
        self._require_size(values.shape)
        if self.kind == "semantic":
            return self._classes(values, NOT_LABELLED if num_classes is None else num_classes)
        self._require_fractions(values, "metres")
        return np.where(np.isfinite(values) & (values > 0), values, np.nan).astype(np.float32)

    def _classes(self, values: NDArray[np.generic], num_classes: int) -> NDArray[np.int64]:
        if values.dtype.kind not in "iu":
            raise self._refusal(f"expected class numbers as integers, got {values.dtype}")
        classes = values.astype(np.int64)
        classes[classes == -1] = NOT_LABELLED
        wrong = classes[(classes < 0) | ((classes >= num_classes) & (classes != NOT_LABELLED))]
        if wrong.size:
            raise self._refusal(
                f"expected classes from 0 to {num_classes - 1}, or {NOT_LABELLED} where there is none, got {wrong[0]}"
            )
        return classes

    def _flow(self, values: NDArray[np.generic]) -> NDArray[np.float32]:
        height, width = self.recording.sensor.height, self.recording.sensor.width
        self._require_fractions(values, "pixels")
        if values.shape != (2, height, width):
            if values.shape[2:] != (2,):
                raise self._refusal(f"expected flow of shape {(2, height, width)}, got {values.shape}")
            values = np.moveaxis(values, 2, 0)
            self._require_size(values.shape[1:])
        known = np.isfinite(values).all(axis=0)
        if VALID in self.recording.tracks:
            track = self.recording.tracks[VALID]
            if not np.array_equal(track.times, self.recording.tracks[FLOW].times):
                raise self._refusal(f"expected an entry of the track {VALID!r} for each of {FLOW!r}, at the same times")
            valid = track.read(self.number)
            self._require_size(valid.shape)
            known &= valid.astype(bool)
        return np.where(known, values, np.nan).astype(np.float32)

    def _require_fractions(self, values: NDArray[np.generic], unit: str) -> None:
        if values.dtype.kind != "f":
            raise self._refusal(f"expected {unit} as floating-point numbers, got {values.dtype}")

    def _require_size(self, shape: tuple[int, ...]) -> None:
        sensor = self.recording.sensor
        if shape != (sensor.height, sensor.width):
            raise self._refusal(
                f"expected a map as large as the sensor, {sensor.width}x{sensor.height} pixels, got shape {shape}; "
                "where labels cover a part of the sensor only, fill the rest with what means unlabelled"
            )

    def _refusal(self, said: str) -> LabelError:
        time = int(self.recording.tracks[self.kind].times[self.number])
        return LabelError(f"{self.name}, {self.kind} at {time} us: {said}")


def labelled(kind: MapKind, entry: Entry, window: Window) -> Labelled:
    """Return the map that belongs to a window of a recording, which `check_wanted` lets stand at one."""
    assert window.entry is not None
    return Labelled(kind, entry.recording, window.entry, entry.name or "the recording")


def drawn(kind: MapKind, values: NDArray[np.generic], geometry: Geometry) -> NDArray[np.generic]:
    """Return a map that has been read as it is in a sample, of size `geometry.out`."""
    return geometry.flow(values) if kind == "flow" else geometry.nearest(values)  # type: ignore[arg-type]


def write_seen(events: Events, geometry: Geometry, out: NDArray[np.generic]) -> None:
    """Write into `out` (H, W) 1 where the input has an event, else 0; `events` lie on `geometry.grid`."""
    cells = np.zeros((1, *geometry.grid), np.float32)
    cells[0, events.y, events.x] = 1
    geometry.enlarge(cells, out[None])  # type: ignore[arg-type]


def check_labels(
    collection: Collection, windows: list[tuple[int, Window]], kind: MapKind, num_classes: int | None = None
) -> None:
    """Look at labels before a run: at a few of them from the first to the last, at more until one says anything.

    Raises:
        LabelError: One of them is not what it should be (`Labelled.read`), or none says anything.
    """
    few = np.linspace(0, len(windows) - 1, min(len(windows), _LOOKS)).astype(int).tolist()
    found = False
    for looks, place in enumerate(dict.fromkeys([*few, *range(len(windows))])):
        if found and looks >= _LOOKS:
            return
        number, window = windows[place]
        values = labelled(kind, collection.entries[number], window).read(num_classes)
        found |= bool((values != NOT_LABELLED).any() if kind == "semantic" else np.isfinite(values).any())
    if not found:
        name = labelled(kind, collection.entries[windows[0][0]], windows[0][1]).name
        raise LabelError(f"nothing is labelled in the {kind} of any of {len(windows)} windows, the first of {name}")


def named_classes(entries: Iterable[Entry]) -> tuple[str, ...]:
    """Return the names of the classes of pixels, by number, that the recordings' tracks have; none where none has any.

    Raises:
        LabelError: Recordings call them differently, so that a number means one thing here and another there.
    """
    found: dict[tuple[str, ...], str] = {}
    for entry in entries:
        if classes := getattr(entry.recording.tracks.get("semantic"), "classes", ()):
            found.setdefault(classes, entry.name or "the recording")
    if len(found) > 1:
        (one, here), (other, there) = list(found.items())[:2]
        raise LabelError(
            f"expected one list of classes, got {', '.join(one)} in {here} and {', '.join(other)} in {there}; if the "
            "numbers mean the same in both, give classes=[NAME, ...]"
        )
    return next(iter(found), ())


def count_classes(collection: Collection, windows: list[tuple[int, Window]]) -> int:
    """Return one more than the highest class in the labels of `windows`, all of which are read.

    Raises:
        LabelError: As `Labelled.read`.
    """
    highest = -1
    for number, window in windows:
        classes = labelled("semantic", collection.entries[number], window).read()
        highest = max(highest, int(np.where(classes == NOT_LABELLED, -1, classes).max()))
    return highest + 1
