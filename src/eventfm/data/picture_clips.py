"""Clips of pictures set in motion: events, frames, and the flow that is known exactly."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventfm.data.animate import MotionConfig, find_pictures, random_shot, read_picture
from eventfm.data.clips import CorpusConfig, Entry, Filmed, Kind, PixelConfig, clip_times, draw_sensor, entries_of
from eventfm.data.table import CollectionError
from eventfm.data.targets import NOT_LABELLED
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
    mask: NDArray[np.uint8] | None = None,
    classes: tuple[str, ...] = (),
) -> tuple[ArrayRecording, SensorConfig]:
    """Return a recording of one picture under a motion and a sensor drawn from `rng`, and that sensor.

    Tracks: `frames`, uint16 (H, W) in linear light and clean, at both ends or `frames_hz`; of saccades, without a rate,
    at each turn. `flow`, float32 (2, H, W): where each pixel of a frame goes until the next, (dx, dy), one entry fewer;
    with it `valid`, uint8 (H, W): 1 where the pixel looks at the picture and stays on the sensor, so the flow is exact.
    `semantic`, uint8 (H, W), of a `mask`: the class of what each pixel of a frame looks at, 255 beyond the picture.

    Args:
        light: (H', W') linear luminance in [0, 1].
        motion: How it moves, and the size of the sensor.
        rng: From `eventfm.random.generator`.
        pixel: The sensor, if it is not to be drawn from `motion`.
        frames_hz: Rate of the frames; the end of the clip always has one.
        tracks: Which tracks to make: `frames`, `flow`, `semantic`.
        enlarge: Take pictures that have fewer pixels than the sensor too.
        mask: (H', W') the class of each pixel of the picture.
        classes: Their names, by number, where they have such.

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
    if "semantic" in tracks and mask is not None:
        made["semantic"] = ArrayTrack(times, [moved_mask(mask, plane, path.at(t)) for t in times.tolist()], classes)
    return ArrayRecording(replace(clip.events, sensor=sensor, window=None), made, "simulated"), config


def entries(source: str, config: CorpusConfig) -> tuple[Path, list[Entry]]:
    """Return the root and the clips of one picture, or of those in a folder and below, in order of name.

    Raises:
        CollectionError: There is no picture, or masks are asked for and one of them has none.
    """
    path = Path(source)
    if not path.exists():
        raise CollectionError(f"expected a picture or a folder of pictures at {path}, found nothing")
    root, pictures = (path, find_pictures(path)) if path.is_dir() else (path.parent, [path])
    names = [picture.relative_to(root).as_posix() for picture in pictures]
    if config.masks is not None and (bare := [n for n in names if not _mask_of(n, config.masks).is_file()]):
        raise CollectionError(
            f"{len(bare)} of {len(names)} pictures have no mask: expected that of {bare[0]} at "
            f"{_mask_of(bare[0], config.masks)}"
        )
    return root, entries_of(names, config)


def film_entry(entry: Entry, root: Path, config: CorpusConfig, scratch: Path) -> Filmed:
    """Return a clip of a picture file; needs no scratch space.

    Raises:
        CollectionError: The file cannot be read as a picture, is black, or is not the one that the entry names; or its
            mask is none.
        ValueError: The picture is smaller than the sensor, and `config.enlarge` is not set.
    """
    path = root / entry.source
    files = [path] if config.masks is None else [path, _mask_of(entry.source, config.masks)]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    if entry.sha256 and digest != entry.sha256:
        kind = "picture" if config.masks is None else "picture, or has another mask,"
        raise CollectionError(f"{path} is another {kind} than the manifest says (sha256 {digest[:12]}...)")
    # The cache of `read_picture` would hold 32 pictures in each of many processes; a clip needs one.
    light = read_picture.__wrapped__(path)
    if not light.any():
        raise CollectionError(f"{path} is black all over: nothing of it could ever be seen")
    mask = None if config.masks is None else _read_mask(files[1], light.shape)
    classes = () if config.masks is None else _classes_of(config.masks)
    rng = generator(config.seed, "clip", entry.source, entry.clip)
    recording, sensor = film_light(
        light, config.motion, rng, config.pixel, config.frames_hz, config.tracks, config.enlarge, mask, classes
    )
    return Filmed(recording, {"sha256": digest, "pixel": asdict(sensor)})


PICTURE_KIND = Kind(entries, film_entry)


def moved_mask(mask: NDArray[np.uint8], plane: Plane, h: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the class (H, W) of what each pixel of the sensor looks at, with the plane moved by `h` from rest.

    `mask` (H', W') has the classes of the picture that `plane` was made from; beyond its edge is 255. A pixel looks at
    many of the picture's, and has the class of the one in the middle.
    """
    height, width = plane.size
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    u, v, depth = np.linalg.inv(h @ plane.to_sensor) @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    visible = seen(plane, h).ravel()
    out = np.full(visible.shape, NOT_LABELLED, np.uint8)
    # Samples of the plane are those of the resized picture: both have the same outer corners.
    rows, columns = (
        np.minimum((place[visible] / depth[visible] + 0.5) * extent // samples, extent - 1).astype(np.int64)
        for place, extent, samples in zip((v, u), mask.shape, plane.light.shape, strict=True)
    )
    out[visible] = mask[rows, columns]
    return out.reshape(plane.size)


def _mask_of(picture: str, masks: str) -> Path:
    return (Path(masks) / picture).with_suffix(".png")


def _classes_of(masks: str) -> tuple[str, ...]:
    """Return the names in `classes.txt` among the masks, where there is such a file: one a line, from class 0 on."""
    file = Path(masks) / "classes.txt"
    if not file.is_file():
        return ()
    return tuple(line.strip() for line in file.read_text(encoding="utf-8").strip().splitlines())


def _read_mask(path: Path, size: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the classes (H, W) in a picture file, of which `size` is expected.

    Raises:
        CollectionError: It cannot be read, has another size, or is no picture of one number from 0 to 255 a pixel.
    """
    from PIL import Image  # which leaves the numbers of a palette alone

    try:
        with Image.open(path) as picture:
            mask: NDArray[Any] = np.asarray(picture)
    except (OSError, SyntaxError) as error:
        raise CollectionError(f"{path} cannot be read as a mask: {error}") from error
    if mask.ndim != 2 or mask.dtype.kind not in "iu" or mask.min() < 0 or mask.max() > NOT_LABELLED:
        raise CollectionError(
            f"expected a mask in {path} with one class a pixel, from 0 to {NOT_LABELLED - 1}, or {NOT_LABELLED} for "
            f"none, got {mask.dtype} of shape {mask.shape}, from {mask.min()} to {mask.max()}"
        )
    if mask.shape != size:
        raise CollectionError(
            f"expected a mask as large as its picture, {size[1]}x{size[0]} pixels, got {mask.shape[1]}x{mask.shape[0]} "
            f"in {path}"
        )
    return mask.astype(np.uint8)


def _flow_tracks(plane: Plane, path: MotionPath, times: NDArray[np.int64]) -> dict[str, Track]:
    flows, valid = [], []
    for start, stop in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
        moved, stays = flow(path, start, stop, plane.size)
        flows.append(moved)
        valid.append((stays & seen(plane, path.at(start))).astype(np.uint8))
    return {"flow": ArrayTrack(times[:-1], flows), "valid": ArrayTrack(times[:-1], valid)}
