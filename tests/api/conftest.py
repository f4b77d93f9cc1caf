"""Tiny corpora and runs for the tests of the verbs."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eventfm.api.pretraining import RunResult, pretrain
from eventfm.api.simulating import simulate_corpus
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, ArrayTrack, save_recordings

SMALL: dict[str, Any] = {
    "method.backbone.name": "vit_nano",
    "method.decoder": {"dim": 32, "depth": 1, "num_heads": 2},
    "data.window.duration_us": 10_000,
    "train": {"num_steps": 6, "batch_size": 4, "log_every": 2, "save_every": 3, "device": "cpu"},
}
"""Settings under which a run takes about a second."""


def bar(seed: int, label: int, num_bars: int = 4, frames: bool = True) -> ArrayRecording:
    """Return ON events of bars that grow from the left (label 0) or downwards (label 1), with frames each 10 ms."""
    rng = np.random.default_rng(seed)
    count, duration_us = 400 * num_bars, 10_000 * num_bars
    t = np.sort(rng.integers(1, duration_us + 1, count))
    along = (t - 1) % 10_000 * 32 // 10_000
    across = rng.integers(4, 28, count)
    x, y = (across, along) if label else (along, across)
    events = Events.checked(x, y, t, rng.random(count) < 0.8, Sensor(32, 32))
    pictures = rng.integers(0, 256, (num_bars + 1, 32, 32)).astype(np.uint8)
    track = {"frames": ArrayTrack(np.arange(num_bars + 1) * 10_000, pictures)}
    return ArrayRecording(events, track if frames else {})


def write_store(path: Path, count: int, **kind: Any) -> Path:
    return save_recordings(path, {f"r{n:02d}": bar(n, n % 2, **kind) for n in range(count)})


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store of 12 recordings of two classes, with frames."""
    return write_store(tmp_path_factory.mktemp("store") / "bars.h5", 12)


@pytest.fixture(scope="session")
def write() -> Callable[..., Path]:
    """Return the function that writes a store of `count` recordings."""
    return write_store


@pytest.fixture(scope="session")
def table(store: Path) -> Path:
    """Return the labels of the store, with the splits train and test and three folds."""
    path = store.with_name("labels.csv")
    rows = [f"r{n:02d},{'down' if n % 2 else 'right'},{'test' if n >= 8 else 'train'},{n // 4}" for n in range(12)]
    path.write_text("\n".join(["path,label,split,fold", *rows]) + "\n")
    return path


@pytest.fixture(scope="session")
def run() -> Callable[..., RunResult]:
    """Return the function that makes a small run: `run(data, out, **overrides)`."""

    def start(data: Any, out: Path, **overrides: Any) -> RunResult:
        source = {"data.path": data} if data else {}
        return pretrain("difference-vit-tiny", **{**SMALL, **source, "out": out, **overrides})

    return start


@pytest.fixture(scope="session")
def trained(
    store: Path, table: Path, run: Callable[..., RunResult], tmp_path_factory: pytest.TempPathFactory
) -> RunResult:
    """Return a run on the recordings of the split train."""
    out = tmp_path_factory.mktemp("runs") / "ours"
    return run(store, out, **{"data.labels": table, "data.split": "train"})


@pytest.fixture(scope="session")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a corpus of labelled worlds of one thing each, in the splits train, val and test."""
    folder = tmp_path_factory.mktemp("worlds") / "corpus"
    simulate_corpus(
        "scenes", folder, quiet=True, num_clips=20, seed=3, sensor=(32, 32), frames_hz=100,
        motion={"duration_us": 60_000}, tracks=("frames", "flow", "depth", "semantic"),
        scene={"num_objects": (1, 1)}, workers=0,
    )  # fmt: skip
    rows = list(csv.DictReader((folder / "labels.csv").open()))
    for number, row in enumerate(rows):
        row["split"] = ("train", "train", "train", "val", "test")[number % 5]
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder
