"""What a corpus is made of: clips to be filmed, the kinds of source they come from, and the settings of all."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from eventfm.config import Config, Several
from eventfm.data.animate import MotionConfig
from eventfm.protocols import Recording
from eventfm.registry import Registry, did_you_mean
from eventfm.simulation.sensor import SensorConfig
from eventfm.simulation.shapes import SHAPES
from eventfm.simulation.worlds import SceneConfig

_DRAWN_OR_FIXED = ("seed", "gamma")
"""Not to be set: the seed is drawn for every clip, and frames are linear light."""
_PER_RANGE = 2
_WHOLE = {field.name for field in fields(SensorConfig) if isinstance(field.default, int)}
SPLITS = ("train", "val", "valid", "validation", "test")


class PixelConfig(Config):
    """Which sensor looks: a preset, and fields of `SensorConfig` as values or as ranges to draw from.

    `pixel=noisy` is short for `pixel.preset=noisy`; `pixel.shot_hz=2` sets a field, `pixel.c_pos=[0.1,0.5]` draws it
    anew for every clip, log-uniformly (uniformly where the range begins at zero, or the field is a whole number).
    """

    preset: str | None = None
    """A preset of `SensorConfig`, or `random` for `SensorConfig.sample`. None: of pictures, the sensor is what `motion`
    says, its thresholds drawn at random; of video, "clean"."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Fields of `SensorConfig` that differ from the preset."""

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, given: Any) -> Any:
        if isinstance(given, str):
            return {"preset": given}
        if not isinstance(given, dict):
            return given
        settings = given.get("settings", {})
        loose = {key: value for key, value in given.items() if key not in cls.model_fields}
        if not isinstance(settings, dict):
            return given
        named = {key: value for key, value in given.items() if key in cls.model_fields}
        merged = {key: _as_field(key, value) for key, value in {**settings, **loose}.items()}
        return {**named, "settings": merged}

    @model_validator(mode="after")
    def _check(self) -> Self:
        known = [field.name for field in fields(SensorConfig) if field.name not in _DRAWN_OR_FIXED]
        for name in self.settings:
            if name not in known:
                raise ValueError(f"unknown setting {name!r}{did_you_mean(name, known)}")
        base = SensorConfig() if self.preset in (None, "random") else SensorConfig.preset(str(self.preset))
        for end in (0, 1):
            replace(base, **{name: _end(value, end) for name, value in self.settings.items()})
        return self


class VideoConfig(Config):
    """How video and folders of frames are read; see `simulation.video.video_frames`."""

    fps: PositiveFloat | None = None
    """True frames per second, for folders without times and for slow-motion video."""
    coding: Literal["auto", "srgb", "bt709", "hlg", "linear"] = "auto"
    """How grey values stand for light."""
    interpolator: str | None = None
    """Fills the time between frames: `flow` (optical flow, approximate), a name that another package has registered
    under `eventfm.interpolator`, or `module:function`."""
    max_step_px: PositiveFloat = 0.5
    """With an interpolator: frames are made until nothing moves further than this from one to the next, pixels."""
    on_damage: Literal["raise", "keep"] = "raise"
    """`keep` takes what can be read of a damaged video or folder, with a warning."""


