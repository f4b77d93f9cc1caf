"""Samples cut from recordings: events as a tensor, with the target, label and picture that belong to them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eventfm.data.collection import Collection, Entry
from eventfm.data.transforms import AugmentConfig, Geometry, disturb, draw, whole
from eventfm.data.windows import Window, WindowConfig, WindowError, cut, frame_difference, grey, read, shifted
from eventfm.events import Events
from eventfm.protocols import Representation

Target = Literal["frames", "events"]


@dataclass(frozen=True)
class WindowSamples:
    """Windows of a collection as training samples (`loader.SampleSet`).

    A sample has `input` (C, H, W); `target` (1, H, W) where a `target` is asked for; `label` () where every
    recording has one; `picture` (1, H, W), grey in [0, 1], where every recording has a still.
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

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each array of a sample."""
        shapes: dict[str, tuple[int, ...]] = {"input": (self.representation.channels, *self.image_size)}
        if self.target:
            shapes["target"] = (1, *self.image_size)
        if all(entry.label is not None for entry in self.collection.entries):
            shapes["label"] = ()
        if all(entry.picture is not None for entry in self.collection.entries):
            shapes["picture"] = (1, *self.image_size)
        return shapes

    def __len__(self) -> int:
        return len(self.windows)

    def entry(self, index: int) -> Entry:
        """Return the recording that sample `index` is cut from."""
        return self.collection.entries[self.windows[index][0]]

    def fill(self, index: int, rng: np.random.Generator | None, out: dict[str, NDArray[np.generic]]) -> None:
        """Write sample `index` into `out`; one geometry drawn from `rng` serves events, target and picture."""
        entry, window = self.entry(index), self.windows[index][1]
        if rng is None:
            geometry = whole(entry.recording.sensor, self.image_size)
            events = read(entry.recording, window)
            seen = clean = geometry.events(events)
        else:
            window = shifted(window, entry.recording, self.config, rng)
            geometry = draw(entry.recording.sensor, self.image_size, self.augment, rng)
            clean = geometry.events(read(entry.recording, window))
            seen = disturb(clean, self.augment, rng)
        write_grid(self.representation, seen, geometry, out["input"])
        if self.target == "events":
            write_grid(self.integral, clean, geometry, out["target"])
        elif self.target == "frames":
            out["target"][0] = geometry.difference(frame_difference(entry.recording, window))
        if "label" in out:
            out["label"][...] = entry.label
        if "picture" in out:
            out["picture"][0] = geometry.picture(read_still(entry))


def cut_collection(
    collection: Collection, config: WindowConfig, holdout: float = 0.0
) -> tuple[list[tuple[int, Window]], list[tuple[int, Window]]]:
    """Return (training, held-out) windows: of each recording, the last `holdout` share of its windows is held out.

    Of a recording with a single window nothing is held out.

    Held-out windows never overlap training windows, not even where these are moved about (`Window.limit`). Windows
    that reach into the held-out stretch, because they overlap each other, are left out of both.

    Raises:
        WindowError: No recording has a window.
    """
    training: list[tuple[int, Window]] = []
    held_out: list[tuple[int, Window]] = []
    for number, entry in enumerate(collection.entries):
        windows = cut(entry.recording, config)
        # A single window is trained on rather than watched.
        num_held = max(0, min(int(np.ceil(holdout * len(windows))), len(windows) - 1))
        kept, rest = windows[: len(windows) - num_held], windows[len(windows) - num_held :]
        first = min((window.start for window in rest), default=None)
        training += [(number, w._replace(limit=first)) for w in kept if first is None or w.stop <= first]
        held_out += [(number, window) for window in rest]
    if not training:
        raise WindowError(
            f"no window of kind {config.by!r} in {len(collection.entries)} recordings"
            + (
                f" after holding out {holdout:.0%}; give data.holdout=0, or shorter windows"
                if held_out
                else "; are they empty?"
            )
        )
    return training, held_out


def write_grid(representation: Representation, events: Events, geometry: Geometry, out: NDArray[np.generic]) -> None:
    """Write the tensor of `events`, which lie on `geometry.grid`, into `out` (C, H, W) of size `geometry.out`."""
    if geometry.grid == geometry.out:
        representation.accumulate(events, out)  # type: ignore[arg-type]
        return
    small = np.empty((out.shape[0], *geometry.grid), np.float32)
    representation.accumulate(events, small)
    geometry.enlarge(small, out)  # type: ignore[arg-type]


def read_still(entry: Entry) -> NDArray[np.float32]:
    """Return the still picture of a recording, grey (height, width) in [0, 1], resized to its sensor.

    Raises:
        WindowError: The picture cannot be read.
    """
    import cv2

    picture = cv2.imread(str(entry.picture), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise WindowError(f"{entry.picture}, the picture of {entry.name}, cannot be read as a picture")
    sensor = entry.recording.sensor
    return grey(cv2.resize(picture, (sensor.width, sensor.height), interpolation=cv2.INTER_AREA))
