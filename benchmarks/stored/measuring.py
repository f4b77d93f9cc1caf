"""What a data set costs: to prepare, to open, and to read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from eventfm.data.collection import Collection
from eventfm.data.datasets.opening import locate
from eventfm.data.datasets.storing import store_dataset
from eventfm.data.loader import Loader
from eventfm.data.pairs import WindowSamples, cut_collection
from eventfm.data.pool import run_here, run_in_processes
from eventfm.data.transforms import AugmentConfig
from eventfm.data.windows import WindowConfig
from eventfm.io import open_recording
from eventfm.representations import VoxelGrid

ROUNDS = 3
BATCH = 32
_OPENED = 500


def prepared(name: str, folder: Path, out: Path, num_workers: int) -> dict[str, float]:
    """Prepare a data set; `samples_per_s` does not count the start of the processes, `seconds` does; 0 works here."""
    located = locate(name, folder)
    said: list[tuple[float, int]] = []

    def progress(num_done: int) -> None:
        said.append((time.perf_counter(), num_done))

    began = time.perf_counter()
    run = partial(run_in_processes, num_workers=num_workers) if num_workers else run_here
    made = store_dataset(located, out, run, progress=progress)
    seconds = time.perf_counter() - began
    if made.failed:
        raise SystemExit(f"could not prepare {made.failed}")
    first = next(number for number, (_, num_done) in enumerate(said) if num_done)
    (start, before), (stop, after) = said[first], said[-1]
    rate = (after - before) / (stop - start) if after > before else after / seconds
    size = sum(file.stat().st_size for file in out.glob("*.h5"))
    return {
        "seconds": seconds,
        "samples_per_s": rate,
        "files": len(list(out.glob("*.h5"))),
        "bytes_per_event": size / made.num_events,
    }


def opening_us(out: Path, collection: Collection) -> float:
    """Return the microseconds that it takes to open one prepared recording by its path, its file known already."""
    names = [str(out / entry.name) for entry in collection.entries[:_OPENED]]
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for name in names:
            open_recording(name)
        best = min(best, (time.perf_counter() - began) / len(names))
    return best * 1e6


def readings(
    folder: Collection, store: Collection, files: list[Path], load: Callable[[Path], Any], num_threads: int
) -> dict[str, float]:
    """Return samples per second of each way to read the same samples, the fastest of `ROUNDS` passes.

    `*_cut_s` are the seconds that it takes to cut the windows, once; a folder is opened through for that.
    """
    out: dict[str, float] = {}
    ways: dict[str, Callable[[], Iterable[Any]]] = {"plain": lambda: map(load, files)}
    for name, collection in (("folder", folder), ("store", store)):
        began = time.perf_counter()
        windows, _ = cut_collection(collection, WindowConfig(by="whole"))
        out[f"{name}_cut_s"] = time.perf_counter() - began
        ways[name] = partial(_read, collection)
        ways[f"{name}_loader"] = partial(_batches, collection, windows, num_threads)
    for _ in range(ROUNDS):
        for name, way in ways.items():
            began = time.perf_counter()
            for _ in way():
                pass
            out[name] = max(out.get(name, 0.0), len(files) / (time.perf_counter() - began))
    return out


def _read(collection: Collection) -> Iterable[Any]:
    for entry in collection.entries:
        yield entry.recording.events_by_index(0, entry.recording.num_events)


def _batches(collection: Collection, windows: list[Any], num_threads: int) -> Iterable[Any]:
    """Yield one pass of batches of two-bin grids at the size of the sensor, nothing drawn: little beyond reading."""
    size = collection.sensor.height, collection.sensor.width
    samples = WindowSamples(
        collection, tuple(windows), WindowConfig(by="whole"), VoxelGrid(2, "window"), VoxelGrid(1), size,
        AugmentConfig.none(),
    )  # fmt: skip
    count = len(windows)
    loader = Loader(samples, min(BATCH, count), 0, num_workers=num_threads)
    return islice(loader(0), -(-count // min(BATCH, count)))
