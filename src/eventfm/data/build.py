"""From a data config to samples: what is cut and drawn for a run."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eventfm.data.animate import AnimatedPictures
from eventfm.data.collection import Collection
from eventfm.data.ef_imagenet import WINDOW_US, Image
from eventfm.data.ef_samples import EFImageNetSamples
from eventfm.data.loader import SampleSet
from eventfm.data.opening import DataConfig, Source, open_source
from eventfm.data.pairs import Target, WindowSamples, cut_collection, read_difference, require_scenes
from eventfm.data.pictures import decode, picture_key
from eventfm.data.problems import UnreadableError, first_readable
from eventfm.data.scenes import Frame, Scene, Scenes, Still, TeacherInput
from eventfm.data.table import CollectionError
from eventfm.data.windows import Window, WindowConfig, WindowError
from eventfm.protocols import Representation
from eventfm.representations import VoxelGrid

__all__ = [
    "DataConfig",
    "Samples",
    "Source",
    "TeacherInput",
    "build_samples",
    "open_source",
    "resolve_target",
    "scenes_of",
]

MANY = 10
"""From this many recordings on, whole recordings are held out; of fewer, the end of each."""


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
    """Every recording or picture that training reads, with a hash of its content; of EF-ImageNet, with a hash of the
    names and sizes of its files."""

    @property
    def problems(self) -> dict[str, str]:
        """What could not be read so far and was passed over, and why, by name."""
        return {**self.training.problems, **(self.held_out.problems if self.held_out else {})}


def build_samples(
    source: Source,
    config: DataConfig,
    representation: Representation,
    integral: Representation,
    image_size: tuple[int, int],
    teacher: TeacherInput | None = None,
) -> Samples:
    """Return the samples of `source`; `image_size` is (height, width). With `teacher` they hold what it needs.

    Raises:
        CollectionError: Animated pictures or stored samples are to have another target, representation or teacher than
            they can; a teacher is to be shown recordings without pictures; or none of the frames can be read.
        WindowError: No recording has a window to train on, windows of this kind have no frames at their ends, or the
            frames are not as large as the sensor.
        ValueError: The cache of the teacher's tokens belongs to other data.
    """
    if source.stored is not None:
        return _stored(source, config, representation, image_size, teacher)
    if teacher is not None:
        scenes = scenes_of(source, config)
        if teacher.cache is not None:
            # Pictures are cut to the shape of the sensor only where they are animated.
            field = scenes.field if source.collection is None else None
            teacher.cache.check(field=field, keys=_keys(scenes, teacher.cache.failed))
    if source.collection is None:
        return _animated(source, config, representation, image_size, teacher)
    return _cut(source.collection, config, representation, integral, image_size, teacher)


def scenes_of(source: Source, config: DataConfig) -> Scenes:
    """Return all that a teacher can be shown of `source`: every picture, still, or frame, each once.

    Raises:
        CollectionError: Some recordings have neither frames nor a still, or the data bring tokens and no pictures.
    """
    field = source.sensor.width, source.sensor.height
    scenes: list[Scene]
    if source.stored is not None:
        raise CollectionError(
            "EF-ImageNet has no pictures to show to a teacher; it brings the tokens of one, which need no cache"
        )
    if source.collection is None:
        scenes = [Still(path, field[::-1]) for path in source.pictures]
    else:
        require_scenes(source.collection)
        scenes = list(dict.fromkeys(Still(e.picture) for e in source.collection.entries if e.picture is not None))
        for entry in source.collection.entries:
            if entry.picture is None:
                scenes += [Frame(entry, number) for number in range(len(entry.recording.tracks["frames"].times))]
    return Scenes(tuple(scenes), field)


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


def _cut(
    collection: Collection,
    config: DataConfig,
    representation: Representation,
    integral: Representation,
    image_size: tuple[int, int],
    teacher: TeacherInput | None,
) -> Samples:
    target = resolve_target(collection, config)
    window = config.window
    if target == "frames" and window.by in ("count", "whole"):
        raise WindowError(
            f"the target 'frames' needs windows between frames, got data.window.by={window.by}; "
            "leave data.window.by out, or say data.target=events"
        )
    if target == "frames" and window.by == "time":
        window = window.model_copy(update={"by": "frames"})
    training, held_out = _split(collection, window, config.holdout)

    def samples(windows: list[tuple[int, Window]]) -> WindowSamples:
        return WindowSamples(
            collection,
            tuple(windows),
            window,
            representation,
            integral,
            image_size,
            config.augment,
            target,
            config.difference,
            teacher,
        )

    made = samples(training)
    if target == "frames":
        # Frames that do not fit are told before a run is begun, not by its first batch.
        first_readable(lambda n: _look(made, n), 0, len(made), made.problems)
    used = sorted({number for number, _ in training})
    entries = collection.entries
    identity = tuple(f"{entries[n].name or Path(str(config.path)).name} {entries[n].fingerprint}" for n in used)
    later = window
    if window.by == "frames":
        typical = int(np.median([w.stop - w.start for _, w in training]))
        later = window.model_copy(update={"by": "time", "duration_us": typical})
    return Samples(made, samples(held_out) if held_out else None, target, later, identity)


def _look(samples: WindowSamples, index: int) -> None:
    read_difference(samples.entry(index), samples.windows[index][1], samples.difference)


def _keys(scenes: Scenes, failed: Mapping[str, str]) -> dict[str, str]:
    """Return name by key of each picture that can be read; the others are passed over when their turn comes."""
    keys = {}
    for number in range(len(scenes)):
        if scenes.name(number) not in failed:
            with suppress(UnreadableError):
                keys[scenes.key(number)] = scenes.name(number)
    return keys


def _split(
    collection: Collection, window: WindowConfig, holdout: float
) -> tuple[list[tuple[int, Window]], list[tuple[int, Window]]]:
    if len(collection.entries) < MANY or not holdout:
        return cut_collection(collection, window, holdout)
    windows, _ = cut_collection(collection, window)
    kept_out = _chosen([entry.name for entry in collection.entries], holdout)
    training = [w for w in windows if w[0] not in kept_out]
    if not training:
        raise WindowError(
            f"no window is left to train on: {len(kept_out)} of {len(collection.entries)} recordings are held out and "
            "the others are empty; give more data, or data.holdout=0"
        )
    return training, [w for w in windows if w[0] in kept_out]


def _chosen(names: Sequence[str], share: float) -> set[int]:
    """Return the numbers of a `share` of `names`, at least one, chosen by their hashes."""
    ranked = sorted(range(len(names)), key=lambda number: hashlib.sha256(names[number].encode()).digest())
    return set(ranked[: max(1, round(share * len(ranked)))])


def _animated(
    source: Source,
    config: DataConfig,
    representation: Representation,
    image_size: tuple[int, int],
    teacher: TeacherInput | None,
) -> Samples:
    if config.target == "events":
        raise CollectionError("animated pictures are trained on the light before and after; leave data.target out")
    assert config.images is not None
    names = [path.relative_to(config.images).as_posix() for path in source.pictures]
    held = _chosen(names, config.holdout) if round(config.holdout * len(names)) else set()
    kept = tuple(path for number, path in enumerate(source.pictures) if number not in held)
    rest = tuple(path for number, path in enumerate(source.pictures) if number in held)

    def samples(pictures: tuple[Path, ...]) -> AnimatedPictures:
        return AnimatedPictures(
            pictures,
            config.motion,
            source.sensor,
            representation,
            image_size,
            config.augment,
            config.difference,
            teacher,
        )

    if rest and not any(map(_is_readable, rest)):  # a run is not to end at its first look
        warnings.warn(f"nothing is held out: none of {len(rest)} pictures can be read, e.g. {rest[0]}", stacklevel=2)
        rest = ()
    identity = tuple(f"{path.name} {_key_or_word(path)}" for path in kept)
    window = config.window.model_copy(update={"by": "time", "duration_us": config.motion.duration_us})
    return Samples(samples(kept), samples(rest) if rest else None, "frames", window, identity)


def _is_readable(path: Path) -> bool:
    try:
        decode(path)
    except UnreadableError:
        return False
    return True


def _key_or_word(path: Path) -> str:
    try:
        return picture_key(path)
    except UnreadableError:
        return "unreadable"


def _stored(
    source: Source,
    config: DataConfig,
    representation: Representation,
    image_size: tuple[int, int],
    teacher: TeacherInput | None,
) -> Samples:
    stored = source.stored
    assert stored is not None
    expected = VoxelGrid(stored.num_bins)
    if representation != expected:
        raise CollectionError(
            f"EF-ImageNet in {stored.root} holds voxel grids of {stored.num_bins} bins, scaled by their first and last "
            f"events; give representation.name=voxel_grid representation.num_bins={stored.num_bins} "
            f"representation.span=events, got {representation}"
        )
    if config.target == "events" or config.difference != "linear":
        raise CollectionError(
            "EF-ImageNet brings its target, the linear difference of frames; leave data.target and data.difference out"
        )
    images, problems = stored.images, dict(stored.problems)
    if teacher is not None:
        if teacher.cache is None:
            raise CollectionError(
                f"EF-ImageNet in {stored.root} has no pictures to show to a teacher; "
                + (
                    "train with the tokens that it brings"
                    if stored.tokens
                    else "and no tokens of one (IMAGE_clip_emb.pt)"
                )
            )
        problems |= {image.name: "has no clip_emb" for image in images if image.key not in teacher.cache}
        images = tuple(image for image in images if image.name not in problems)
        if not images:
            raise CollectionError(f"none of the images of EF-ImageNet in {stored.root} is in the teacher's cache")
    elif not stored.has_targets:
        raise CollectionError(f"EF-ImageNet in {stored.root} has no sub_frames, so there is no target to train on")
    held = _chosen([image.name for image in images], config.holdout) if config.holdout and len(images) > 1 else set()

    def samples(chosen: list[Image], known: dict[str, str]) -> EFImageNetSamples:
        return EFImageNetSamples(stored, tuple(chosen), image_size, config.augment, teacher, known)

    training = [image for number, image in enumerate(images) if number not in held]
    held_out = [image for number, image in enumerate(images) if number in held]
    identity = tuple(f"{image.name} {image.digest}" for image in training)
    window = config.window.model_copy(update={"by": "time", "duration_us": WINDOW_US})
    made = samples(training, problems)
    return Samples(made, samples(held_out, {}) if held_out else None, "frames", window, identity)
