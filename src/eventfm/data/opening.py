"""What a data config points at: recordings, pictures, or samples that were published ready-made."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, PositiveFloat, PositiveInt

from eventfm.config import Config
from eventfm.data.animate import MotionConfig, find_pictures
from eventfm.data.collection import Collection
from eventfm.data.curation import CurationConfig
from eventfm.data.datasets.contract import Dataset
from eventfm.data.datasets.opening import open_dataset, open_stored
from eventfm.data.datasets.registry import DATASETS
from eventfm.data.ef_imagenet import EFImageNet, Noise, is_ef_imagenet, open_ef_imagenet
from eventfm.data.scenes import Tokens
from eventfm.data.sequences import open_recordings
from eventfm.data.table import CollectionError
from eventfm.data.test_sequences import overlaps
from eventfm.data.transforms import AugmentConfig
from eventfm.data.trio import TrioSet, is_trio, open_trio
from eventfm.data.windows import Difference, WindowConfig
from eventfm.events import OnError, Sensor

_CHOICES = ("split", "fold", "exclude_fold")
"""What chooses among recordings."""


class PartConfig(Config):
    """Where one part of a mixture is, and its share; everything else is as the mixture's `DataConfig` says."""

    path: str | None = None
    dataset: str | None = None
    division: str | None = None
    labels: str | None = None
    split: str | None = None
    fold: int | None = None
    exclude_fold: int | None = None
    images: str | None = None
    format: str | None = None
    sensor: tuple[PositiveInt, PositiveInt] | None = None
    name: str | None = None
    """What it is called; the last part of its path where it is not given."""
    weight: PositiveFloat | None = None
    """Relative number of draws from it; by its number of samples where no part has a weight."""


class DataConfig(Config):
    """Where the data are, and how they become samples."""

    path: str | None = None
    """A recording, a store of recordings, or a folder of them; or sequences of DSEC or M3ED, EF-ImageNet or a set of
    ScaleEvent's data, as they were published."""
    dataset: str | None = None
    """The public data set that `path` is, as its owners publish it: a name that `eventfm datasets list` has."""
    division: str | None = None
    """Whose splits of it, where its card lists several."""
    sources: tuple[PartConfig, ...] = ()
    """Several such places to draw from in turn, in the place of `path` (`mixture.MixedSamples`)."""
    keep_test_sequences: bool = False
    """Train also on what DSEC, DDD17-Seg and MVSEC test on (`test_sequences`); the encoder's card then says so."""
    labels: str | None = None
    """Table of the recordings: a CSV with the columns path, label, split, fold. Of ScaleEvent's data, the list of
    sequences, its lengths beside it."""
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
    target: Literal["auto", "frames", "events", "none"] = "auto"
    """`frames`: grey difference of the two frames that bound the window (EventPretrain, section 3). `events`: the
    log-intensity change that the window's own events encode, which needs no frames (eventfm's extension). `none`:
    methods that learn from a teacher alone need no target."""
    curate: CurationConfig | None = None
    """Leave out windows by frame that are not fit to learn from (`curation`), before the run; {} for the usual limits.
    """
    difference: Difference = "linear"
    """What is meant by the difference of two frames: of grey as it is, or of log(grey + 1/255), with grey in [0, 1]."""
    noise: Noise = "noisy"
    """Which events of EF-ImageNet: with the noise of the simulated sensor, or without; of `data.dataset=ef-imagenet`,
    `division` says it."""
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
    trio: TrioSet | None = None
    """ScaleEvent's data, whose volumes are stored ready-made."""
    parts: tuple[Part, ...] = ()
    """Of a mixture; `sensor` is then the first one's."""
    overlaps: dict[str, str] = field(default_factory=dict)
    """Test sequences among what there is to read, and the benchmarks that test on them."""

    @property
    def tokens(self) -> Tokens | None:
        """The tokens of a teacher that the data bring with them, for `TeacherInput.cache`."""
        return self.stored.tokens if self.stored else None


class Part(NamedTuple):
    """One part of a mixture."""

    name: str
    weight: float | None
    config: DataConfig
    source: Source


