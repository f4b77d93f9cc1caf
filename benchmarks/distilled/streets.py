"""The pictures and events of the benchmark, made once in its folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distilled.settings import Settings
from eventfm.api import simulate_corpus
from eventfm.data.animate import MotionConfig, random_shot
from eventfm.data.build import DataConfig, TeacherInput, build_samples, open_source
from eventfm.data.loader import evaluation_batches
from eventfm.data.picture_clips import film_light
from eventfm.data.pictures import decode, resized
from eventfm.data.windows import WindowConfig
from eventfm.events import Sensor
from eventfm.io import save_recordings
from eventfm.protocols import Recording
from eventfm.random import generator
from eventfm.representations import EventVolume, VoxelGrid
from eventfm.simulation.light import coded, linear
from eventfm.simulation.render import Plane, fit, seen

SPLITS = ("train", "choice", "test")
"""What a probe learns from, what its penalty is chosen on, and what it is scored on."""
CLASSES = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "cyclist")
VOID = 11
EVERY = 5
"""In development every fifth training picture is for choosing a penalty."""


@dataclass(frozen=True)
class Filmed:
    """Windows of events of street pictures, with what was seen when they began."""

    inputs: Tensor
    """(N, 3, H, W) event volumes."""
    pictures: Tensor
    """(N, 3, H, W) frames in [0, 1]."""
    activity: Tensor
    """(N, rows, cols)."""
    labels: Tensor
    """(N, H, W) uint8, of the frames."""
    picture: Tensor
    """(N,) int64, which picture was filmed."""


def street(data: Path, settings: Settings) -> dict[str, list[tuple[Path, Path]]]:
    """Return picture and labels of each street picture of `SPLITS`."""
    root = data / "images" / "camvid"

    def pairs(split: str, most: int) -> list[tuple[Path, Path]]:
        pictures, labels = (sorted((root / split / part).iterdir()) for part in ("images", "labels"))
        assert [file.stem for file in pictures] == [file.stem for file in labels]
        return list(zip(pictures, labels, strict=True))[:most]

    train, choice = pairs("train", settings.num_street), pairs("val", settings.num_tests)
    if not settings.develop:
        return {"train": train, "choice": choice, "test": pairs("test", settings.num_tests)}
    learnt = [pair for number, pair in enumerate(train) if number % EVERY]
    return {"train": learnt, "choice": train[::EVERY], "test": choice}


def lay_out(data: Path, folder: Path, settings: Settings) -> None:
    """Copy what is learnt from without labels, training street pictures and photographs, into `folder`."""
    if (folder / "done").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    unlabelled = folder / "unlabelled"
    unlabelled.mkdir(parents=True)
    photographs = sorted((data / "images" / "imagenet_sample").iterdir())[: settings.num_photographs]
    for kind, files in (("street", [file for file, _ in street(data, settings)["train"]]), ("photograph", photographs)):
        for file in files:
            shutil.copy(file, unlabelled / f"{kind}_{file.name}")
    (folder / "done").touch()


def film(pictures: Path, folder: Path, settings: Settings) -> None:
    """Simulate the events of `pictures` to distil from."""
    simulate_corpus(
        pictures, folder, quiet=True, kind="pictures", label_by="none", seed=0, num_clips=settings.num_clips,
        sensor=settings.size[::-1], enlarge=True, tracks=("frames",), frames_hz=settings.frames_hz,
        motion=_motion(settings, settings.clip_us).model_dump(exclude={"sensor"}),
    )  # fmt: skip


def film_labelled(data: Path, folder: Path, settings: Settings) -> None:
    """Simulate windows of street pictures, with other seeds, and write them with their labels, a file a split."""
    for seed, (split, pairs) in enumerate(street(data, settings).items(), start=1):
        file = folder / f"{split}.pt"
        if not file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            windows = _filmed(pairs, folder / f"{split}.h5", seed, settings)
            torch.save(windows.__dict__, file.with_suffix(".new"))
            file.with_suffix(".new").replace(file)


def read_labelled(folder: Path) -> dict[str, Filmed]:
    """Return what `film_labelled` wrote, by split."""
    return {split: Filmed(**torch.load(folder / f"{split}.pt", weights_only=True)) for split in SPLITS}


def window(settings: Settings) -> dict[str, Any]:
    """Return the windows of all runs: from a frame on, until enough has happened."""
    return {
        "by": "frame", "length": "adaptive", "max_us": settings.window_us, "active_share": settings.active_share,
        "active_threshold": settings.active_threshold,
    }  # fmt: skip


def volume() -> EventVolume:
    """Return the representation of all runs, scaled as the teacher's pictures are."""
    return EventVolume(3, coding="imagenet")