class WorldConfig(Config):
    """What the worlds of `scenes` are drawn from; see `simulation.SceneConfig`, whose fields these are."""

    num_objects: tuple[int, int] = (1, 4)
    """Fewest and most things. With (1, 1) the class of the thing is the label of the clip, each class as often."""
    shapes: Several[str] = SHAPES
    speed_px_s: tuple[float, float] = (30.0, 250.0)
    object_speed_px_s: tuple[float, float] = (20.0, 250.0)
    still_camera: float = 0.0
    still_object: float = 0.3
    floor: float = 0.8
    field_of_view_deg: float = 55.0
    camera_height_m: float = 1.0
    wall_m: tuple[float, float] = (2.5, 7.0)
    pictures: str | None = None
    """Folder of pictures for the surfaces; None: the photographs inside scikit-image."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.to_scene((128, 128), 50_000)
        return self

    def to_scene(self, size: tuple[int, int], duration_us: int) -> SceneConfig:
        """Return the same for a sensor (height, width) and clips of one length."""
        return SceneConfig(size=size, duration_us=duration_us, **self.model_dump(exclude={"pictures"}))


class CorpusConfig(Config):
    """All that decides what a corpus holds, beside its sources."""

    seed: int = 0
    num_clips: PositiveInt = 1
    """Clips of every picture or video, each with a motion and a sensor of its own."""
    sensor: tuple[PositiveInt, PositiveInt] | None = None
    """Width and height, pixels; video is cut to that shape about its centre and resized. None: of pictures that of
    `motion.sensor`; video keeps its own size."""
    motion: MotionConfig = MotionConfig()
    """How pictures move."""
    pixel: PixelConfig = PixelConfig()
    video: VideoConfig = VideoConfig()
    scene: WorldConfig = WorldConfig()
    enlarge: bool = False
    """Take pictures that have fewer pixels than the sensor too, though they look soft on it."""
    frames_hz: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Rate of the track `frames`. None: of pictures both ends of the clip (of saccades each turn), of video every
    frame that it has."""
    tracks: Several[Literal["frames", "flow", "depth", "semantic"]] = ("frames", "flow", "depth", "semantic")
    """Tracks beside the events, where the source has them: `flow` (with `valid`, and of scenes `occluded`) not of
    video, `depth` and `semantic` (with `instance`) of scenes only, but for `masks`."""
    masks: str | None = None
    """Of pictures: a folder with the classes of their pixels, which become the track `semantic`; for `a/b.jpg` it holds
    `a/b.png` of the same size, grey or with a palette, each value a class, 255 where there is none; and, if wanted,
    `classes.txt`, a line for the name of each class."""
    label_by: Literal["folder", "none"] = "folder"
    """Whether the folder that a picture or video lies in is its label (and train, val or test above that its split)."""
    shard_clips: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Clips in one file; auto follows the size of the corpus."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.masks is not None and "semantic" not in self.tracks:
            raise ValueError(f"masks become the track semantic: add it to tracks={list(self.tracks)}")
        return self

    @model_validator(mode="before")
    @classmethod
    def _one_size(cls, given: Any) -> Any:
        """Let `sensor` be that of the motion too."""
        if not isinstance(given, dict) or given.get("sensor") is None:
            return given
        motion = given.get("motion", {})
        motion = motion.model_dump(exclude_unset=True) if isinstance(motion, MotionConfig) else motion
        sizes = [given["sensor"], motion.get("sensor", given["sensor"]) if isinstance(motion, dict) else None]
        if not all(isinstance(size, (list, tuple)) for size in sizes):
            return given  # which the fields will complain of
        if list(sizes[0]) != list(sizes[1]):
            raise ValueError(f"sensor={sizes[0]} and motion.sensor={sizes[1]} differ; give one")
        return {**given, "motion": {**motion, "sensor": given["sensor"]}}


@dataclass(frozen=True, slots=True)
class Entry:
    """One clip that is to be made: with the config it decides every bit."""

    name: str
    """Id in the store."""
    source: str = ""
    """What it is made from, relative to the root of the corpus."""
    clip: int = 0
    """Which of several of the same source."""
    label: str = ""
    split: str = ""
    sha256: str = ""
    """Hash that the source must have; any, if empty."""


class Filmed(NamedTuple):
    """A clip that was made."""

    recording: Recording
    note: dict[str, Any]
    """What the manifest says of it, JSON-ready: `sha256` of the source, the sensor that was drawn."""


@dataclass(frozen=True)
class Kind:
    """One kind of source. Both functions depend on nothing but their arguments; they run in other processes."""

    entries: Callable[[str, CorpusConfig], tuple[Path, list[Entry]]]
    """(source, config) to the root of the corpus and its clips."""
    film: Callable[[Entry, Path, CorpusConfig, Path], Filmed]
    """(entry, root, config, scratch folder) to the clip. The scratch folder is deleted once the clip is stored."""
    is_long: bool = False
    """Whether a clip is as much as a file should hold."""