def open_source(config: DataConfig) -> Source:
    """Return what `config` points at, with its sensor, test sequences left out.

    Raises:
        CollectionError: Nothing is pointed at, nothing is there or left, or pictures alone are to be chosen by a table.
        CalibrationError: A sequence of DSEC or M3ED lacks what its frames are warped by; the message says what to
            download.
    """
    if config.sources:
        return _mixture(config)
    if config.path is None and config.images is None:
        raise CollectionError("nothing to train on: give data=PATH (recordings) or data.images=FOLDER (pictures)")
    if config.path is None:
        assert config.images is not None
        _refuse(config, ("labels", *_CHOICES), "chooses among recordings, and there is no data.path")
        width, height = config.sensor or config.motion.sensor
        return Source(Sensor(width, height), None, tuple(find_pictures(Path(config.images))))
    if config.dataset is not None:
        return _public(config, config.dataset)
    if config.division is not None:
        raise CollectionError("data.division belongs to a public data set: give data.dataset=NAME, or leave it out")
    path = Path(config.path)
    if is_ef_imagenet(path):
        _refuse(config, ("labels", *_CHOICES, "images"), "belongs to recordings, and EF-ImageNet has none")
        return _stored(config, open_ef_imagenet(path, config.noise))
    if is_trio(path):
        _refuse(config, ("images", *_CHOICES), f"belongs to recordings, and {path} holds stored volumes")
        return _stored(config, open_trio(path, Path(config.labels) if config.labels is not None else None))
    collection = open_recordings(
        config.path,
        labels=config.labels,
        pictures=config.images,
        format=config.format,
        sensor=config.sensor,
        on_error=config.on_error,
    )
    return _of_recordings(config, collection)


def _public(config: DataConfig, name: str) -> Source:
    """Return a public data set in the folder that its owners' archives unpack to."""
    assert config.path is not None
    for key in ("labels", "images", "format", "sensor"):
        if getattr(config, key) is not None:
            raise CollectionError(f"the data set {name} says itself what data.{key} would; leave it out")
    dataset: Dataset = DATASETS.get(name)
    if dataset.stored is None:
        return _of_recordings(
            config, open_dataset(name, config.path, division=config.division, on_error=config.on_error)
        )
    _refuse(config, _CHOICES, f"belongs to recordings, and {name} has none")
    stored = open_stored(name, config.path, division=config.division)
    if isinstance(stored, EFImageNet) and config.noise not in ("noisy", stored.noise):
        raise CollectionError(f"the division of {name} says which events; give data.division={config.noise} instead")
    return _stored(config, stored)


def _refuse(config: DataConfig, keys: tuple[str, ...], why: str) -> None:
    for key in keys:
        if getattr(config, key) is not None:
            raise CollectionError(f"data.{key} {why}; leave it out")


def _stored(config: DataConfig, stored: EFImageNet | TrioSet) -> Source:
    """Return what is stored ready-made, without test sequences."""
    if isinstance(stored, EFImageNet):
        return Source(stored.sensor, None, (), stored)
    found = overlaps(stored.digests, stored.root)
    if found and not config.keep_test_sequences:
        _warn_of_tests(found, len(stored.digests))
        stored, found = stored.without(found), {}
    return Source(stored.sensor, None, trio=stored, overlaps=found)


def _of_recordings(config: DataConfig, collection: Collection) -> Source:
    """Return the recordings that are chosen, without test sequences."""
    assert config.path is not None
    collection = collection.select(config.split, config.fold, config.exclude_fold)
    found = overlaps([entry.name for entry in collection.entries], config.path)
    if found and not config.keep_test_sequences:
        _warn_of_tests(found, len(collection.entries))
        kept = tuple(entry for entry in collection.entries if entry.name not in found)
        collection, found = replace(collection, entries=kept), {}
    return Source(collection.sensor, collection, overlaps=found)


def _mixture(config: DataConfig) -> Source:
    places = set(PartConfig.model_fields) - {"name", "weight"}
    if given := sorted(name for name in places if getattr(config, name) is not None):
        raise CollectionError(f"data.sources says where the data are; leave data.{given[0]} out, or give it to a part")
    weights = [part.weight for part in config.sources]
    if None in weights and any(weights):
        raise CollectionError(f"expected a weight for every part of data.sources or for none, got {weights}")
    parts = []
    for number, part in enumerate(config.sources):
        own = config.model_copy(update={"sources": (), **{name: getattr(part, name) for name in places}})
        name = part.name or Path(part.path or part.images or str(number)).name
        parts.append(Part(name, part.weight, own, open_source(own)))
    names = [part.name for part in parts]
    if len(set(names)) < len(names):
        raise CollectionError(f"expected parts of data.sources with names of their own, got {names}; give them names")
    found = {f"{part.name}/{name}": tests for part in parts for name, tests in part.source.overlaps.items()}
    return Source(parts[0].source.sensor, None, parts=tuple(parts), overlaps=found)


def _warn_of_tests(found: dict[str, str], count: int) -> None:
    """Say what is left out.

    Raises:
        CollectionError: It is everything.
    """
    name, benchmarks = next(iter(found.items()))
    said = (
        f"{len(found)} of {count} recordings or sequences are test sequences, e.g. {name or 'this one'} ({benchmarks})"
    )
    if len(found) == count:
        raise CollectionError(f"nothing is left to train on: {said}; data.keep_test_sequences=true keeps them")
    warnings.warn(f"{said}, and are left out; data.keep_test_sequences=true keeps them", stacklevel=4)