def moved_labels(labels: NDArray[np.uint8], plane: Plane, h: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the labels (H, W) of what each pixel of the sensor looks at, with the plane moved by `h` from rest.

    `labels` (H', W') are those of the picture that `plane` was made from; beyond its edge is `VOID`.
    """
    height, width = plane.size
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    u, v, w = np.linalg.inv(h @ plane.to_sensor) @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    rows, columns = plane.light.shape
    # Samples of the plane are a resized picture's, whose outer corners are the picture's.
    column = np.floor((u / w + 0.5) * labels.shape[1] / columns).astype(np.int64).clip(0, labels.shape[1] - 1)
    row = np.floor((v / w + 0.5) * labels.shape[0] / rows).astype(np.int64).clip(0, labels.shape[0] - 1)
    found = labels[row, column].reshape(height, width)
    return np.where(seen(plane, h), found, VOID).astype(np.uint8)


def shown(file: Path, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return a picture in grey, sRGB in [0, 1], (H, W), of `size`, as a sensor of that shape sees it at rest."""
    return coded(resized(linear(decode(file)), size, size)[0]).astype(np.float32)


def read_labels(file: Path, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Return a map of classes (H, W), in its own size or, picked pixel by pixel, in `size` of the same shape."""
    import cv2

    labels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    if labels.ndim != 2 or labels.max() > VOID:
        raise ValueError(f"expected classes 0 to {VOID} (H, W) in {file}, got {labels.shape} up to {labels.max()}")
    return labels if size is None else cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)


def _motion(settings: Settings, duration_us: int) -> MotionConfig:
    return MotionConfig(
        sensor=settings.size[::-1], duration_us=duration_us, speed_px_s=settings.speed_px_s,
        threshold=settings.threshold, pause_probability=0,
    )  # fmt: skip


def _filmed(pairs: list[tuple[Path, Path]], store: Path, seed: int, settings: Settings) -> Filmed:
    motion, size = _motion(settings, settings.window_us), settings.size
    labels: list[NDArray[np.uint8]] = []

    def recordings() -> Iterator[tuple[str, Recording]]:
        for number in range(len(pairs) * settings.num_views):
            picture, truth = pairs[number // settings.num_views]
            light = linear(decode(picture))
            recording, _ = film_light(light, motion, generator(seed, "street", number))
            # The same draw once more, for the labels to move as the picture did.
            path, _ = random_shot(motion, Sensor(*motion.sensor), generator(seed, "street", number))
            labels.append(moved_labels(read_labels(truth), fit(light, size, True), path.at(0)))
            yield f"{number:04d}", recording

    save_recordings(store, recordings(), {"simulator": "eventfm"}, overwrite=True)
    config = DataConfig(path=str(store), target="none", holdout=0, window=WindowConfig(**window(settings)))
    samples = build_samples(
        open_source(config), config, volume(), VoxelGrid(1), size, TeacherInput(size), settings.patch
    ).training
    clips = torch.tensor([number for number, _ in samples.windows])
    if not torch.equal(clips, torch.arange(len(labels))):
        raise ValueError(f"expected one window of each of {len(labels)} clips, got those of {clips.tolist()}")
    batches = list(evaluation_batches(samples, 64))
    inputs, pictures, activity = (
        torch.cat([batch[key] for batch in batches]) for key in ("input", "teacher_picture", "activity")
    )
    return Filmed(inputs, pictures, activity, torch.from_numpy(np.stack(labels)), clips // settings.num_views)
