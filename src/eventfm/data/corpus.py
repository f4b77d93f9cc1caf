"""Labelled simulated corpora on disk: pictures set in motion, one recording each, with the frames at both ends."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventfm.data.animate import MotionConfig, random_shot
from eventfm.events import Sensor
from eventfm.io import ArrayRecording, ArrayTrack, save_recordings
from eventfm.protocols import Recording
from eventfm.random import generator
from eventfm.simulation.render import make_clip, render

TABLE = "labels.csv"


@dataclass(frozen=True)
class Subject:
    """One picture to film."""

    name: str
    light: NDArray[np.float32]
    """(H', W') linear luminance in [0, 1]."""
    label: str
    split: str = ""
    fold: int | None = None


def film(
    folder: str | Path,
    subjects: Iterable[Subject],
    motion: MotionConfig,
    seed: int,
) -> tuple[Path, Path]:
    """Film every subject once and return (store, table): `recordings.h5` and `labels.csv` in `folder`.

    A recording has the events of one clip and a track `frames` with clean frames, uint16 in linear light: those that
    bound the clip or, of saccades, each of its three movements. Motion and sensor of a clip depend on `seed` and the
    subject's name alone.

    Raises:
        WriteError: The system refused to write; nothing half-written is left.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sensor = Sensor(*motion.sensor, name="simulated")
    size = sensor.height, sensor.width
    times = np.linspace(0, motion.duration_us, 4 if motion.kind == "saccades" else 2).astype(np.int64)
    rows: list[dict[str, Any]] = []

    def recordings() -> Iterator[tuple[str, Recording]]:
        for subject in subjects:
            path, config = random_shot(motion, sensor, generator(seed, "film", subject.name))
            clip = make_clip(subject.light, path, (0, motion.duration_us), size, config)
            frames = render(subject.light, path, times, size)
            events = replace(clip.events, sensor=sensor, window=None)
            rows.append(
                {
                    "path": subject.name,
                    "label": subject.label,
                    "split": subject.split,
                    "fold": "" if subject.fold is None else subject.fold,
                }
            )
            yield subject.name, ArrayRecording(events, {"frames": ArrayTrack(times, frames)}, "simulated")

    store = save_recordings(
        folder / "recordings.h5",
        recordings(),
        {"simulator": "eventfm", "seed": seed, "motion": motion.model_dump_json()},
        overwrite=True,
    )
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, ["path", "label", "split", "fold"], lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    (folder / TABLE).write_text(text.getvalue(), encoding="utf-8")
    return store, folder / TABLE
