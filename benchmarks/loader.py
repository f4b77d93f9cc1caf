"""Speed of the loader beside a PyTorch `Dataset` with default collation, in one run, on the same samples.

    python benchmarks/loader.py

64 windows of 50 k to 200 k events of a 640 x 480 sensor, held in memory, as 10-bin voxel grids, randomly cropped to at
least 80 % of the largest square, resized to 224 x 224 and flipped, in batches of 16. The peer does what published code
does: voxelise the frame (with the same compiled kernel), crop and resize the grid, let the DataLoader stack. Ours crops
and resizes the events and writes into the batch; no event is lost on the way.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from eventfm.data.collection import Collection, Entry
from eventfm.data.loader import Loader
from eventfm.data.pairs import WindowSamples
from eventfm.data.transforms import AugmentConfig, draw
from eventfm.data.windows import Window, WindowConfig
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording
from eventfm.random import generator
from eventfm.representations import VoxelGrid

SENSOR = Sensor(640, 480)
SIZE = (224, 224)
NUM_SAMPLES, BATCH, ROUNDS, BATCHES = 64, 16, 5, 8
AUGMENT = AugmentConfig(crop_min=0.8, flip=0.5, erase=0.0, add=0.0)
GRID = VoxelGrid(10, "window")
TARGET = 3.0


def recording(number: int) -> ArrayRecording:
    """Return 50 ms of events on vertical edges that drift to the right."""
    rng = generator(0, "loader benchmark", number)
    count = int(rng.integers(50_000, 200_000))
    t = np.sort(rng.integers(0, 50_000, count))
    edge = rng.integers(0, 12, count)
    start, speed = rng.uniform(0, SENSOR.width, 12), rng.uniform(200, 2000, 12)
    x = (start[edge] + speed[edge] * t * 1e-6 + rng.normal(0, 1, count)) % SENSOR.width
    return ArrayRecording(Events.checked(x.astype(np.uint16), rng.integers(0, 480, count), t, edge % 2, SENSOR))


class Plain(Dataset[torch.Tensor]):
    """One window at a time: the whole frame as a grid, then a random crop and flip of it, resized to nearest."""

    def __init__(self, recordings: list[ArrayRecording]) -> None:
        self.recordings = recordings

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, index: int) -> torch.Tensor:
        grid = GRID(self.recordings[index].events(0, 50_000))
        geometry = draw(SENSOR, SIZE, AUGMENT, np.random.default_rng())
        crop = grid[:, geometry.top : geometry.top + geometry.height, geometry.left : geometry.left + geometry.width]
        crop = crop.flip(2) if geometry.flip else crop
        return torch.nn.functional.interpolate(crop[None], SIZE, mode="nearest")[0]


def rate(batches: Iterable[Any]) -> float:
    """Return samples per second over `BATCHES` batches, the first one not counted."""
    source = iter(batches)
    next(source)
    started = time.perf_counter()
    for _ in islice(source, BATCHES):
        pass
    return BATCHES * BATCH / (time.perf_counter() - started)


def endless(loader: DataLoader[torch.Tensor]) -> Iterable[torch.Tensor]:
    """Yield batches pass after pass."""
    while True:
        yield from loader


def main() -> None:
    """Print samples per second of both, and the ratio."""
    torch.set_num_threads(1)
    cores = len(os.sched_getaffinity(0))
    recordings = [recording(i) for i in range(NUM_SAMPLES)]
    collection = Collection(tuple(Entry(str(i), r) for i, r in enumerate(recordings)))
    windows = tuple((i, Window(0, 50_000)) for i in range(NUM_SAMPLES))
    samples = WindowSamples(collection, windows, WindowConfig(jitter=False), GRID, VoxelGrid(1), SIZE, AUGMENT)
    plain = Plain(recordings)
    contestants = {
        "Dataset + default collate, in process": lambda: endless(
            DataLoader(plain, BATCH, shuffle=True, drop_last=True)
        ),
        f"Dataset + default collate, {cores} processes": lambda: endless(
            DataLoader(plain, BATCH, shuffle=True, drop_last=True, num_workers=cores, persistent_workers=True)
        ),
        "eventfm loader, in process": lambda: Loader(samples, BATCH, 0)(0),
        f"eventfm loader, {cores} threads": lambda: Loader(samples, BATCH, 0, num_workers=cores)(0),
    }
    best = dict.fromkeys(contestants, 0.0)
    for _ in range(ROUNDS):
        for name, make in contestants.items():
            best[name] = max(best[name], rate(make()))
    for name, value in best.items():
        print(f"{name:45} {value:8.0f} samples/s")
    peer = max(value for name, value in best.items() if name.startswith("Dataset"))
    ours = max(value for name, value in best.items() if name.startswith("eventfm"))
    print(f"ratio of the best of each: {ours / peer:.2f} (target {TARGET})")


if __name__ == "__main__":
    main()
