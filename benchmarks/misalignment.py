"""How well the misalignment score tells frames that belong to their events from displaced and mistimed ones.

Every window is scored three times: as it is, with its events displaced by 2 to 20 px in a random direction, and with
events from 5 to 50 ms earlier or later, all drawn evenly. Printed is the area under the ROC curve by source. A frame
that is mistimed by less than about 2 px of motion is as good as aligned, so where the motion is known it is also
printed by how far the picture moved. Simulated: photographs moved at random in front of a random sensor, half of them
noisy, and made worlds with depth. Real: the folder `pairs` in EVENTFM_TEST_DATA, where it is set, but for its MVSEC
windows: they have 0.002 events per pixel, and curation leaves them out.
Run: python benchmarks/misalignment.py [--clips N]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data

from eventfm.data.animate import MotionConfig, random_shot
from eventfm.data.clips import CorpusConfig, Entry
from eventfm.data.misalignment import misalignment
from eventfm.data.scene_clips import film_entry
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, ArrayTrack, open_recording
from eventfm.protocols import Recording
from eventfm.random import generator
from eventfm.simulation.light import linear
from eventfm.simulation.render import make_clip, render

SENSOR = Sensor(240, 180)
CLIP_US = 200_000
SIMULATED_US = (30_000,)
REAL_US = (20_000, 30_000, 50_000)
"""Lengths of windows; there are few real frames, so each gets several."""
FEWEST_PER_PIXEL = 0.01
"""Windows with fewer events are left out, as curation does."""
WINDOWS_PER_CLIP = 2


@dataclass(frozen=True, eq=False)
class Trial:
    """A window, and what was wrong with it; `moved_px` is what a wrong time displaced, where it is known."""

    source: str
    fault: str
    events: Events
    frame: NDArray[Any]
    frame_us: int
    moved_px: float = float("nan")
    late_us: int = 0


def sources(clips: int) -> Iterator[tuple[str, Recording, Any]]:
    """Yield (name, recording with frames, path of the picture or None)."""
    root = os.environ.get("EVENTFM_TEST_DATA")
    for name in ("slider_depth", "davis346_street.aedat4", "davis346_arm.aedat4") if root else ():
        yield name.split(".")[0], open_recording(Path(str(root)) / "pairs" / name), None
    size = SENSOR.height, SENSOR.width
    pictures = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket(), data.camera()]
    motion = MotionConfig(sensor=(SENSOR.width, SENSOR.height), duration_us=CLIP_US, noise_probability=0.5)
    for number in range(clips):
        light = linear(pictures[number % len(pictures)])
        path, config = random_shot(motion, SENSOR, generator(0, "misalignment", number))
        times = np.arange(0, CLIP_US + 1, 50_000)
        events = make_clip(light, path, (0, CLIP_US), size, config, enlarge=True).events
        frames = render(light, path, times, size, enlarge=True)
        yield "moved pictures", ArrayRecording(events, {"frames": ArrayTrack(times, frames)}), path
    values = {"sensor": [SENSOR.width, SENSOR.height], "motion": {"duration_us": CLIP_US}, "frames_hz": 20.0}
    worlds = CorpusConfig.model_validate({"seed": 11, **values})
    for number in range(clips):
        with tempfile.TemporaryDirectory() as scratch:
            yield "worlds", film_entry(Entry("", clip=number), Path("."), worlds, Path(scratch)).recording, None


def trials(name: str, recording: Recording, path: Any, rng: np.random.Generator) -> Iterator[Trial]:
    """Yield windows that start or end with a frame: aligned, displaced, and mistimed where the recording reaches."""
    first, last = recording.t_range
    times = recording.tracks["frames"].times
    is_simulated = path is not None or name == "worlds"
    lengths = SIMULATED_US if is_simulated else REAL_US
    windows = [(i, int(t) - back, n) for i, t in enumerate(times) for n in lengths for back in (0, n)]
    windows = [(i, t, n) for i, t, n in windows if first - 1000 <= t and t + n <= last + 1000]
    if is_simulated:
        windows = [windows[i] for i in rng.choice(len(windows), min(len(windows), WINDOWS_PER_CLIP), replace=False)]
    for i, start, length in windows:
        events, frame, taken = recording.events(start, start + length), recording.tracks["frames"].read(i), times[i]
        if len(events) < FEWEST_PER_PIXEL * recording.sensor.width * recording.sensor.height:
            continue
        yield Trial(name, "none", events, frame, int(taken))
        angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(2, 20)
        shift = np.rint(distance * np.array([np.cos(angle), np.sin(angle)])).astype(int)
        yield Trial(name, "displaced", displaced(events, *shift), frame, int(taken))
        late, sign = int(rng.uniform(5_000, 50_000)), int(rng.choice([-1, 1]))
        for offset in (sign * late, -sign * late):
            if first - 1000 <= start + offset and start + offset + length <= last + 1000:
                moved = np.nan if path is None else motion_px(path, int(taken), int(taken) + offset)
                other = recording.events(start + offset, start + offset + length)
                yield Trial(name, "mistimed", other, frame, int(taken) + offset, moved, offset)
                break


def displaced(events: Events, dx: int, dy: int) -> Events:
    """Return the events moved by whole pixels, without those that leave the sensor."""
    x, y = events.x.astype(int) + dx, events.y.astype(int) + dy
    kept = (x >= 0) & (x < events.sensor.width) & (y >= 0) & (y < events.sensor.height)
    columns = x[kept].astype(np.uint16), y[kept].astype(np.uint16), events.t[kept], events.p[kept]
    return replace(Events(*columns, events.sensor), window=events.window)


def motion_px(path: Any, t0: int, t1: int) -> float:
    """Return how far the middle of the picture moves between two times."""
    middle = np.array([(SENSOR.width - 1) / 2, (SENSOR.height - 1) / 2, 1])
    at = [path.at(t) @ middle for t in (t0, t1)]
    return float(np.hypot(*(at[1][:2] / at[1][2] - at[0][:2] / at[0][2])))


def area_under_curve(negative: list[float], positive: list[float]) -> float:
    """Return the chance that a positive scores above a negative, ties counted half."""
    difference = np.asarray(positive)[:, None] - np.asarray(negative)[None]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=40, help="simulated clips of either kind")
    rng, scored, told, seconds = generator(0, "trials"), [], [], 0.0
    for name, recording, path in sources(parser.parse_args().clips):
        for trial in trials(name, recording, path, rng):
            if not scored:
                misalignment(trial.events, trial.frame, trial.frame_us)  # compiles
            started = time.process_time()
            found = misalignment(trial.events, trial.frame, trial.frame_us)
            seconds += time.process_time() - started
            told.append((trial.fault, trial.late_us, found.offset_us))
            scored.append((trial.source, trial.fault, found.score, trial.moved_px))
    names = [*dict.fromkeys(source for source, *_ in scored), "all"]
    print(f"{'source':18s} windows  displaced  mistimed   either   aligned kept   faulty dropped")
    for name in names:
        of = {
            f: [s[2] for s in scored if s[1] == f and name in (s[0], "all")] for f in ("none", "displaced", "mistimed")
        }
        faulty = of["displaced"] + of["mistimed"]
        curves = [area_under_curve(of["none"], part) for part in (of["displaced"], of["mistimed"], faulty)]
        print(
            f"{name:18s} {len(of['none']):7d} {curves[0]:10.3f} {curves[1]:9.3f} {curves[2]:8.3f} "
            f"{np.mean(np.array(of['none']) <= 0):14.2f} {np.mean(np.array(faulty) > 0):16.2f}"
        )
    aligned = [s[2] for s in scored if s[:2] == ("moved pictures", "none")]
    print("\nmistimed moved pictures, by how far they moved meanwhile")
    for low, high in ((0, 1), (1, 2), (2, 4), (4, 8), (8, np.inf)):
        part = [s[2] for s in scored if s[1] == "mistimed" and low <= s[3] < high]
        if part:
            print(f"{low:g} to {high:g} px: {len(part):4d} windows, {area_under_curve(aligned, part):.3f}")
    for fault in ("none", "displaced", "mistimed"):
        named = [t for t in told if t[0] == fault and t[2] is not None]
        print(f"{fault}: a wrong time is named for {len(named) / sum(t[0] == fault for t in told):.0%}", end="; ")
    right = np.mean([np.sign(t[1]) == np.sign(t[2]) for t in named])
    error = np.median([abs(t[1] - t[2]) for t in named])
    print(f"of these last {right:.0%} with the right sign, by {error / 1000:.1f} ms off (median)")
    print(f"\n{1000 * seconds / len(scored):.0f} ms per pair, one thread")


if __name__ == "__main__":
    cv2.setNumThreads(1)
    main()