KINDS = Registry(
    "source",
    {
        "pictures": "eventfm.data.picture_clips:PICTURE_KIND",
        "video": "eventfm.data.video_clips:VIDEO_KIND",
        "frames": "eventfm.data.video_clips:FRAMES_KIND",
        "scenes": "eventfm.data.scene_clips:SCENE_KIND",
    },
)
"""Kinds of source by name, each a `Kind`; packages add theirs under the entry point group `eventfm.source`."""


def draw_sensor(pixel: PixelConfig, base: SensorConfig, rng: np.random.Generator) -> SensorConfig:
    """Return the sensor of one clip; `base` holds where no preset is named, and has the seed in any case."""
    if pixel.preset == "random":
        base = replace(SensorConfig.sample(rng), seed=base.seed)
    elif pixel.preset is not None:
        base = replace(SensorConfig.preset(pixel.preset), seed=base.seed)
    values = {name: _drawn(value, rng, name in _WHOLE) for name, value in sorted(pixel.settings.items())}
    return replace(base, **values)


def entries_of(sources: list[str], config: CorpusConfig) -> list[Entry]:
    """Return the clips of `sources` (paths with forward slashes, relative to the root), clip after clip of each.

    Raises:
        ValueError: Two sources would give recordings of one name.
    """
    out: list[Entry] = []
    taken: dict[str, str] = {}
    for source in sources:
        plain = source.replace("/", "__").replace("::", "--")
        if plain in taken:
            raise ValueError(f"{taken[plain]!r} and {source!r} would both be called {plain!r}; rename one")
        taken[plain] = source
        *folders, _ = source.split("/")
        by_folder = config.label_by == "folder" and folders
        split = folders[0] if by_folder and folders[0] in SPLITS else ""
        label = folders[-1] if by_folder and len(folders) > bool(split) else ""  # a class may be called "train"
        for clip in range(config.num_clips):
            out.append(Entry(f"{plain}-{clip}", source, clip, label, split))
    return out


def _as_field(name: str, value: Any) -> Any:
    """Return numbers of fields that are not whole as floats, so that 2, 2.0 and YAML's text `2e0` are one config."""
    if isinstance(value, (list, tuple)):
        return [_as_field(name, item) for item in value]
    if isinstance(value, str):
        with suppress(ValueError):
            number = float(value)
            return int(number) if name in _WHOLE and number.is_integer() else number
    return float(value) if isinstance(value, int) and name not in _WHOLE else value


def clip_times(motion: MotionConfig, frames_hz: float | None) -> NDArray[np.int64]:
    """Return the times of the clean frames of a clip, microseconds: both ends and `frames_hz` between.

    Without a rate both ends alone; of saccades the turns as well.
    """
    if frames_hz is None:
        return np.linspace(0, motion.duration_us, 4 if motion.kind == "saccades" else 2).astype(np.int64)
    count = int(motion.duration_us * frames_hz * 1e-6)
    times = np.rint(np.arange(count + 1) * (1e6 / frames_hz)).astype(np.int64)
    return np.append(times[times < motion.duration_us], motion.duration_us)


def _end(value: Any, end: int) -> Any:
    if not isinstance(value, (list, tuple)):
        return value
    numbers = [number for number in value if isinstance(number, (int, float)) and math.isfinite(number)]
    if len(value) != _PER_RANGE or len(numbers) != _PER_RANGE or not 0 <= numbers[0] <= numbers[1]:
        raise ValueError(f"expected a value or a range [low, high] with 0 <= low <= high, got {value!r}")
    return numbers[end]


def _drawn(value: Any, rng: np.random.Generator, whole: bool) -> Any:
    if not isinstance(value, (list, tuple)):
        return value
    low, high = value
    if whole:
        return int(rng.integers(int(low), int(high) + 1))
    return float(math.exp(rng.uniform(math.log(low), math.log(high))) if low > 0 else rng.uniform(low, high))
