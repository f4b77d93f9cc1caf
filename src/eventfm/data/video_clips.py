"""Clips of video files and folders of frames: events, and the frames they came from."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from itertools import chain, islice
from pathlib import Path

import numpy as np

from eventfm.data.clips import CorpusConfig, Entry, Filmed, Kind, draw_sensor, entries_of
from eventfm.data.spool import Spool
from eventfm.data.table import CollectionError
from eventfm.events import Sensor
from eventfm.random import generator
from eventfm.simulation.frame_folder import find_list, list_frames, natural_key
from eventfm.simulation.interpolation import Sampled, densified, find_interpolator
from eventfm.simulation.pixel import EventSimulator
from eventfm.simulation.sensor import SensorConfig
from eventfm.simulation.video import video_frames

VIDEOS = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".wmv", ".gif", ".y4m"}
)
_FRAMES_AT_ONCE = 8
_HASHED_BYTES = 1 << 22


def video_entries(source: str, config: CorpusConfig) -> tuple[Path, list[Entry]]:
    """Return the root and the clips of one video file, or of the videos in a folder and below.

    Raises:
        CollectionError: There is no video.
    """
    path = Path(source)
    if path.is_file():
        return path.parent, entries_of([path.name], config)
    found = videos_in(path)
    if not found:
        raise CollectionError(f"expected a video, or a folder of videos ({', '.join(sorted(VIDEOS))}), at {path}")
    return path, entries_of([file.relative_to(path).as_posix() for file in found], config)


def frames_entries(source: str, config: CorpusConfig) -> tuple[Path, list[Entry]]:
    """Return the root and the clips of one folder of frames, or of the folders in a folder that have a list of times.

    Raises:
        CollectionError: It is no folder.
    """
    path = Path(source)
    if not path.is_dir():
        raise CollectionError(f"expected a folder of frames at {path}")
    if config.video.fps is None and find_list(path) is None:
        inner = frame_folders_in(path)
        if inner:
            return path, entries_of([folder.name for folder in inner], config)
    whole = path.resolve()
    return whole.parent, entries_of([whole.name], config)


def film_entry(entry: Entry, root: Path, config: CorpusConfig, scratch: Path) -> Filmed:
    """Return a clip of a video or a folder of frames; its events and frames lie in `scratch` until they are stored.

    The track `frames` has the frames of the source, uint16 (H, W) in linear light, none that were made in between.

    Raises:
        FrameError: The video cannot be read, or its frames do not fit each other.
        CollectionError: It is not the one that the entry names.
    """
    path, video = root / entry.source, config.video
    digest = _hash_of(path, config)
    if entry.sha256 and digest != entry.sha256:
        raise CollectionError(f"{path} is another video than the manifest says (sha256 {digest[:12]}...)")
    rng = generator(config.seed, "clip", entry.source, entry.clip)
    clean = replace(SensorConfig.preset("clean"), seed=int(rng.integers(2**62)))
    sensor_config = draw_sensor(config.pixel, clean, rng)
    frames = video_frames(
        path,
        fps=video.fps,
        size=config.sensor and (config.sensor[1], config.sensor[0]),
        coding=video.coding,
        on_damage=video.on_damage,
    )
    interpolator = find_interpolator(video.interpolator) if video.interpolator else None
    sampled = densified(frames, interpolator, video.max_step_px, str(path))
    batches = _batches(sampled, _FRAMES_AT_ONCE)
    first = next(batches)
    height, width = first[0].frame.shape
    simulator = EventSimulator(height, width, sensor_config)
    frames_hz = config.frames_hz or math.inf
    start_us, last_slot = first[0].t_us - 1, -1.0  # a microsecond early: times are rounded
    with Spool(scratch, Sensor(width, height, name="simulated")) as spool:
        for batch in chain([first], batches):
            spool.add_events(simulator.push(np.stack([s.frame for s in batch]), np.array([s.t_us for s in batch])))
            for sample in batch if "frames" in config.tracks else ():
                slot = (sample.t_us - start_us) * frames_hz // 1e6
                if sample.is_source and (slot > last_slot or frames_hz == math.inf):
                    spool.add_frame(sample.t_us, sample.frame)
                    last_slot = slot
    return Filmed(spool.recording("simulated"), {"sha256": digest, "pixel": asdict(sensor_config)})


def videos_in(folder: Path) -> list[Path]:
    """Return the files in `folder` and below that are called as videos are, in natural order."""
    found = (file for file in folder.rglob("*") if file.suffix.lower() in VIDEOS and file.is_file())
    return sorted(found, key=lambda file: natural_key(str(file)))


def frame_folders_in(folder: Path) -> list[Path]:
    """Return the folders directly in `folder` that have a list of times, in natural order."""
    found = (inner for inner in folder.iterdir() if inner.is_dir() and find_list(inner) is not None)
    return sorted(found, key=lambda inner: natural_key(inner.name))


VIDEO_KIND = Kind(video_entries, film_entry, is_long=True)
FRAMES_KIND = Kind(frames_entries, film_entry, is_long=True)


def _batches(frames: Iterable[Sampled], count: int) -> Iterator[list[Sampled]]:
    frames = iter(frames)
    while batch := list(islice(frames, count)):
        yield batch


def _hash_of(path: Path, config: CorpusConfig) -> str:
    """Return a hash of a file, or of the times and pictures of a folder of frames."""
    digest = hashlib.sha256()
    if not path.is_dir():
        files = [path]
    else:
        times, files = list_frames(path, config.video.fps, config.video.on_damage)
        digest.update(repr(times).encode())
    for file in files:
        with file.open("rb") as opened:
            while part := opened.read(_HASHED_BYTES):
                digest.update(part)
    return digest.hexdigest()
