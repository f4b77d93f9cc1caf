"""Clips of made worlds: events, frames, and flow, depth and classes that are known exactly."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path

from eventfm.data.animate import find_pictures, random_sensor, read_picture
from eventfm.data.clips import CorpusConfig, Entry, Filmed, Kind, clip_times, draw_sensor
from eventfm.events import Sensor
from eventfm.io import ArrayRecording, ArrayTrack
from eventfm.protocols import Track
from eventfm.random import generator
from eventfm.simulation.layers import composite
from eventfm.simulation.scene import CLASS_NAMES, Scene, film_scene, supervise_scene, view_scene
from eventfm.simulation.shapes import SHAPES
from eventfm.simulation.textures import Texture, texture_of
from eventfm.simulation.worlds import random_scene

_PARTS = ("train",) * 8 + ("val", "test")


def entries(source: str, config: CorpusConfig) -> tuple[Path, list[Entry]]:
    """Return `config.num_clips` worlds; of every ten (with one thing each: of every class) eight are for training.

    Worlds of one thing are labelled with its class, and every class comes as often.

    Raises:
        CollectionError: There are no pictures where `config.scene.pictures` says.
    """
    if config.scene.pictures is not None:
        find_pictures(Path(config.scene.pictures))
    labelled = config.scene.num_objects == (1, 1)
    names = config.scene.shapes if labelled else ("",)
    return Path("."), [
        Entry(
            f"scene-{number:06d}",
            clip=number,
            label=names[number % len(names)],
            split=_PARTS[number // len(names) % len(_PARTS)],
        )
        for number in range(config.num_clips)
    ]


def film_entry(entry: Entry, root: Path, config: CorpusConfig, scratch: Path) -> Filmed:
    """Return a clip of a world that depends on the seed and the entry's number and label alone."""
    width, height = config.sensor or config.motion.sensor
    rng = generator(config.seed, "scene", entry.clip)
    pictures = None if config.scene.pictures is None else _textures(config.scene.pictures)
    label = SHAPES.index(entry.label) if entry.label else None
    scene = random_scene(rng, config.scene.to_scene((height, width), config.motion.duration_us), pictures, label)
    sensor = draw_sensor(config.pixel, random_sensor(config.motion, rng), rng)
    events = replace(film_scene(scene, sensor).events, sensor=Sensor(width, height, name="simulated"), window=None)
    return Filmed(ArrayRecording(events, _tracks(scene, config), "simulated"), {"pixel": asdict(sensor)})


SCENE_KIND = Kind(entries, film_entry)


def _tracks(scene: Scene, config: CorpusConfig) -> dict[str, Track]:
    times = clip_times(config.motion, config.frames_hz)
    made: dict[str, Track] = {}
    if "frames" in config.tracks:
        made["frames"] = ArrayTrack(times, composite(scene.layers, times, scene.size))
    if "depth" in config.tracks or "semantic" in config.tracks:
        views = [view_scene(scene, t) for t in times.tolist()]
        names = {"depth": ("depth_m",), "semantic": ("semantic", "instance")}
        for track, fields in names.items():
            if track in config.tracks:
                for name in fields:
                    classes = CLASS_NAMES if name == "semantic" else ()
                    made[name.removesuffix("_m")] = ArrayTrack(times, [getattr(v, name) for v in views], classes)
    if "flow" in config.tracks:
        truths = [supervise_scene(scene, *pair) for pair in zip(times[:-1].tolist(), times[1:].tolist(), strict=True)]
        made["flow"] = ArrayTrack(times[:-1], [truth.flow for truth in truths])
        for name in ("valid", "occluded"):
            made[name] = ArrayTrack(times[:-1], [getattr(truth, name).astype("uint8") for truth in truths])
    return made


@lru_cache(maxsize=1)
def _textures(folder: str) -> tuple[Texture, ...]:
    return tuple(texture_of(read_picture.__wrapped__(path)) for path in find_pictures(Path(folder)))
