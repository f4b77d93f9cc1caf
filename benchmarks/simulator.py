"""Speed of the simulator, as ratios: to a plain numpy ESIM on the same frames, and to the machine's memory.

A pinned scene of dead leaves (640x480, 16-bit frames, smooth motion, one thread); ON and OFF thresholds both differ
from pixel to pixel. The numpy events must equal ours one by one, and a scalar oracle in fractions must agree on a
sample of pixels, or there is no table. Then: what each part of a sensor costs, and whole clips from a photograph.
Run: python benchmarks/simulator.py
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from math import ceil
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data

from eventfm.events import Events
from eventfm.random import generator
from eventfm.simulation import EventSimulator, SensorConfig, make_clip, random_planar_motion
from eventfm.simulation.maps import initial_distance, threshold_maps
from eventfm.simulation.motion import frame_times
from eventfm.simulation.render import render
from eventfm.simulation.response import brightness_table

SIZE = (480, 640)
NUM_FRAMES = 50
REPEATS = 7
BYTES_PER_PIXEL = 14
"""What one frame moves per pixel at least: the frame (2), the reference (4, twice over), a threshold (4)."""
SENSOR = SensorConfig(c_pos=0.2, c_neg=0.2, sigma=0.03)


def dead_leaves(size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a picture of discs that hide one another, radii by the law 1 / r^3, light even on a log scale."""
    picture = np.full((size, size), 0.2, np.float32)
    least, most = 4.0, size / 6
    for u, x, y, light in rng.uniform(size=(6000, 4)):
        radius = 1 / np.sqrt(least**-2 + u * (most**-2 - least**-2))
        centre = int(x * size), int(y * size)
        cv2.circle(picture, centre, int(radius), float(np.exp(np.log(0.02) * (1 - light))), thickness=-1)
    return picture


def numpy_events(frames: NDArray[np.uint16], t_us: NDArray[np.int64], config: SensorConfig) -> tuple[NDArray[Any], ...]:
    """Return x, y, t, p: whole-frame numpy operations, one pass per interval, a stable argsort for the order."""
    c_pos, c_neg = threshold_maps(config, *frames.shape[1:], 0)
    table = brightness_table(config)
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


def scalar_events(
    frames: NDArray[np.uint16], t_us: NDArray[np.int64], config: SensorConfig, y: int, x: int
) -> list[tuple[int, int]]:
    """Return (t, p) of one pixel, in exact fractions."""
    maps = threshold_maps(config, *frames.shape[1:], 0)
    c_pos, c_neg = (int(c[y, x]) for c in maps)
    table = brightness_table(config)
    level = int(table[frames[0, y, x]])
    reference = level - int(initial_distance(config, *maps, 0)[y, x])
    out = []
    for k in range(1, len(frames)):
        before, level = level, int(table[frames[k, y, x]])
        while level - reference >= c_pos or reference - level >= c_neg:
            reference += c_pos if level > reference else -c_neg
            share = Fraction(reference - before, level - before)
            out.append((int(t_us[k - 1]) + ceil(share * int(t_us[k] - t_us[k - 1])), int(level > before)))
    return out


