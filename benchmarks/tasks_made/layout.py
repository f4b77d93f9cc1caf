"""What the layout of the worlds gives away of depth: below is the floor, and near."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eventfm.data.windows import WindowConfig, cut
from eventfm.io import open_recording
from tasks_made.worlds import WINDOW_US

SPLITS = ("train", "test")


def layout_error(worlds: Path) -> float:
    """Return AbsRel, over all pixels of the test maps, of each pixel's median over the training maps.

    It looks at no event, as the one depth of the tables does not, but knows where in the picture things are near.
    """
    with (worlds / "labels.csv").open(newline="", encoding="utf-8") as file:
        split_of = {row["path"]: row["split"] for row in csv.DictReader(file)}
    maps = {split: np.stack([*_maps(worlds, [p for p, s in split_of.items() if s == split])]) for split in SPLITS}
    answer, truth = np.nanmedian(maps["train"], axis=0), maps["test"]
    return float(np.nanmean(np.abs(answer - truth) / truth))


def _maps(worlds: Path, paths: list[str]) -> Iterator[NDArray[np.float32]]:
    for path in paths:
        recording = open_recording(str(worlds / path))
        ends = WindowConfig(by="frame", track="depth", frame_at="end", duration_us=WINDOW_US)
        for window in cut(recording, ends):
            assert window.entry is not None
            yield recording.tracks["depth"].read(window.entry)
