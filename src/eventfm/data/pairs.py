"""Samples cut from recordings: events as a tensor, with the target, label and teacher's picture that go with them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from eventfm.data.activity import patch_activity, patch_grid
from eventfm.data.collection import Collection, Entry
from eventfm.data.problems import first_readable, reading
from eventfm.data.scenes import Frame, Scene, Still, TeacherInput
from eventfm.data.table import CollectionError
from eventfm.data.targets import MAPS, count_classes, drawn, labelled, wanted_shapes, write_seen
from eventfm.data.transforms import AugmentConfig, Geometry, disturb, draw, whole
from eventfm.data.windows import (
    Difference,
    Window,
    WindowConfig,
    WindowError,
    before,
    cut,
    frame_difference,
    is_covered,
    read,
    shifted,
)
from eventfm.events import Events
from eventfm.protocols import Representation
from eventfm.random import Key

Target = Literal["frames", "events"]


class Disturbance(Protocol):
    """What makes events worse, such as `evaluation.robustness.Disturbance`."""

    def __call__(self, events: Events, sample: Key) -> Events:
        """Return other events, a pure function of these and of which sample they are."""
        ...


@dataclass(frozen=True)
class WindowSamples:
    """Windows of a collection as training samples (`loader.SampleSet`).

    A sample has `input` (C, H, W); `target` (1, H, W) where a `target` is asked for; `label` () where every
    recording has one; `activity` (rows, cols) with an `activity_patch` (see `data.activity`); and with a `teacher`,
    `view` and what it is shown (`scene_of`) or what it said; and what is `wanted` by a task:

    `semantic` (H, W) int64, classes, 255 where there is none; `flow` (2, H, W), how far what is at a pixel of the input
    at the start of the window moves until its end, pixels of the input, u right and v down, NaN where unknown; `depth`
    (1, H, W), metres, NaN where unknown; `seen` (H, W), 1 where the window has an event; `before` (C, H, W), the window
    of the same length right before this one. With `label_size="sensor"`, for scoring, the labels and `seen` are those
    of the sensor's own pixels, as they are stored, in the part of it that the input shows, and flow counts them.

    A window whose picture or frames cannot be read is passed over for the next one; labels must be readable.
    """

    collection: Collection
    windows: tuple[tuple[int, Window], ...]
    """Number of the recording, and the window in it."""
    config: WindowConfig
    representation: Representation
    integral: Representation
    """One-bin signed grid: adds up polarity per pixel, the log-intensity change that the events encode."""
    image_size: tuple[int, int]
    augment: AugmentConfig
    target: Target | None = None
    difference: Difference = "linear"
    teacher: TeacherInput | None = None
    activity_patch: int | None = None
    """Side, in pixels of the input, of the patches whose activity is counted."""
    wanted: tuple[str, ...] = ()
    """What a task wants, of `targets.WANTED`; windows must be such as `targets.check_wanted` allows."""
    class_limit: int | None = None
    """How many classes there are: others are refused."""
    problems: dict[str, str] = field(default_factory=dict, compare=False)
    """What could not be read so far, and why, by name."""
    disturbance: Disturbance | None = None
    """Makes the events worse where nothing is drawn at random, in evaluation; labels stay (`evaluation.disturbed`)."""
    label_size: Literal["input", "sensor"] = "input"
    """Whose pixels are labelled; `sensor` where nothing is drawn at random."""

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each array of a sample."""
        shapes: dict[str, tuple[int, ...]] = {"input": (self.representation.channels, *self.image_size)}
        if self.target:
            shapes["target"] = (1, *self.image_size)
        if all(entry.label is not None for entry in self.collection.entries):
            shapes["label"] = ()
        if self.activity_patch:
            shapes["activity"] = patch_grid(self.image_size, self.activity_patch)
        labels = self._labels(whole(self.collection.sensor, self.image_size)).out
        shapes |= wanted_shapes(self.wanted, self.representation.channels, self.image_size, labels)
        return shapes | (self.teacher.shapes if self.teacher else {})

    def __len__(self) -> int:
        return len(self.windows)

    def _labels(self, geometry: Geometry) -> Geometry:
        """Return what labels go through where events go through `geometry`."""
        return geometry if self.label_size == "input" else replace(geometry, out=(geometry.height, geometry.width))

    def entry(self, index: int) -> Entry:
        """Return the recording that sample `index` is cut from."""
        return self.collection.entries[self.windows[index][0]]

    def num_classes(self) -> int:
        """Return one more than the highest class that the labels of the windows have; all of them are read.

        Raises:
            LabelError: They are not classes, or not as large as the sensor.
        """
        return count_classes(self.collection, list(self.windows))

    def fill(self, index: int, rng: np.random.Generator | None, out: dict[str, NDArray[np.generic]]) -> None:
        """Write sample `index` into `out`; one geometry drawn from `rng` serves events, target, labels and view.

        Raises:
            CollectionError: No sample at all has pictures or frames that can be read.
            LabelError: Its labels are of another size than the sensor, or beyond the classes that there are.
        """
        first_readable(lambda number: self._fill(number, rng, out), index, len(self), self.problems)

    def _fill(self, index: int, rng: np.random.Generator | None, out: dict[str, NDArray[np.generic]]) -> None:
        entry, window = self.entry(index), self.windows[index][1]
        if rng is None:
            events = read(entry.recording, window)
            if self.disturbance is not None:
                events = self.disturbance(events, index)
            geometry = whole(events.sensor, self.image_size)
            seen = clean = geometry.events(events)
        else:
            window = shifted(window, entry.recording, self.config, rng)
            geometry = draw(entry.recording.sensor, self.image_size, self.augment, rng)
            events = read(entry.recording, window)
            clean = geometry.events(events)
            seen = disturb(clean, self.augment, rng)
        assert self.label_size == "input" or rng is None
        labels = self._labels(geometry)
        write_grid(self.representation, seen, geometry, out["input"])
        if self.activity_patch:
            out["activity"][...] = patch_activity(seen, geometry, self.activity_patch)
        if self.target == "events":
            write_grid(self.integral, clean, geometry, out["target"])
        elif self.target == "frames":
            out["target"][0] = geometry.difference(read_difference(entry, window, self.difference))
        if "label" in out:
            out["label"][...] = entry.label
        if self.teacher is not None:
            assert events.window is not None
            scene = scene_of(entry, window, events.window, geometry.time_flip)
            self.teacher.fill(scene, geometry.view(entry.recording.sensor), out)
        for kind in MAPS:
            if kind in self.wanted:
                out[kind][...] = drawn(kind, labelled(kind, entry, window).read(self.class_limit), labels)
        if "seen" in self.wanted:
            write_seen(clean if labels is geometry else labels.events(events), labels, out["seen"])
        if "before" in self.wanted:
            assert events.window is not None
            earlier = read(entry.recording, before(Window(*events.window)))
            if rng is None and self.disturbance is not None:
                earlier = self.disturbance(earlier, f"{index}, before")
            earlier = geometry.events(earlier)
            earlier = earlier if rng is None else disturb(earlier, self.augment, rng)
            write_grid(self.representation, earlier, geometry, out["before"])


