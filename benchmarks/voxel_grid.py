"""Speed of the compiled voxel grid beside torch `index_add_` doing the same sums, in one run, on one thread.

    python benchmarks/voxel_grid.py

1 M events of a 640 x 480 sensor into 10 bins, once from moving edges (as a camera sees them) and once from uniform
noise, the worst case for the cache. The two contestants take turns, and the best of several rounds counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from eventfm.events import EventBatch, Events, Sensor
from eventfm.random import generator
from eventfm.representations import VoxelGrid

NUM_EVENTS = 1_000_000
NUM_BINS = 10
SENSOR = Sensor(640, 480)
ROUNDS = 15
TARGET = 2.5


def moving_edges(num_edges: int = 12) -> Events:
    """Return time-sorted events on vertical edges that drift to the right, two pixels thick."""
    rng = generator(0, "edges")
    t = np.sort(rng.integers(0, 50_000, NUM_EVENTS))
    edge = rng.integers(0, num_edges, NUM_EVENTS)
    start, speed = rng.uniform(0, SENSOR.width, num_edges), rng.uniform(200, 2000, num_edges)
    x = (start[edge] + speed[edge] * t * 1e-6 + rng.normal(0, 1, NUM_EVENTS)) % SENSOR.width
    y = rng.integers(0, SENSOR.height, NUM_EVENTS)
    return Events.checked(x.astype(np.uint16), y, t, edge % 2, SENSOR)


def uniform_noise() -> Events:
    """Return time-sorted events anywhere on the sensor."""
    rng = generator(0, "noise")
    t = np.sort(rng.integers(0, 50_000, NUM_EVENTS))
    x, y = rng.integers(0, SENSOR.width, NUM_EVENTS), rng.integers(0, SENSOR.height, NUM_EVENTS)
    return Events.checked(x, y, t, rng.integers(0, 2, NUM_EVENTS), SENSOR)


def index_add(x: torch.Tensor, y: torch.Tensor, t: torch.Tensor, sign: torch.Tensor, out: torch.Tensor) -> None:
    """Overwrite `out` (B, H, W) with the voxel grid; columns are ready tensors, nothing is converted here."""
    num_bins, height, width = out.shape
    position = (t - t[0]).float() * ((num_bins - 1) / max(int(t[-1] - t[0]), 1))
    i = position.long().clamp_(max=num_bins - 2)
    right = position - i
    cell = (i * height + y) * width + x
    flat = out.view(-1).zero_()
    flat.index_add_(0, cell, sign * (1 - right))
    flat.index_add_(0, cell + height * width, sign * right)


def best_of(contestants: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Return the best seconds of each contestant, run in turns after one warm-up."""
    best = dict.fromkeys(contestants, float("inf"))
    for run in contestants.values():
        run()
    for _ in range(ROUNDS):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def main() -> None:
    """Print one line per kind of events."""
    torch.set_num_threads(1)
    grid = VoxelGrid(NUM_BINS)
    for name, events in (("moving edges", moving_edges()), ("uniform noise", uniform_noise())):
        batch = EventBatch.collate([events])
        sign = 2 * batch.p.float() - 1
        ours = np.empty((NUM_BINS, SENSOR.height, SENSOR.width), np.float32)
        theirs = torch.empty(ours.shape)
        seconds = best_of(
            {
                "kernel": lambda events=events, out=ours: grid.accumulate(events, out),
                "torch": lambda batch=batch, sign=sign, out=theirs: index_add(batch.x, batch.y, batch.t, sign, out),
            }
        )
        difference = float(np.abs(ours - theirs.numpy()).max())
        if difference > 1e-3:
            raise SystemExit(f"{name}: the two grids differ by {difference}")
        ratio = seconds["torch"] / seconds["kernel"]
        print(
            f"{name:14s} kernel {NUM_EVENTS / seconds['kernel'] / 1e6:6.1f} M events/s, "
            f"torch index_add_ {NUM_EVENTS / seconds['torch'] / 1e6:6.1f} M events/s: "
            f"{ratio:.2f} times as fast (target {TARGET})"
        )


if __name__ == "__main__":
    main()
