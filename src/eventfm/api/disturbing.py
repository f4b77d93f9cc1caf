"""The robustness suite: how much worse a model of a task answers as its events get worse."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from eventfm.api.settings import nested
from eventfm.api.text_tables import markdown
from eventfm.config import Config, ConfigError
from eventfm.data.build import DataConfig, build_samples
from eventfm.data.pairs import WindowSamples
from eventfm.data.splits import open_parts
from eventfm.deployment.model import ModelCard, load_model, model_folder
from eventfm.deployment.report import Section, Table, write_report
from eventfm.engine.run_folder import write_atomic
from eventfm.evaluation.disturbed import DisturbedSamples
from eventfm.evaluation.robustness import PERTURBATIONS, SEVERITIES, Disturbance, curve
from eventfm.evaluation.scoring import score_task
from eventfm.representations import VoxelGrid
from eventfm.representations import build as build_representation
from eventfm.tasks import wanted
from eventfm.tasks.metrics import SELECT
from eventfm.visualization.robustness import robustness_plot

log = logging.getLogger(__name__)

HIGHEST = len(SEVERITIES) - 1


class RobustnessConfig(Config):
    """Settings of the robustness suite."""

    models: str | list[str]
    """Folders of models (`eventfm finetune`), of one task, separated by commas."""
    data: dict[str, Any]
    """Where the labelled recordings are, with the split test in data.labels; windows are those of the models."""
    out: str
    """Folder for the figures, the table, the plot and the report."""
    perturbations: tuple[str, ...] = ()
    """What is done to the events; all there is if none is named."""
    severities: tuple[int, ...] = tuple(range(len(SEVERITIES)))
    """How badly, from 0 to 5."""
    seed: int = 0
    """Seed of what is drawn."""


@dataclass(frozen=True)
class RobustnessResult:
    """What every model reaches on disturbed events."""

    out: Path
    task: str
    rows: tuple[dict[str, Any], ...]
    """Those of `evaluation.robustness.curve`, each with the `name` of its model."""


def robustness(**settings: Any) -> RobustnessResult:
    """Score models on test windows whose events were made worse; `api.evaluate("robustness", ...)` is this.

    Each figure is kept as soon as it is there: the same command goes on after a stop.

    Raises:
        ValueError: Unknown keys or perturbations, models of several tasks, data without the labels.
    """
    config = RobustnessConfig.parse(nested(settings), "evaluate robustness")
    given = config.models.split(",") if isinstance(config.models, str) else config.models
    folders = {model_folder(path.strip()) for path in given}
    if not all(path.strip() for path in given):
        raise ConfigError(f"expected models=FOLDER[,FOLDER ...], got {config.models!r}")
    unknown = set(config.perturbations) - set(PERTURBATIONS)
    if unknown:
        PERTURBATIONS.get(sorted(unknown)[0])  # says which there are
    rows: list[dict[str, Any]] = []
    tasks: set[str] = set()
    for folder in sorted(folders):
        name = folder.parent.name if folder.name == "model" else folder.name
        log.info("model %s", name)
        found, task = _scored(folder, name, config)
        tasks.add(task)
        rows += found
    if len(tasks) > 1:
        raise ConfigError(f"expected models of one task, got {', '.join(sorted(tasks))}; score them one by one")
    result = RobustnessResult(Path(config.out), tasks.pop(), tuple(rows))
    _write(result, config.model_dump(mode="json"))
    return result


def _scored(folder: Path, name: str, config: RobustnessConfig) -> tuple[list[dict[str, Any]], str]:
    objective, card = load_model(folder)
    samples = _test_windows(card, config)
    num_classes = len(card.classes) or None
    kept = Path(config.out) / "figures"

    def score(disturbance: Disturbance) -> Mapping[str, float]:
        file = kept / f"{card.weights_sha256[:16]}-{disturbance.perturbation}-{disturbance.severity}-{config.seed}.json"
        known_by = {"data": config.data, "trained_on": card.trained_on_sha256, "scored_at": "sensor"}
        if file.exists():
            values = json.loads(file.read_text(encoding="utf-8"))
            if values["known_by"] != json.loads(json.dumps(known_by)):
                raise ConfigError(
                    f"{file} is of other data, or of an earlier version of this suite; choose another out=, or delete "
                    "it to score it again"
                )
            return cast(Mapping[str, float], values["figures"])
        disturbed = DisturbedSamples(samples, disturbance)
        figures = score_task(objective.predict, objective.task, disturbed, num_classes).figures
        kept.mkdir(parents=True, exist_ok=True)
        write_atomic(file, json.dumps({"known_by": known_by, "figures": figures}, indent=2) + "\n")
        log.info("%s, %s: %s", disturbance.perturbation, SEVERITIES[disturbance.severity], _said(objective, figures))
        return figures

    rows = curve(score, config.perturbations or None, config.severities, config.seed)
    return [{"name": name, **row} for row in rows], str(objective.task)


def _test_windows(card: ModelCard, config: RobustnessConfig) -> WindowSamples:
    """Return the test windows, cut as in training, as the model reads them."""
    trained = card.recipe["data"]
    data = DataConfig.parse({**config.data, "window": trained["window"], "target": "none", "holdout": 0.0}, "data")
    return cast(
        WindowSamples,
        build_samples(
            open_parts(data, needed=("test",))["test"],
            data,
            build_representation(card.encoder.representation),
            VoxelGrid(1),
            card.encoder.input_size,
            wanted=wanted(card.task),
            num_classes=len(card.classes) or None,
        ).training,
    )


def _said(objective: Any, figures: Mapping[str, float]) -> str:
    metric, _ = SELECT[objective.task]
    return f"{metric} {figures[metric]:.4f}"


def _write(result: RobustnessResult, config: dict[str, Any]) -> None:
    metric, _ = SELECT[result.task]
    write_atomic(
        result.out / "results.json", json.dumps({"config": config, "rows": list(result.rows)}, indent=2) + "\n"
    )
    header, rows = table_of(result)
    write_atomic(result.out / "table.md", markdown(header, rows) + "\n")
    write_report(
        result.out / "report.html",
        f"Robustness of {result.task}",
        [
            Section(
                metric,
                text="What models reach on test windows whose events were made worse before they were looked at. "
                "Answers are brought to the labels' own size, that of the undisturbed sensor, and measured where the "
                "input still shows it. How much is done at each severity is eventfm's choice (data.perturb).",
                tables=[Table(header, rows)],
                pictures=[("", robustness_plot(result.rows, metric))],
            ),
            Section("Settings", settings=config),
        ],
    )


def table_of(result: RobustnessResult) -> tuple[list[str], list[list[str]]]:
    """Return a row for each model and perturbation, with the figure at every severity."""
    metric, _ = SELECT[result.task]
    severities = sorted({row["severity"] for row in result.rows})
    header = ["model", "disturbance", "unit", *(SEVERITIES[severity] for severity in severities)]
    keys = dict.fromkeys((row["name"], row["perturbation"]) for row in result.rows)
    rows = []
    for name, perturbation in keys:
        of = {r["severity"]: r for r in result.rows if (r["name"], r["perturbation"]) == (name, perturbation)}
        cells = [f"{of[s].get(metric, np.nan):.4f} ({of[s]['amount']:.4g})" if s in of else "" for s in severities]
        rows.append([name, perturbation, next(iter(of.values()))["unit"], *cells])
    return header, rows