def cpu_seconds(job: Callable[[], Any], repeats: int) -> float:
    """Return the least CPU time of one run."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        job()
        times.append(time.process_time() - start)
    return min(times)


def copy_bandwidth() -> float:
    """Return how many bytes per second one thread reads and writes when it copies memory."""
    source, target = np.ones(1 << 28, np.uint8), np.ones(1 << 28, np.uint8)
    return 2 * len(source) / cpu_seconds(lambda: np.copyto(target, source), REPEATS)


def check(frames: NDArray[np.uint16], t_us: NDArray[np.int64], ours: Events) -> None:
    """Stop unless the numpy implementation and the scalar oracle give our events."""
    theirs = numpy_events(frames, t_us, SENSOR)
    if not all(np.array_equal(getattr(ours, name), column) for name, column in zip("xytp", theirs, strict=True)):
        raise SystemExit("the numpy implementation disagrees: a ratio would mean nothing")
    for y, x in generator(0, "sample").integers((0, 0), SIZE, (100, 2)):
        here = (ours.x == x) & (ours.y == y)
        if scalar_events(frames, t_us, SENSOR, int(y), int(x)) != list(zip(ours.t[here], ours.p[here], strict=True)):
            raise SystemExit(f"the scalar oracle disagrees at pixel {x}, {y}: a ratio would mean nothing")


def detector_table() -> None:
    """Print the speed on given frames, sensor by sensor."""
    path = random_planar_motion(generator(0, "benchmark"), SIZE, 10**6, 270.0, pause_probability=0.0)
    t_us = np.arange(NUM_FRAMES, dtype=np.int64) * 1000
    frames = render(dead_leaves(1024, generator(0, "dead leaves")), path, t_us, SIZE)
    num_pixels = (NUM_FRAMES - 1) * SIZE[0] * SIZE[1]
    grid = np.zeros((5, *SIZE), np.float32)

    def job(config: SensorConfig, direct: bool = False) -> Callable[[], Any]:
        simulator = EventSimulator(*SIZE, config)

        def run() -> Any:
            simulator.reset()
            if direct:
                return simulator.add_to_voxel(frames, t_us, grid, (1, int(t_us[-1]) + 1))
            return simulator.push(frames, t_us)

        run()
        return run

    events = job(SENSOR)()
    if len(events) < 0.13 * num_pixels:
        raise SystemExit(f"expected a scene of 0.13 events/pixel/frame or more, got {len(events) / num_pixels:.3f}")
    check(frames, t_us, events)
    floor = cpu_seconds(lambda: numpy_events(frames, t_us, SENSOR), 2)
    bandwidth = copy_bandwidth()
    jobs = {
        "sorted events": job(SENSOR),
        "straight to voxels": job(SENSOR, direct=True),
        "leak, refractory": job(replace(SENSOR, leak_hz=0.1, refractory_us=500)),
        "low-pass": job(replace(SENSOR, cutoff_hz=200.0)),
        "low-pass of two poles": job(replace(SENSOR, cutoff_hz=200.0, poles=2)),
        "shot noise, hot pixels": job(replace(SENSOR, shot_hz=1.0, hot_fraction=1e-4)),
        "everything": job(replace(SensorConfig.preset("noisy"), sigma=0.03)),
    }
    print(
        f"{SIZE[1]}x{SIZE[0]}, {NUM_FRAMES} frames, {len(events) / num_pixels:.3f} events/pixel/frame, one thread; "
        f"memory copy {bandwidth / 1e9:.1f} GB/s (read and written)\n"
        f"{'':24s} plain numpy   of copy   Mpx/s   Mev/s"
    )
    print(f"{'plain numpy':24s} {1.0:10.1f}x {'':9s} {num_pixels / floor / 1e6:7.0f}")
    for name, run in jobs.items():
        seconds = cpu_seconds(run, REPEATS)
        found = run()
        num_events = len(events) if found is None else len(found)
        share = BYTES_PER_PIXEL * num_pixels / seconds / bandwidth
        print(
            f"{name:24s} {floor / seconds:10.1f}x   1/{1 / share:4.1f} {num_pixels / seconds / 1e6:9.0f}"
            f" {num_events / seconds / 1e6:7.1f}"
        )


def clip_table() -> None:
    """Print how many clips a second one core makes of a photograph, and where the time goes."""
    size, duration_us = (224, 224), 50_000
    picture = data.astronaut()
    speed = 100.0
    while True:  # as fast as 50 frames at half a pixel allow
        path = random_planar_motion(generator(3, "benchmark"), size, duration_us, speed, pause_probability=0.0)
        if len(frame_times(path, 0, duration_us, size)) >= 50:
            break
        speed *= 1.01
    grid = np.zeros((5, *size), np.float32)

    def rendered() -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
        times = frame_times(path, 0, duration_us, size)
        return render(picture, path, times, size), times

    def simulated(frames: NDArray[np.uint16], times: NDArray[np.int64]) -> None:
        EventSimulator(*size, SENSOR).add_to_voxel(frames, times, grid, (1, duration_us + 1))

    frames, times = rendered()
    simulated(frames, times)
    whole = cpu_seconds(lambda: simulated(*rendered()), 3 * REPEATS)
    part = cpu_seconds(rendered, 3 * REPEATS)
    clip = make_clip(picture, path, (0, duration_us), size, SENSOR)
    clips = cpu_seconds(lambda: make_clip(picture, path, (0, duration_us), size, SENSOR), 3 * REPEATS)
    density = len(clip.events) / frames[1:].size
    print(
        f"\nphotograph (512x512, RGB) -> {len(times)} frames of 224x224 at half a pixel ({speed:.0f} px/s, "
        f"{density:.3f} events/pixel/frame) -> voxels: {1 / whole:.0f} clips/s on one core, "
        f"{part / whole:.0%} of it rendering\n"
        f"the same to sorted events (make_clip): {1 / clips:.0f} clips/s"
    )


if __name__ == "__main__":
    cv2.setNumThreads(1)
    detector_table()
    clip_table()
