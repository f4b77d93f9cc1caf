"""The parts on flow and depth: scenes, answers of models for them, scores and pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from quality.results import kept

from eventfm.data.windows import Window, WindowConfig, cut, read
from eventfm.deployment.model import read_model_card
from eventfm.deployment.predicting import load, model_folder
from eventfm.io import open_recording, save_recording
from eventfm.protocols import Recording
from eventfm.visualization.files import save_picture
from tasks_real.drawing import Case, draw
from tasks_real.scoring import ALIGNED, sums_of
from tasks_real.settings import Settings

BLIND = {"flow": "no motion", "depth": "the same depth everywhere"}
"""What an answer is called that does not look."""

Answers = Callable[[Recording, Sequence[Window]], Iterator[NDArray[np.float32]]]


@dataclass(frozen=True)
class Row:
    """Something that answers."""

    title: str
    file: str
    """What its files are called."""
    answers: Answers


@dataclass(frozen=True)
class Scored:
    """What a row came to."""

    title: str
    sums: Mapping[str, Mapping[str, list[list[float]]]]
    """By how answers are aligned and by scene, what each block of pixels adds, in all windows together."""
    picture: Path


def scored_rows(
    task: str, out: Path, scenes: Mapping[str, Path], models: Sequence[Path], settings: Settings
) -> list[Scored]:
    """Return what each model comes to at each scale, and first what an answer does that does not look.

    Raises:
        ValueError: A folder holds no model, or one of another task, or two have one name.
    """
    rows = [Row(BLIND[task], f"{task}-blind", lambda recording, windows: _blind(task, recording, windows))]
    for model in models:
        rows += _model_rows(task, model, settings)
    titles = [row.title for row in rows]
    if twice := [title for title in titles if titles.count(title) > 1]:
        raise ValueError(f"expected models with names of their own, got two rows {twice[0]!r}; rename a run's folder")
    return [_scored(task, row, out, scenes, settings) for row in rows]


def filmed(folder: Path, makers: Mapping[str, Callable[[], Any]]) -> tuple[dict[str, Path], dict[str, Any]]:
    """Return the stores of the scenes by name, made where they are not there yet, and how they compare."""
    files = {name: folder / f"{slug(name)}.h5" for name in makers}
    checks = {}
    for name, make in makers.items():

        def film(name: str = name, make: Callable[[], Any] = make) -> dict[str, Any]:
            scene = make()
            files[name].parent.mkdir(parents=True, exist_ok=True)
            save_recording(files[name], scene.recording, {"simulator": "eventfm"}, overwrite=True)
            return {**scene.check, "num_events": scene.recording.num_events}

        checks[name] = kept(files[name].with_suffix(".json"), film)
        print(f"{name}: {json.dumps(checks[name])}", flush=True)
    return files, checks


def slug(name: str) -> str:
    """Return a name as one of a file."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


def _model_rows(task: str, path: Path, settings: Settings) -> list[Row]:
    folder = model_folder(path)
    card = read_model_card(folder)
    if card.task["name"] != task:
        raise ValueError(f"expected a model of {task} in {path}, got one of {card.task['name']}")
    name = folder.parent.name if folder.name == "model" else folder.name
    loaded = cache(lambda: load(folder, "cuda" if torch.cuda.is_available() else "cpu"))

    def row(scale: float | None) -> Row:
        def answers(recording: Recording, windows: Sequence[Window]) -> Iterator[NDArray[np.float32]]:
            return (answer.values for answer in loaded().answers(recording, windows, scale=scale))

        said = "as `predict` scales it" if scale is None else f"scale {scale:g}"
        file = f"{task}-{slug(name)}-{card.weights_sha256[:8]}-{'fit' if scale is None else f'{scale:g}'}"
        return Row(f"{name}, {said}", file, answers)

    return [row(scale) for scale in settings.scales]


def _blind(task: str, recording: Recording, windows: Sequence[Window]) -> Iterator[NDArray[np.float32]]:
    size = (recording.sensor.height, recording.sensor.width)
    return (np.zeros((2, *size), np.float32) if task == "flow" else np.ones(size, np.float32) for _ in windows)


def _windows(task: str, recording: Recording, settings: Settings) -> list[Window]:
    if task == "flow":
        return cut(recording, WindowConfig(by="frames", track="flow"))
    at_end = WindowConfig(by="frame", track="depth", frame_at="end", duration_us=settings.window_us)
    return cut(recording, at_end)


def _scored(task: str, row: Row, out: Path, scenes: Mapping[str, Path], settings: Settings) -> Scored:
    picture = out / "pictures" / f"{row.file}.png"

    def compute() -> dict[str, Any]:
        sums: dict[str, dict[str, Any]] = {align: {} for align in ALIGNED[task]}
        cases = []
        for name, file in scenes.items():
            recording = open_recording(file)
            windows = _windows(task, recording, settings)
            for number, (window, answer) in enumerate(zip(windows, row.answers(recording, windows), strict=True)):
                assert window.entry is not None
                truth, events = recording.tracks[task].read(window.entry), read(recording, window)
                for align in ALIGNED[task]:
                    added = sums_of(task, answer, truth, events, align, settings.block)
                    sums[align][name] = added + sums[align].get(name, 0.0)
                if number in (0, len(windows) - 1):
                    which = "" if len(windows) == 1 else f", window {number + 1} of {len(windows)}"
                    cases.append(Case(name + which, events, truth, answer))
        picture.parent.mkdir(parents=True, exist_ok=True)
        save_picture(picture, draw(task, cases))
        return {align: {name: rows.tolist() for name, rows in found.items()} for align, found in sums.items()}

    print(f"{task}: {row.title}", flush=True)
    return Scored(row.title, kept(out / "cells" / f"{row.file}.json", compute), picture)
