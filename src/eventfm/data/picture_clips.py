"""Clips of pictures set in motion: events, frames, and the flow that is known exactly."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eventfm.data.animate import MotionConfig, find_pictures, random_shot, read_picture
from eventfm.data.clips import CorpusConfig, Entry, Filmed, Kind, PixelConfig, clip_times, draw_sensor, entries_of
from eventfm.data.table import CollectionError
from eventfm.events import Sensor
from eventfm.io import ArrayRecording, ArrayTrack
from eventfm.protocols import Track
from eventfm.random import generator
from eventfm.simulation.motion import flow
from eventfm.simulation.paths import Path as MotionPath
from eventfm.simulation.render import Plane, fit, make_clip, render, seen
from eventfm.simulation.sensor import SensorConfig


def film_light(
    light: NDArray[np.float32],
    motion: MotionConfig,
    rng: np.random.Generator,
    pixel: PixelConfig | None = None,
    frames_hz: float | None = None,
    tracks: Collection[str] = ("frames",),
    enlarge: bool = True,
) -> tuple[ArrayRecording, SensorConfig]:
    """Return a recording of one picture under a motion and a sensor drawn from `rng`, and that sensor.

    Tracks: `frames`, uint16 (H, W) in linear light and clean, at both ends or `frames_hz`; of saccades, without a rate,
    at each turn. `flow`, float32 (2, H, W): where each pixel of a frame goes until the next, (dx, dy), one entry fewer;
    with it `valid`, uint8 (H, W): 1 where the pixel looks at the picture and stays on the sensor, so the flow is exact.

    Args:
        light: (H', W') linear luminance in [0, 1].
        motion: How it moves, and the size of the sensor.
        rng: From `eventfm.random.generator`.
        pixel: The sensor, if it is not to be drawn from `motion`.
        frames_hz: Rate of the frames; the end of the clip always has one.
        tracks: Which tracks to make: `frames`, `flow`.
        enlarge: Take pictures that have fewer pixels than the sensor too.

    Raises:
        ValueError: The picture is smaller than the sensor, and `enlarge` is not set.
    """
    sensor = Sensor(*motion.sensor, name="simulated")
    size = sensor.height, sensor.width
    path, config = random_shot(motion, sensor, rng)
    if pixel is not None:
        config = draw_sensor(pixel, config, rng)
    plane = fit(light, size, enlarge)
    clip = make_clip(plane, path, (0, motion.duration_us), size, config)
    times = clip_times(motion, frames_hz)
    made: dict[str, Track] = {}
    if "frames" in tracks:
        made["frames"] = ArrayTrack(times, render(plane, path, times, size))
    if "flow" in tracks:
        made |= _flow_tracks(plane, path, times)
    return ArrayRecording(replace(clip.events, sensor=sensor, window=None), made, "simulated"), config


def entries(source: str, config: CorpusConfig) -> tuple[Path, list[Entry]]:
    """Return the root and the clips of one picture, or of those in a folder and below, in order of name.

    Raises:
        CollectionError: There is no picture.
    """
    path = Path(source)
    if path.is_file():
        return path.parent, entries_of([path.name], config)
    if not path.is_dir():
        raise CollectionError(f"expected a picture or a folder of pictures at {path}, found nothing")
    return path, entries_of([found.relative_to(path).as_posix() for found in find_pictures(path)], config)


def film_entry(entry: Entry, root: Path, config: CorpusConfig, scratch: Path) -> Filmed:
    """Return a clip of a picture file; needs no scratch space.

    Raises:
        CollectionError: The file cannot be read as a picture, is black, or is not the one that the entry names.
        ValueError: The picture is smaller than the sensor, and `config.enlarge` is not set.
    """
    path = root / entry.source
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if entry.sha256 and digest != entry.sha256:
        raise CollectionError(f"{path} is another picture than the manifest says (sha256 {digest[:12]}...)")
    # The cache of `read_picture` would hold 32 pictures in each of many processes; a clip needs one.
    light = read_picture.__wrapped__(path)
    if not light.any():
        raise CollectionError(f"{path} is black all over: nothing of it could ever be seen")
    rng = generator(config.seed, "clip", entry.source, entry.clip)
    recording, sensor = film_light(
        light, config.motion, rng, config.pixel, config.frames_hz, config.tracks, config.enlarge
    )
    return Filmed(recording, {"sha256": digest, "pixel": asdict(sensor)})


PICTURE_KIND = Kind(entries, film_entry)


def _flow_tracks(plane: Plane, path: MotionPath, times: NDArray[np.int64]) -> dict[str, Track]:
    flows, valid = [], []
    for start, stop in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
        moved, stays = flow(path, start, stop, plane.size)
        flows.append(moved)
        valid.append((stays & seen(plane, path.at(start))).astype(np.uint8))
    return {"flow": ArrayTrack(times[:-1], flows), "valid": ArrayTrack(times[:-1], valid)}
