"""A corpus of seconds, simulated as a user would. As a script it is killed where it is told.

corpus_run.py SOURCE OUT NUM_WORKERS FAULT
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import eventfm

SETTINGS: dict[str, Any] = {
    "sensor": (32, 32),
    "motion.duration_us": 20_000,
    "pixel": "noisy",
    "num_clips": 2,
    "shard_clips": 3,
}


def write_pictures(folder: Path) -> Path:
    """Write six pictures of blocks."""
    folder.mkdir(parents=True)
    for number in range(6):
        blocks = np.random.default_rng(number).integers(0, 256, (9, 9, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.resize(blocks, (90, 90)))
    return folder


def simulate(source: Path, out: Path, workers: int = 0) -> Any:
    return eventfm.simulate_corpus(source, out, quiet=True, workers=workers, **SETTINGS)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(fault: str) -> None:
    from eventfm.data import picture_clips
    from eventfm.io import store

    if fault == "in_a_clip":
        plain, calls = picture_clips.make_clip, []

        def make(*arguments: Any) -> Any:
            calls.append(arguments)
            return kill() if len(calls) == 5 else plain(*arguments)

        picture_clips.make_clip = make
    elif fault == "in_a_write":
        write, writes = store.write_recording, []

        def write_and_die(*arguments: Any) -> None:
            write(*arguments)
            writes.append(arguments)
            if len(writes) == 5:
                kill()

        store.write_recording = write_and_die
    elif fault.startswith("before "):
        name, replace = fault.removeprefix("before "), os.replace
        os.replace = lambda source, target: kill() if Path(target).name == name else replace(source, target)
    elif fault != "none":
        raise SystemExit(f"unknown fault {fault}")


if __name__ == "__main__":
    arm(sys.argv[4])
    simulate(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