def cut_collection(
    collection: Collection, config: WindowConfig, holdout: float = 0.0, with_before: bool = False
) -> tuple[list[tuple[int, Window]], list[tuple[int, Window]]]:
    """Return (training, held-out) windows: of each recording, the last `holdout` share of its windows is held out.

    Of a recording with a single window nothing is held out. `with_before` keeps those windows alone that the recording
    goes back far enough for that there is another of their length right before them, which then belongs to them.

    Held-out windows never overlap training windows, not even where these are moved about (`Window.limit`). Windows
    that reach into the held-out stretch, because they overlap each other, are left out of both.

    Raises:
        WindowError: No recording has a window, or one lacks the track that windows are cut by.
    """
    training: list[tuple[int, Window]] = []
    held_out: list[tuple[int, Window]] = []
    for number, entry in enumerate(collection.entries):
        try:
            windows = cut(entry.recording, config)
        except WindowError as error:
            raise WindowError(f"{entry.name}: {error}" if entry.name else str(error)) from error
        if with_before:
            windows = [window for window in windows if is_covered(entry.recording, before(window))]
        # A single window is trained on rather than watched.
        num_held = max(0, min(int(np.ceil(holdout * len(windows))), len(windows) - 1))
        kept, rest = windows[: len(windows) - num_held], windows[len(windows) - num_held :]
        first = min(((before(window) if with_before else window).start for window in rest), default=None)
        training += [(number, w._replace(limit=first)) for w in kept if first is None or w.stop <= first]
        held_out += [(number, window) for window in rest]
    if not training:
        hint = "; are they empty, or their frames outside the time of the events?"
        if with_before:
            hint = " has another of its length before it, as the first of a recording never has; give longer recordings"
        if held_out:
            hint = f" after holding out {holdout:.0%}; give data.holdout=0, or shorter windows"
        raise WindowError(f"no window of kind {config.by!r} in {len(collection.entries)} recordings{hint}")
    return training, held_out


