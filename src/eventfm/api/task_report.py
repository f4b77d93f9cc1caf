"""The report of a run on labels: what it reached, how it went, what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eventfm.api.run_report import read_metrics
from eventfm.api.task_pictures import TaskPictures
from eventfm.deployment.model import ModelCard, read_model_card
from eventfm.deployment.report import Section, Table, write_report
from eventfm.engine.run_folder import RunFolder
from eventfm.tasks.metrics import SELECT
from eventfm.visualization.curves import curves
from eventfm.visualization.files import read_picture


def write_task_report(folder: RunFolder, config: Mapping[str, Any], result: Any, pictures: TaskPictures) -> None:
    """Write the run's `report.html`."""
    card = read_model_card(folder.path / "model")
    records = read_metrics(folder)
    metric, _ = SELECT[str(card.task["name"])]
    groups = {"Loss": ["loss"], f"{metric} of the validation windows": [f"validation/{metric}"]}
    files = sorted(pictures.folder.glob("step_*.png"))
    shown = [file for file in files if int(file.stem.removeprefix("step_")) in (0, result.best_step or result.step)]
    write_report(
        folder.report,
        f"Run {folder.path.name}",
        [
            Section("What this is", text=_summary(card, len(pictures.samples))),
            Section(
                "Validation", tables=[Table(["figure", "value"], [[k, f"{v:.4f}"] for k, v in card.figures.items()])]
            ),
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


def _when(stem: str) -> str:
    step = int(stem.removeprefix("step_"))
    return f"Validation windows after {step} steps" if step else "Validation windows before the first step"
