"""Speed of the simulator beside a plain vectorised numpy implementation of the same change detector.

Both turn the same 640x480 16-bit frames of a photograph under smooth motion into the same sorted events, on one thread.
Run: python benchmarks/simulator.py
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data

from eventfm.random import generator
from eventfm.simulation import EventSimulator, SensorConfig, linear, random_planar_motion
from eventfm.simulation.render import render
from eventfm.simulation.sensor import brightness_table, initial_distance, threshold_maps

SIZE = (480, 640)
NUM_FRAMES = 24
REPEATS = 5


def numpy_events(frames: NDArray[np.uint16], t_us: NDArray[np.int64], config: SensorConfig) -> tuple[NDArray[Any], ...]:
    """Return x, y, t, p: whole-frame numpy operations, one pass per interval, a stable argsort for the order."""
    c_pos, c_neg = threshold_maps(config, *frames.shape[1:], 0)
    table = brightness_table(config, 65536)
    level = table[frames[0]]
    reference = level - initial_distance(config, c_pos, c_neg, 0)
    parts = []
    for k in range(1, len(frames)):
        level0, level = level, table[frames[k]]
        above = level - reference
        count = np.where(above > 0, above // c_pos, -(-above // c_neg))
        y, x = np.nonzero(count)
        n = count[y, x]
        threshold = np.where(n > 0, c_pos[y, x], c_neg[y, x]).astype(np.int64)
        sign, n = np.sign(n), np.abs(n)
        d0 = sign * (level0[y, x] - reference[y, x])
        rise = sign * (level[y, x] - level0[y, x])
        reference[y, x] += sign * n * threshold
        which = np.repeat(np.arange(len(n)), n)
        nth = np.arange(len(which)) - np.repeat(np.cumsum(n) - n, n) + 1
        duration = t_us[k] - t_us[k - 1]
        t = t_us[k - 1] - (-(nth * threshold[which] - d0[which]) * duration // rise[which])
        order = np.argsort(t, kind="stable")
        which = which[order]
        parts.append((x[which].astype(np.uint16), y[which].astype(np.uint16), t[order], (sign[which] > 0)))
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def cpu_seconds(job: Callable[[], Any], repeats: int) -> float:
    """Return the least CPU time of one run."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        job()
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    """Print the ratios."""
    cv2.setNumThreads(1)
    path = random_planar_motion(generator(0, "benchmark"), SIZE, 10**6, 250.0, pause_probability=0.0)
    t_us = np.arange(NUM_FRAMES, dtype=np.int64) * 1000
    frames = render(linear(data.astronaut()), path, t_us, SIZE)
    config = SensorConfig(c_pos=0.2, c_neg=0.2, sigma=0.03)
    simulator = EventSimulator(*SIZE, config)

    def events() -> Any:
        simulator.reset()
        return simulator.push(frames, t_us)

    grid = np.zeros((5, *SIZE), np.float32)

    def voxel() -> None:
        simulator.reset()
        simulator.add_to_voxel(frames, t_us, grid, (1, int(t_us[-1]) + 1))

    ours, theirs = events(), numpy_events(frames, t_us, config)
    same = all(np.array_equal(getattr(ours, name), column) for name, column in zip("xytp", theirs, strict=True))
    if not same:
        raise SystemExit("the two implementations disagree: the ratio would mean nothing")
    voxel()
    num_pixels = (NUM_FRAMES - 1) * SIZE[0] * SIZE[1]
    floor = cpu_seconds(lambda: numpy_events(frames, t_us, config), 2)
    print(f"{SIZE[1]}x{SIZE[0]}, {NUM_FRAMES} frames, {len(ours) / num_pixels:.3f} events/pixel/frame, one thread")
    jobs = {
        "eventfm, sorted events": cpu_seconds(events, REPEATS),
        "eventfm, straight to voxels": cpu_seconds(voxel, REPEATS),
    }
    for name, seconds in {"plain numpy, sorted events": floor, **jobs}.items():
        rates = f"{num_pixels / seconds / 1e6:6.1f} Mpx/s  {len(ours) / seconds / 1e6:5.1f} Mev/s"
        print(f"{name:27s}  {floor / seconds:5.1f}x   {rates}")


if __name__ == "__main__":
    main()
