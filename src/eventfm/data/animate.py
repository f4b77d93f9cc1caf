"""Pictures animated on the fly: every sample a new motion before a new sensor."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from eventfm.config import Config
from eventfm.data.activity import patch_activity, patch_grid
from eventfm.data.pairs import write_grid
from eventfm.data.pictures import decode, resized
from eventfm.data.problems import first_readable
from eventfm.data.scenes import Still, TeacherInput
from eventfm.data.table import PICTURES, CollectionError
from eventfm.data.transforms import AugmentConfig, disturb, draw, whole
from eventfm.data.windows import Difference, difference_of
from eventfm.events import Sensor
from eventfm.protocols import Representation
from eventfm.random import generator
from eventfm.simulation.light import linear
from eventfm.simulation.paths import Path as MotionPath
from eventfm.simulation.paths import saccades
from eventfm.simulation.random_paths import random_planar_motion
from eventfm.simulation.render import Clip, make_clip
from eventfm.simulation.sensor import LARGEST_THRESHOLD, SMALLEST_THRESHOLD, SensorConfig

_OFF_TO_ON = (0.7, 1.4)
"""Bounds of an OFF threshold, as a multiple of the ON threshold."""


class MotionConfig(Config):
    """How pictures move and what sees them; drawn anew for every sample."""

    sensor: tuple[PositiveInt, PositiveInt] = (128, 128)
    """Width and height of the simulated sensor, pixels."""
    kind: Literal["planar", "saccades"] = "planar"
    """`planar`: a camera that moves at random before the picture; `saccades`: three movements round a triangle, as
    N-MNIST and N-Caltech101 were recorded."""
    duration_us: PositiveInt = 50_000
    """Length of a clip, microseconds."""
    speed_px_s: tuple[PositiveFloat, PositiveFloat] = (20.0, 500.0)
    """Range of the mean speed in pixels per second, log-uniform (for `saccades` that of each movement)."""
    pause_probability: float = Field(default=0.2, ge=0, le=1)
    """Chance that a planar clip has a pause."""
    threshold: tuple[PositiveFloat, PositiveFloat] = (0.1, 0.5)
    """Range of the contrast threshold, natural-log units, log-uniform; ON and OFF differ by about a tenth."""
    sigma: float = Field(default=0.03, ge=0, le=1)
    """Spread of the threshold from pixel to pixel."""
    noise_probability: float = Field(default=0.0, ge=0, le=1)
    """Chance that the sensor of a clip has noise, low-pass and refractory time, drawn by
    `SensorConfig.with_random_noise`."""
    preset: Literal["clean", "noisy", "v2e-clean", "v2e-noisy", "esim"] | None = None
    """One of `SensorConfig`'s presets for every clip, instead of thresholds and noise drawn at random."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("speed_px_s", "threshold"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"expected {name} as [low, high] with low <= high, got {[low, high]}")
        lowest, highest = SMALLEST_THRESHOLD / _OFF_TO_ON[0], LARGEST_THRESHOLD / _OFF_TO_ON[1]
        if not lowest <= self.threshold[0] <= self.threshold[1] <= highest:
            raise ValueError(
                f"expected threshold from {lowest:.3g} to {highest:.3g} (natural-log units; OFF thresholds are "
                f"{_OFF_TO_ON[0]:g} to {_OFF_TO_ON[1]:g} times as large), got {list(self.threshold)}"
            )
        return self


