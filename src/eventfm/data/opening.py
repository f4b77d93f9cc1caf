"""What a data config points at: recordings, pictures, or EF-ImageNet as it was published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from eventfm.config import Config
from eventfm.data.animate import MotionConfig, find_pictures
from eventfm.data.collection import Collection, open_collection
from eventfm.data.ef_imagenet import EFImageNet, Noise, is_ef_imagenet, open_ef_imagenet
from eventfm.data.scenes import Tokens
from eventfm.data.table import CollectionError
from eventfm.data.transforms import AugmentConfig
from eventfm.data.windows import Difference, WindowConfig
from eventfm.events import OnError, Sensor


class DataConfig(Config):
    """Where the data are, and how they become samples."""

    path: str | None = None
    """A recording, a store of recordings, or a folder of them; or the root of EF-ImageNet, as it was published."""
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
    difference: Difference = "linear"
    """What is meant by the difference of two frames: of grey as it is, or of log(grey + 1/255), with grey in [0, 1]."""
    noise: Noise = "noisy"
    """Which events of EF-ImageNet: with the noise of the simulated sensor, or without."""
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
    stored: EFImageNet | None = None
    """EF-ImageNet, whose samples are stored ready-made."""

    @property
    def tokens(self) -> Tokens | None:
        """The tokens of a teacher that the data bring with them, for `TeacherInput.cache`."""
        return self.stored.tokens if self.stored else None


def open_source(config: DataConfig) -> Source:
    """Return what `config` points at, with its sensor.

    Raises:
        CollectionError: Nothing is pointed at, nothing is there, or pictures alone are to be chosen by a table.
    """
    if config.path is None and config.images is None:
        raise CollectionError("nothing to train on: give data=PATH (recordings) or data.images=FOLDER (pictures)")
    choices = {"labels": config.labels, "split": config.split, "fold": config.fold, "exclude_fold": config.exclude_fold}
    given = [name for name, value in choices.items() if value is not None]
    if config.path is None:
        assert config.images is not None
        if given:
            raise CollectionError(f"data.{given[0]} chooses among recordings, and there is no data.path; leave it out")
        width, height = config.sensor or config.motion.sensor
        return Source(Sensor(width, height), None, tuple(find_pictures(Path(config.images))))
    if is_ef_imagenet(Path(config.path)):
        if given or config.images is not None:
            name = given[0] if given else "images"
            raise CollectionError(f"data.{name} belongs to recordings, and EF-ImageNet has none; leave it out")
        stored = open_ef_imagenet(Path(config.path), config.noise)
        return Source(stored.sensor, None, (), stored)
    collection = open_collection(
        config.path,
        labels=config.labels,
        pictures=config.images,
        format=config.format,
        sensor=config.sensor,
        on_error=config.on_error,
    ).select(config.split, config.fold, config.exclude_fold)
    return Source(collection.sensor, collection)
