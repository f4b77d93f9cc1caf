"""The report of a run on labels: what it reached, how it went, what it answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eventfm.api.class_report import ByClass, class_table
from eventfm.api.run_report import read_metrics
from eventfm.api.task_pictures import TaskPictures
from eventfm.deployment.model import ModelCard, read_model_card
from eventfm.deployment.report import Section, Table, write_report
from eventfm.engine.run_folder import RunFolder, write_atomic
from eventfm.tasks.metrics import SELECT
from eventfm.tasks.metrics_classes import BY_CLASS
from eventfm.visualization.curves import curves
from eventfm.visualization.files import read_picture

NOTED = "validation_classes.json"


def note_classes(folder: Path, step: int, by_class: ByClass) -> None:
    """Keep in the run's `folder` what each class reaches in the validation windows after `step` steps."""
    write_atomic(folder / NOTED, json.dumps({**_noted(folder), str(step): list(by_class)}) + "\n")


def write_task_report(folder: RunFolder, config: Mapping[str, Any], result: Any, pictures: TaskPictures) -> None:
    """Write the run's `report.html`."""
    card = read_model_card(folder.path / "model")
    records = read_metrics(folder)
    task, chosen = str(card.task["name"]), result.step if result.best_step is None else result.best_step
    metric, _ = SELECT[task]
    groups = {"Loss": ["loss"], f"{metric} of the validation windows": [f"validation/{metric}"]}
    files = sorted(pictures.folder.glob("step_*.png"))
    shown = [file for file in files if int(file.stem.removeprefix("step_")) in (0, chosen)]
    tables = [Table(["figure", "value"], [[k, f"{v:.4f}"] for k, v in card.figures.items()])]
    if (by_class := _noted(folder.path).get(str(chosen))) and task in BY_CLASS:
        tables.append(class_table(card.classes, {BY_CLASS[task]: by_class}))
    write_report(
        folder.report,
        f"Run {folder.path.name}",
        [
            Section("What this is", text=_summary(card, len(pictures.samples))),
            Section("Validation", tables=tables),
            Section("How it went", pictures=[("", curves(records, groups))]),
            Section("What it answers", pictures=[(_when(file.stem), read_picture(file)) for file in shown]),
            Section("Settings", settings=config),
        ],
    )


def _summary(card: ModelCard, num_validation: int) -> str:
    encoder = card.encoder
    begun = f"the encoder of {encoder.method}" if encoder.parents else "random weights"
    return (
        f"{card.task['name']} on {encoder.backbone.name}, input {encoder.input_size[1]}x{encoder.input_size[0]}, "
        f"{encoder.representation['name']}, begun from {begun}. Labels of {len(card.trained_on)} recordings, list hash "
        f"{card.trained_on_sha256[:16]}. Kept: {card.chosen_by}. These figures chose the step and are therefore too "
        f"good; test recordings were not touched (`eventfm evaluate`)."
    )


def _noted(folder: Path) -> dict[str, list[float | None]]:
    file = folder / NOTED
    noted: dict[str, list[float | None]] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return noted


def _when(stem: str) -> str:
    step = int(stem.removeprefix("step_"))
    return f"Validation windows after {step} steps" if step else "Validation windows before the first step"
