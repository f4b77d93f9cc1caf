"""From a data config to samples: what is read, cut and drawn for a run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, PositiveInt

from eventfm.config import Config
from eventfm.data.animate import AnimatedPictures, MotionConfig, find_pictures
from eventfm.data.collection import Collection, open_collection
from eventfm.data.loader import SampleSet
from eventfm.data.pairs import Target, WindowSamples, cut_collection
from eventfm.data.table import CollectionError
from eventfm.data.transforms import AugmentConfig
from eventfm.data.windows import Window, WindowConfig, WindowError, frame_difference
from eventfm.events import OnError, Sensor
from eventfm.protocols import Representation

MANY = 10
"""From this many recordings on, whole recordings are held out; of fewer, the end of each."""


class DataConfig(Config):
    """Where the data are, and how they become samples."""

    path: str | None = None
    """A recording, a store of recordings, or a folder of them."""
    labels: str | None = None
    """Table of the recordings: a CSV with the columns path, label, split, fold."""
    split: str | None = None
    """Use the recordings of this split only."""
    fold: int | None = None
    """Use the recordings of this fold only."""
    exclude_fold: int | None = None
    """Use the recordings of every fold but this one."""
    images: str | None = None
    """A folder of pictures: stills of the recordings by name, or, without `path`, pictures to animate."""
    format: str | None = None
    """A hint for files whose content does not say what they are."""
    sensor: tuple[PositiveInt, PositiveInt] | None = None
    """Width and height in pixels, for files that do not say."""
    on_error: OnError = "raise"
    """What to do with time that goes backwards and events outside the sensor: raise, sort or clamp."""
    window: WindowConfig = WindowConfig()
    augment: AugmentConfig = AugmentConfig()
    motion: MotionConfig = MotionConfig()
    """How pictures move, where they are animated."""
    target: Literal["auto", "frames", "events"] = "auto"
    """`frames`: grey difference of the two frames that bound the window (EventPretrain, section 3). `events`: the
    log-intensity change that the window's own events encode, which needs no frames (eventfm's extension)."""
    image_size: Literal["auto"] | PositiveInt | tuple[PositiveInt, PositiveInt] = "auto"
    """Height and width of the network's input, pixels; `auto` follows the sensor up to 128."""
    holdout: float = Field(default=0.1, ge=0, lt=1)
    """Share of the data that is kept out of training to watch the loss on."""
    num_workers: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"
    """Threads that prepare samples; 0 prepares them in the training thread. Does not affect results."""


@dataclass(frozen=True)
class Source:
    """What there is to read, before any window is cut."""

    sensor: Sensor
    collection: Collection | None
    pictures: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Samples:
    """The samples of a run."""

    training: SampleSet
    held_out: SampleSet | None
    target: str
    window: WindowConfig
    """How a recording without frames is to be cut for this encoder: windows between frames become windows by time, of
    their median length; of animated pictures, as long as the clips."""
    identity: tuple[str, ...]
    """Every recording or picture that training reads, with a hash of its content."""


def open_source(config: DataConfig) -> Source:
    """Return what `config` points at, with its sensor.

    Raises:
        CollectionError: Nothing is pointed at, nothing is there, or pictures alone are to be chosen by a table.
    """
    if config.path is None and config.images is None:
        raise CollectionError("nothing to train on: give data=PATH (recordings) or data.images=FOLDER (pictures)")
    if config.path is None:
        assert config.images is not None
        choices = {
            "labels": config.labels,
            "split": config.split,
            "fold": config.fold,
            "exclude_fold": config.exclude_fold,
        }
        if given := [name for name, value in choices.items() if value is not None]:
            raise CollectionError(f"data.{given[0]} chooses among recordings, and there is no data.path; leave it out")
        width, height = config.sensor or config.motion.sensor
        return Source(Sensor(width, height), None, tuple(find_pictures(Path(config.images))))
    collection = open_collection(
        config.path,
        labels=config.labels,
        pictures=config.images,
        format=config.format,
        sensor=config.sensor,
        on_error=config.on_error,
    ).select(config.split, config.fold, config.exclude_fold)
    return Source(collection.sensor, collection)


