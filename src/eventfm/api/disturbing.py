"""The robustness suite: how much worse a model of a task answers as its events get worse."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from eventfm.api.folder_names import short_names
from eventfm.api.settings import nested
from eventfm.api.text_tables import markdown
from eventfm.config import Config, ConfigError, Several
from eventfm.data.build import DataConfig, build_samples
from eventfm.data.pairs import WindowSamples
from eventfm.data.splits import open_parts
from eventfm.deployment.model import ModelCard, load_model, model_folder, read_model_card
from eventfm.deployment.report import Section, Table, write_report
from eventfm.engine.run_folder import write_atomic
from eventfm.evaluation.disturbed import DisturbedSamples
from eventfm.evaluation.label_checks import labelled_digest, numbered_as, read_labels
from eventfm.evaluation.leakage import fingerprints_of, leakage
from eventfm.evaluation.robustness import PERTURBATIONS, SEVERITIES, Disturbance, curve
from eventfm.evaluation.scoring import score_task
from eventfm.representations import VoxelGrid
from eventfm.representations import build as build_representation
from eventfm.tasks import wanted
from eventfm.tasks.metrics import SELECT
from eventfm.visualization.robustness import robustness_plot

log = logging.getLogger(__name__)

_OF_THE_MODEL = ("window", "image_size", "target", "holdout")
"""Settings of data that a model was trained with, which are not to be chosen again."""


class RobustnessConfig(Config):
    """Settings of the robustness suite."""

    models: str | list[str]
    """Folders of models (`eventfm finetune`), of one task, separated by commas."""
    data: dict[str, Any]
    """Where the labelled recordings are, with the split test in data.labels; windows are those of the models, so that
    data.window is to be left out."""
    out: str
    """Folder for the figures, the table, the plot and the report."""
    perturbations: Several[str] = ()
    """What is done to the events; all there is if none is named."""
    severities: Several[int] = tuple(range(len(SEVERITIES)))
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
    seen: dict[str, str] = field(default_factory=dict)
    """For each model that was trained, or its encoder pretrained, on test recordings, which; in words."""


class _Model(NamedTuple):
    """A model, and what it is scored on."""

    name: str
    folder: Path
    card: ModelCard
    test: WindowSamples


def robustness(**settings: Any) -> RobustnessResult:
    """Score models on test windows whose events were made worse; `api.evaluate("robustness", ...)` is this.

    Each figure is kept as soon as it is there: the same command goes on after a stop. That all can be scored is seen
    before the first one is.

    Raises:
        ValueError: Unknown keys or perturbations, models of several tasks, data without the labels or with classes that
            a model does not have; or a figure in `out` is of other data.
    """
    config = RobustnessConfig.parse(nested(settings), "evaluate robustness")
    if given := [f"data.{key}" for key in _OF_THE_MODEL if key in config.data]:
        raise ConfigError(
            f"windows and inputs are those that each model was trained on: leave {', '.join(given)} out; to score "
            "other ones, train a model on them"
        )
    for name in config.perturbations or list(PERTURBATIONS):
        for severity in config.severities:
            Disturbance(name, severity)  # says which there are
    models = _models(config)
    rows = [{"name": model.name, **row} for model in models for row in _scored(model, config)]
    seen = {model.name: said for model in models if (said := _seen(model))}
    result = RobustnessResult(Path(config.out), str(models[0].card.task["name"]), tuple(rows), seen)
    _write(result, config.model_dump(mode="json"))
    return result


def _models(config: RobustnessConfig) -> list[_Model]:
    """Return the models in the order in which they are given, each once, with all that they are scored on."""
    given = config.models.split(",") if isinstance(config.models, str) else config.models
    if not all(path.strip() for path in given):
        raise ConfigError(f"expected models=FOLDER[,FOLDER ...], got {config.models!r}")
    folders = list(dict.fromkeys(Path(os.path.abspath(model_folder(path.strip()))) for path in given))
    cards = [read_model_card(folder) for folder in folders]
    if len(tasks := {str(card.task["name"]) for card in cards}) > 1:
        raise ConfigError(f"expected models of one task, got {', '.join(sorted(tasks))}; score them one by one")
    names = short_names(folders, "model")
    models = [_Model(*found, _test_windows(found[2], config)) for found in zip(names, folders, cards, strict=True)]
    for model in models:
        test = model.test
        read_labels(test.collection, test.wanted, test.windows, len(model.card.classes) or None)
    return models


def _scored(model: _Model, config: RobustnessConfig) -> list[dict[str, Any]]:
    log.info("model %s", model.name)
    objective, card = load_model(model.folder)
    num_classes = len(card.classes) or None
    kept = Path(config.out) / "figures"
    known_by = {
        "data": config.data,
        "test": labelled_digest(model.test.collection, model.test.wanted, model.test.windows),
        "trained_on": card.trained_on_sha256,
        "scored_at": "sensor",
    }

    def score(disturbance: Disturbance) -> Mapping[str, float]:
        file = kept / f"{card.weights_sha256[:16]}-{disturbance.perturbation}-{disturbance.severity}-{config.seed}.json"
        if file.exists():
            values = json.loads(file.read_text(encoding="utf-8"))
            if values["known_by"] != json.loads(json.dumps(known_by)):
                changed = "test recordings or labels" if values["known_by"].get("data") == config.data else "data"
                raise ConfigError(
                    f"{file} is of other {changed}, or of an earlier version of this suite; choose another out=, or "
                    "delete it to score it again"
                )
            return cast(Mapping[str, float], values["figures"])
        disturbed = DisturbedSamples(model.test, disturbance)
        figures = score_task(objective.predict, objective.task, disturbed, num_classes).figures
        kept.mkdir(parents=True, exist_ok=True)
        write_atomic(file, json.dumps({"known_by": known_by, "figures": figures}, indent=2) + "\n")
        log.info("%s, %s: %s", disturbance.perturbation, SEVERITIES[disturbance.severity], _said(objective, figures))
        return figures

    return curve(score, config.perturbations or None, config.severities, config.seed)


def _test_windows(card: ModelCard, config: RobustnessConfig) -> WindowSamples:
    """Return the test windows, cut as in training, as the model reads them, with classes by its numbers."""
    trained = card.recipe["data"]
    given = {**config.data, "window": trained["window"], "target": "none", "holdout": 0.0}
    data = DataConfig.parse(given, under="data")
    source = open_parts(data, needed=("test",))["test"]
    assert source.collection is not None, "open_parts refuses what is no recording"
    kinds = wanted(card.task)
    if "label" in kinds:
        source = replace(source, collection=numbered_as(source.collection, card.classes))
    return cast(
        WindowSamples,
        build_samples(
            source,
            data,
            build_representation(card.encoder.representation),
            VoxelGrid(1),
            card.encoder.input_size,
            wanted=kinds,
            num_classes=len(card.classes) or None,
        ).training,
    )


def _seen(model: _Model) -> str:
    """Return which test recordings the model was trained on, and its encoder pretrained; nothing if there is none."""
    if not (prints := fingerprints_of(model.test)):
        return ""
    stages = {"pretraining": model.card.encoder.trained_on, "training": model.card.trained_on}
    found = {stage: leakage(trained_on, prints) for stage, trained_on in stages.items()}
    return " ".join(leak.text(stage) for stage, leak in found.items() if leak.seen)


def _said(objective: Any, figures: Mapping[str, float]) -> str:
    metric, _ = SELECT[objective.task]
    return f"{metric} {figures[metric]:.4f}"


def _write(result: RobustnessResult, config: dict[str, Any]) -> None:
    metric, _ = SELECT[result.task]
    values = {"config": config, "rows": list(result.rows), "seen_in_training": result.seen}
    write_atomic(result.out / "results.json", json.dumps(values, indent=2) + "\n")
    header, rows = table_of(result)
    warning = [f"Warning, test recordings were seen before: {name}: {said}" for name, said in result.seen.items()]
    write_atomic(result.out / "table.md", "\n\n".join([markdown(header, rows), *warning]) + "\n")
    write_report(
        result.out / "report.html",
        f"Robustness of {result.task}",
        [
            Section(
                metric,
                text="What models reach on test windows whose events were made worse before they were looked at. "
                "Answers are brought to the labels' own size, that of the undisturbed sensor, and measured where the "
                "input still shows it. How much is done at each severity is eventfm's choice (data.perturb). "
                + " ".join(warning),
                tables=[Table(header, rows)],
                pictures=[("", robustness_plot(result.rows, metric))],
            ),
            Section("Settings", settings=config),
        ],
    )
    print(*warning, f"all figures: {result.out / 'table.md'}", sep="\n")


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