@dataclass(frozen=True)
class AnimatedPictures:
    """Samples of moving pictures (`loader.SampleSet`): `input` (C, H, W) and what is asked for beside it.

    That is `target` (1, H, W) and, with an `activity_patch`, `activity` (rows, cols) (see `data.activity`). The target
    is the difference in luminance between the end and the start of the clip, without noise (EventPretrain, section 3).
    A `teacher` is shown the picture as the sensor sees it at rest, in colour; `view` is the part of it that is in the
    crop at the middle of the clip. Without a generator (evaluation) sample `i` is the same clip every time. A picture
    that cannot be read is passed over for the next one.
    """

    pictures: tuple[Path, ...]
    motion: MotionConfig
    sensor: Sensor
    representation: Representation
    image_size: tuple[int, int]
    augment: AugmentConfig
    difference: Difference | None = "linear"
    """Which difference is the target; None for no target."""
    teacher: TeacherInput | None = None
    activity_patch: int | None = None
    """Side, in pixels of the input, of the patches whose activity is counted."""
    problems: dict[str, str] = field(default_factory=dict, compare=False)
    """What could not be read so far, and why, by name."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each array of a sample."""
        shapes: dict[str, tuple[int, ...]] = {"input": (self.representation.channels, *self.image_size)}
        if self.difference:
            shapes["target"] = (1, *self.image_size)
        if self.activity_patch:
            shapes["activity"] = patch_grid(self.image_size, self.activity_patch)
        return shapes | (self.teacher.shapes if self.teacher else {})

    def __len__(self) -> int:
        return len(self.pictures)

    def fill(self, index: int, rng: np.random.Generator | None, out: dict[str, NDArray[np.generic]]) -> None:
        """Write a clip of picture `index` into `out`.

        Raises:
            CollectionError: No picture at all can be read.
        """
        first_readable(lambda number: self._fill(number, rng, out), index, len(self), self.problems)

    def scene(self, index: int) -> Still:
        """Return what a teacher is shown of picture `index`."""
        return Still(self.pictures[index], (self.sensor.height, self.sensor.width))

    def _fill(self, index: int, rng: np.random.Generator | None, out: dict[str, NDArray[np.generic]]) -> None:
        scene, shown = self.scene(index), None
        if self.teacher is not None and self.teacher.cache is None:
            # One look at the file serves both.
            picture = decode(scene.path)
            light, shown = linear(picture), resized(picture, self.teacher.input_size, scene.field)
        else:
            light = read_picture(scene.path)
        draws = generator(0, "evaluation", index) if rng is None else rng
        clip, path = random_clip(light, self.motion, self.sensor, draws)
        if rng is None:
            geometry = whole(self.sensor, self.image_size)
            events = geometry.events(clip.events)
        else:
            geometry = draw(self.sensor, self.image_size, self.augment, rng)
            events = disturb(geometry.events(clip.events), self.augment, rng)
        write_grid(self.representation, events, geometry, out["input"])
        if self.activity_patch:
            out["activity"][...] = patch_activity(events, geometry, self.activity_patch)
        if self.difference:
            out["target"][0] = geometry.difference(difference_of(clip.first, clip.last, self.difference))
        if self.teacher is not None:
            halfway = path.at(self.motion.duration_us / 2)
            self.teacher.fill(scene, geometry.view(self.sensor, halfway), out, shown)


def random_clip(
    light: NDArray[np.float32], motion: MotionConfig, sensor: Sensor, rng: np.random.Generator
) -> tuple[Clip, MotionPath]:
    """Return a clip of a picture in linear light (H', W') and its motion; that and the sensor are drawn from `rng`."""
    size = sensor.height, sensor.width
    path, config = random_shot(motion, sensor, rng)
    return make_clip(light, path, (0, motion.duration_us), size, config, enlarge=True), path


def random_shot(motion: MotionConfig, sensor: Sensor, rng: np.random.Generator) -> tuple[MotionPath, SensorConfig]:
    """Return a path from 0 to `duration_us` and a sensor, both drawn from `rng`."""
    return random_path(motion, sensor, rng), random_sensor(motion, rng)


def random_path(motion: MotionConfig, sensor: Sensor, rng: np.random.Generator) -> MotionPath:
    """Return a path from 0 to `duration_us` drawn from `rng`."""
    size = sensor.height, sensor.width
    speed = _log_uniform(rng, motion.speed_px_s)
    if motion.kind == "saccades":
        return saccades(speed * motion.duration_us * 1e-6 / 3, motion.duration_us // 3)
    return random_planar_motion(rng, size, motion.duration_us, speed, motion.pause_probability)


def random_sensor(motion: MotionConfig, rng: np.random.Generator) -> SensorConfig:
    """Return a sensor drawn from `rng`."""
    c_pos = _log_uniform(rng, motion.threshold)
    c_neg = c_pos * float(np.clip(rng.normal(1, 0.1), *_OFF_TO_ON))
    config = SensorConfig(c_pos=c_pos, c_neg=c_neg, sigma=motion.sigma, seed=int(rng.integers(2**62)))
    if motion.preset is not None:
        return replace(SensorConfig.preset(motion.preset), seed=config.seed)
    noisy = motion.noise_probability > 0 and rng.uniform() < motion.noise_probability
    return config.with_random_noise(rng) if noisy else config


def find_pictures(folder: Path) -> list[Path]:
    """Return the pictures in `folder` and below, in order of name.

    Raises:
        CollectionError: There is none.
    """
    found = sorted(file for file in folder.rglob("*") if file.suffix.lower() in PICTURES)
    if not found:
        raise CollectionError(f"expected pictures ({', '.join(sorted(PICTURES))}) in {folder}, found none")
    return found


@lru_cache(maxsize=32)  # a large photograph takes 50 MB
def read_picture(path: Path) -> NDArray[np.float32]:
    """Return a picture file in linear light, (H, W) float32 in [0, 1].

    Raises:
        UnreadableError: It cannot be read as a picture, or is cut off.
    """
    return linear(decode(path))


def _log_uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(*np.log(bounds))))