def build_samples(
    source: Source,
    config: DataConfig,
    representation: Representation,
    integral: Representation,
    image_size: tuple[int, int],
) -> Samples:
    """Return the samples of `source`; `image_size` is (height, width).

    Raises:
        CollectionError: Another target than `frames` is asked of animated pictures.
        WindowError: No recording has a window to train on, windows of this kind have no frames at their ends, or the
            frames are not as large as the sensor.
    """
    if source.collection is None:
        return _animated(source, config, representation, image_size)
    target = resolve_target(source.collection, config)
    window = config.window
    if target == "frames" and window.by in ("count", "whole"):
        raise WindowError(
            f"the target 'frames' needs windows between frames, got data.window.by={window.by}; "
            "leave data.window.by out, or say data.target=events"
        )
    if target == "frames" and window.by == "time":
        window = window.model_copy(update={"by": "frames"})
    training, held_out = _split(source.collection, window, config.holdout)
    if target == "frames":
        # Frames that do not fit are told before a run is begun, not by its first batch.
        number, first = training[0]
        frame_difference(source.collection.entries[number].recording, first)

    def samples(windows: list[tuple[int, Window]]) -> WindowSamples:
        assert source.collection is not None
        return WindowSamples(
            source.collection, tuple(windows), window, representation, integral, image_size, config.augment, target
        )

    used = sorted({number for number, _ in training})
    identity = tuple(
        f"{source.collection.entries[n].name or Path(str(config.path)).name} {fingerprint(source.collection, n)}"
        for n in used
    )
    later = window
    if window.by == "frames":
        typical = int(np.median([w.stop - w.start for _, w in training]))
        later = window.model_copy(update={"by": "time", "duration_us": typical})
    return Samples(samples(training), samples(held_out) if held_out else None, target, later, identity)


def resolve_target(collection: Collection, config: DataConfig) -> Target:
    """Return the target that `config` asks for.

    `auto` is `frames` where every recording has at least two of them and no windows without frames are asked for.
    """
    if config.target != "auto":
        return config.target
    if config.window.by in ("count", "whole"):
        return "events"
    tracks = [entry.recording.tracks for entry in collection.entries]
    return "frames" if all("frames" in t and len(t["frames"].times) > 1 for t in tracks) else "events"


def fingerprint(collection: Collection, number: int) -> str:
    """Return a hash of what recording `number` holds: its first and last events and their number.

    It tells the same recording under another name, which is what overlap between training and test is about.
    """
    recording = collection.entries[number].recording
    digest = hashlib.sha256(f"{recording.num_events} {recording.t_range}".encode())
    for start in (0, max(0, recording.num_events - 1000)):
        events = recording.events_by_index(start, min(start + 1000, recording.num_events))
        for column in (events.x, events.y, events.t - recording.t_range[0], events.p):
            digest.update(column.tobytes())
    return digest.hexdigest()[:16]


def _split(
    collection: Collection, window: WindowConfig, holdout: float
) -> tuple[list[tuple[int, Window]], list[tuple[int, Window]]]:
    if len(collection.entries) < MANY or not holdout:
        return cut_collection(collection, window, holdout)
    windows, _ = cut_collection(collection, window)
    ranked = sorted(
        range(len(collection.entries)),
        key=lambda n: hashlib.sha256(collection.entries[n].name.encode()).digest(),
    )
    kept_out = set(ranked[: max(1, round(holdout * len(ranked)))])
    training = [w for w in windows if w[0] not in kept_out]
    if not training:
        raise WindowError(
            f"no window is left to train on: {len(kept_out)} of {len(ranked)} recordings are held out and the others "
            "are empty; give more data, or data.holdout=0"
        )
    return training, [w for w in windows if w[0] in kept_out]


def _animated(
    source: Source, config: DataConfig, representation: Representation, image_size: tuple[int, int]
) -> Samples:
    if config.target == "events":
        raise CollectionError("animated pictures are trained on the light before and after; leave data.target out")
    num_held = round(config.holdout * len(source.pictures)) if len(source.pictures) > 1 else 0
    kept, rest = source.pictures[: len(source.pictures) - num_held], source.pictures[len(source.pictures) - num_held :]

    def samples(pictures: tuple[Path, ...]) -> AnimatedPictures:
        return AnimatedPictures(pictures, config.motion, source.sensor, representation, image_size, config.augment)

    identity = tuple(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}" for path in kept)
    window = config.window.model_copy(update={"by": "time", "duration_us": config.motion.duration_us})
    return Samples(samples(kept), samples(rest) if rest else None, "frames", window, identity)
