"""From a data config to samples: what is cut and drawn for a run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from eventfm.data.animate import AnimatedPictures
from eventfm.data.build_stored import ef_imagenet_samples, volume_samples
from eventfm.data.collection import Collection, labels_of
from eventfm.data.curated import curate_windows, merged
from eventfm.data.holding_out import MANY, chosen
from eventfm.data.mixture import MixedSamples
from eventfm.data.opening import DataConfig, Source, open_source
from eventfm.data.pairs import Target, WindowSamples, cut_collection, read_difference, require_scenes
from eventfm.data.pictures import decode, picture_key
from eventfm.data.problems import UnreadableError, first_readable
from eventfm.data.samples import Samples
from eventfm.data.scenes import Frame, Scene, Scenes, Still, TeacherInput
from eventfm.data.table import CollectionError
from eventfm.data.targets import MAPS, check_labels, check_wanted
from eventfm.data.windows import Window, WindowConfig, WindowError, read
from eventfm.protocols import Representation

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


_READ_FOR_LENGTH = 50
"""Windows that are read to say how long they typically are, where only reading tells."""


class _Asked(NamedTuple):
    """What samples are to hold, in the order of `build_samples`."""

    representation: Representation
    integral: Representation
    image_size: tuple[int, int]
    teacher: TeacherInput | None
    activity_patch: int | None
    wanted: tuple[str, ...]
    num_classes: int | None


def build_samples(
    source: Source,
    config: DataConfig,
    representation: Representation,
    integral: Representation,
    image_size: tuple[int, int],
    teacher: TeacherInput | None = None,
    activity_patch: int | None = None,
    wanted: tuple[str, ...] = (),
    num_classes: int | None = None,
) -> Samples:
    """Return the samples of `source`; `image_size` is (height, width). With `teacher` they hold what it needs.

    With `activity_patch` they hold how much happens in each patch of so many pixels a side (`data.activity`), or which
    patches are active where the data bring that. With `wanted`, of `targets.WANTED`, they hold the labels of a task and
    what belongs to them (`WindowSamples`); `num_classes` is how many classes of pixels there are, where that is known.

    Raises:
        CollectionError: Animated pictures or stored samples are to have another target, representation, teacher or
            activity than they can, or are to be curated; a teacher is to be shown recordings without pictures; no frame
            can be read; or recordings have no label, or labels are wanted of what is no recording.
        LabelError: Labels of pixels are not as large as the sensor, or not of these classes, or there are none.
        WindowError: No recording has a window to train on, or none that is fit to learn from; windows of this kind have
            no frames or labels at their ends; or the frames are not as large as the sensor.
        ValueError: The cache of the teacher's tokens belongs to other data.
    """
    asked = _Asked(representation, integral, image_size, teacher, activity_patch, wanted, num_classes)
    if source.parts:
        return _mixed(source, config, asked)
    if wanted and source.collection is None:
        raise CollectionError("labels belong to recordings, and these data hold none; give recordings as data.path")
    if config.curate is not None and source.collection is None:
        raise CollectionError(
            "data.curate asks whether the events of a recording and its frames belong together, and these data are no "
            "recordings; leave it out"
        )
    if source.stored is not None:
        if activity_patch is not None:
            raise CollectionError(
                "EF-ImageNet holds sums of events and no counts, by which active patches are told; give "
                "method.mask.by=none, or other data"
            )
        return ef_imagenet_samples(source, config, representation, image_size, teacher)
    if teacher is not None:
        scenes = scenes_of(source, config)
        if teacher.cache is not None:
            # Pictures are cut to the shape of the sensor only where they are animated.
            field = scenes.field if source.collection is None and source.trio is None else None
            teacher.cache.check(field=field, keys=_keys(scenes, teacher.cache.failed))
    if source.trio is not None:
        return volume_samples(source, config, representation, image_size, teacher, activity_patch)
    if source.collection is None:
        return _animated(source, config, representation, image_size, teacher, activity_patch)
    return _cut(source.collection, config, asked)


def scenes_of(source: Source, config: DataConfig) -> Scenes:
    """Return all that a teacher can be shown of `source`: every picture, still, or frame, each once.

    Raises:
        CollectionError: Some recordings have neither frames nor a still, or the data bring tokens and no pictures.
    """
    field = source.sensor.width, source.sensor.height
    scenes: list[Scene]
    if source.parts:
        each = [scenes_of(part.source, part.config).scenes for part in source.parts]
        return Scenes(tuple(dict.fromkeys(scene for part in each for scene in part)), field)
    if source.trio is not None:
        trio = source.trio
        return Scenes(tuple(Still(trio.file(one, "image")) for one in trio.trios), field)
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


def resolve_target(collection: Collection, config: DataConfig) -> Target | Literal["none"]:
    """Return the target that `config` asks for.

    `auto` is `frames` where every recording has at least two of them and no other windows are asked for.
    """
    if config.target != "auto":
        return config.target
    if not _may_lie_between_frames(config.window):
        return "events"
    tracks = [entry.recording.tracks for entry in collection.entries]
    return "frames" if all("frames" in t and len(t["frames"].times) > 1 for t in tracks) else "events"


def _cut(collection: Collection, config: DataConfig, asked: _Asked) -> Samples:
    target = resolve_target(collection, config)
    window = config.window
    if target == "frames" and not _may_lie_between_frames(window):
        of = f" of data.window.track={window.track}" if window.track != "frames" else ""
        raise WindowError(
            f"the target 'frames' needs windows between frames, got data.window.by={window.by}{of}; "
            "leave data.window.by out, or say data.target=events"
        )
    check_wanted(asked.wanted, window, config.augment)
    if "label" in asked.wanted:
        labels_of(collection)
    if target == "frames" and window.by == "time":
        window = window.model_copy(update={"by": "frames"})
    training, held_out = _split(collection, window, config.holdout, asked.wanted)
    whole = Path(str(config.path)).name
    curated, unreadable = None, {}
    if config.curate is not None:
        training, held_out, curated, unreadable = curate_windows(collection, config.curate, training, held_out, whole)

    def samples(windows: list[tuple[int, Window]], known: dict[str, str]) -> WindowSamples:
        return WindowSamples(
            collection,
            tuple(windows),
            window,
            asked.representation,
            asked.integral,
            asked.image_size,
            config.augment,
            None if target == "none" else target,
            config.difference,
            asked.teacher,
            asked.activity_patch,
            asked.wanted,
            asked.num_classes,
            known,
        )

    for kind in MAPS:
        for part in (training, held_out):
            if kind in asked.wanted and part:
                check_labels(collection, part, kind, asked.num_classes)
    made = samples(training, unreadable)
    if target == "frames":
        # Frames that do not fit are told before a run is begun, not by its first batch.
        first_readable(lambda n: _look(made, n), 0, len(made), made.problems)
    used = sorted({number for number, _ in training})
    entries = collection.entries
    identity = tuple(f"{entries[n].name or whole} {entries[n].fingerprint}" for n in used)
    later = window
    if window.by in ("frames", "frame"):
        usual_us = _typical_us(collection, training)
        later = window.model_copy(update={"by": "time", "track": "frames", "duration_us": usual_us})
    return Samples(made, samples(held_out, {}) if held_out else None, target, later, identity, curated=curated)


def _typical_us(collection: Collection, windows: list[tuple[int, Window]]) -> int:
    """Return the median length of windows, of a few where they have to be read for that."""
    if all(window.shorten is None for _, window in windows):
        return int(np.median([window.stop - window.start for _, window in windows]))
    few = [windows[i] for i in np.linspace(0, len(windows) - 1, min(len(windows), _READ_FOR_LENGTH)).astype(int)]
    spans = [read(collection.entries[number].recording, window).window for number, window in few]
    return int(np.median([stop - start for start, stop in filter(None, spans)]))


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


def _may_lie_between_frames(window: WindowConfig) -> bool:
    return window.by in ("time", "frames") and window.track == "frames"


def _split(
    collection: Collection, window: WindowConfig, holdout: float, wanted: tuple[str, ...]
) -> tuple[list[tuple[int, Window]], list[tuple[int, Window]]]:
    """Return (training, held-out) windows.

    Of many recordings some are held out, of few the end of each. Labels need something to choose the step by: where
    no recording has a second window, few recordings are held out like many.
    """
    with_before = "before" in wanted
    if len(collection.entries) < MANY or not holdout:
        training, held_out = cut_collection(collection, window, holdout, with_before)
        if held_out or not holdout or not wanted or len(training) < 2:
            return training, held_out
    windows, _ = cut_collection(collection, window, with_before=with_before)
    kept_out = chosen([entry.name for entry in collection.entries], holdout)
    training = [w for w in windows if w[0] not in kept_out]
    if not training:
        raise WindowError(
            f"no window is left to train on: {len(kept_out)} of {len(collection.entries)} recordings are held out and "
            "the others are empty; give more data, or data.holdout=0"
        )
    return training, [w for w in windows if w[0] in kept_out]


def _animated(
    source: Source,
    config: DataConfig,
    representation: Representation,
    image_size: tuple[int, int],
    teacher: TeacherInput | None,
    activity_patch: int | None,
) -> Samples:
    if config.target == "events":
        raise CollectionError("animated pictures are trained on the light before and after; leave data.target out")
    assert config.images is not None
    names = [path.relative_to(config.images).as_posix() for path in source.pictures]
    held = chosen(names, config.holdout) if round(config.holdout * len(names)) else set()
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
            None if config.target == "none" else config.difference,
            teacher,
            activity_patch,
        )

    if rest and not any(map(_is_readable, rest)):  # a run is not to end at its first look
        warnings.warn(f"nothing is held out: none of {len(rest)} pictures can be read, e.g. {rest[0]}", stacklevel=2)
        rest = ()
    identity = tuple(f"{path.name} {_key_or_word(path)}" for path in kept)
    window = config.window.model_copy(update={"by": "time", "duration_us": config.motion.duration_us})
    target = "none" if config.target == "none" else "frames"
    return Samples(samples(kept), samples(rest) if rest else None, target, window, identity)


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


def _mixed(source: Source, config: DataConfig, asked: _Asked) -> Samples:
    classes = {part.name: part.source.collection.classes for part in source.parts if part.source.collection}
    if "label" in asked.wanted and len(set(classes.values())) > 1:
        raise CollectionError(f"expected parts of data.sources with the same classes, got {classes}")
    unasked = [part.name for part in source.parts if part.source.collection is None]
    if config.curate is not None and 0 < len(unasked) < len(source.parts):
        warnings.warn(
            f"data.curate asks about recordings only: {', '.join(unasked)} are used as they are", stacklevel=3
        )
    else:
        unasked = []
    made = {
        part.name: build_samples(
            part.source,
            part.config.model_copy(update={"curate": None}) if part.name in unasked else part.config,
            *asked,
        )
        for part in source.parts
    }
    targets = {name: samples.target for name, samples in made.items()}
    if len(set(targets.values())) > 1:
        raise CollectionError(
            f"expected parts of data.sources with one kind of target, got {targets}; say data.target="
        )
    weights = tuple(part.weight for part in source.parts if part.weight is not None) or None
    held = {name: samples.held_out for name, samples in made.items() if samples.held_out is not None}
    first = next(iter(made.values()))
    return Samples(
        MixedSamples(tuple(samples.training for samples in made.values()), weights, tuple(made)),
        MixedSamples(tuple(held.values()), names=tuple(held)) if held else None,
        first.target,
        first.window,
        tuple(f"{name}/{item}" for name, samples in made.items() for item in samples.identity),
        "; ".join(dict.fromkeys(samples.coding for samples in made.values())),
        merged({name: samples.curated for name, samples in made.items()}),
    )