def write_grid(representation: Representation, events: Events, geometry: Geometry, out: NDArray[np.generic]) -> None:
    """Write the tensor of `events`, which lie on `geometry.grid`, into `out` (C, H, W) of size `geometry.out`."""
    if geometry.grid == geometry.out:
        representation.accumulate(events, out)  # type: ignore[arg-type]
        return
    small = np.empty((out.shape[0], *geometry.grid), np.float32)
    representation.accumulate(events, small)
    geometry.enlarge(small, out)  # type: ignore[arg-type]


def read_difference(entry: Entry, window: Window, kind: Difference) -> NDArray[np.float32]:
    """Return `windows.frame_difference` of a window.

    Raises:
        UnreadableError: One of its frames cannot be read.
    """
    assert window.frames is not None
    with reading(f"{entry.name}, frames {window.frames[0]} and {window.frames[1]}"):
        return frame_difference(entry.recording, window, kind)


def scene_of(entry: Entry, window: Window, span: tuple[int, int], time_flip: bool = False) -> Scene:
    """Return what a teacher is shown of a window whose events are of `span`, microseconds `[t0, t1)`.

    It is the recording's still where there is one; else the frame that ends the window, or where windows are cut
    without frames, the frame nearest to its end. Where time runs backwards, a window ends at its start.
    """
    if entry.picture is not None:
        return Still(entry.picture)
    if window.frames is not None:
        return Frame(entry, window.frames[0 if time_flip else 1])
    times, end_us = entry.recording.tracks["frames"].times, span[0] if time_flip else span[1] - 1
    after = int(np.searchsorted(times, end_us))
    near = [number for number in (after - 1, after) if 0 <= number < len(times)]
    return Frame(entry, min(near, key=lambda number: abs(int(times[number]) - end_us)))


def require_scenes(collection: Collection) -> None:
    """Refuse recordings that a teacher cannot be shown.

    Raises:
        CollectionError: Some have neither a still nor a frame.
    """
    blind = [
        entry.name
        for entry in collection.entries
        if entry.picture is None
        and not ("frames" in entry.recording.tracks and len(entry.recording.tracks["frames"].times))
    ]
    if blind:
        raise CollectionError(
            f"a teacher needs a picture of what a recording shows, and {len(blind)} of {len(collection.entries)} "
            f"recordings have neither frames nor a still, e.g. {blind[0]!r}; give data.images=FOLDER with a picture of "
            "each recording's name, or data.labels=TABLE.csv with a column picture, or choose a method without teacher"
        )
