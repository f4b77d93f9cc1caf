"""The transfer suite: encoders trained on labels of one task under one budget, and scored on test recordings."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from eventfm.api.finetune_config import FewLabels, FinetuneConfig, beginning_of, encoder_folder, parse_finetune
from eventfm.api.finetuning import open_finetune, run_finetune
from eventfm.api.settings import nested
from eventfm.api.task_pictures import draw_answers
from eventfm.api.transfer_cells import Cell, CellResult, Labels, Protocol, Row, cells_of, kept_cell
from eventfm.api.transfer_report import write_transfer
from eventfm.config import Config, ConfigError
from eventfm.data.build import build_samples
from eventfm.data.pairs import WindowSamples
from eventfm.data.pool import Tick, num_cores, run_here, run_in_processes
from eventfm.data.splits import open_parts
from eventfm.deployment.model import load_model
from eventfm.evaluation.leakage import leakage
from eventfm.evaluation.scoring import Scored, score_task
from eventfm.evaluation.trivial import trivial_predictor
from eventfm.models.encoder import read_card
from eventfm.representations import VoxelGrid
from eventfm.representations import build as build_representation
from eventfm.tasks import wanted
from eventfm.tasks.metrics import SELECT, build_metrics
from eventfm.visualization.files import save_picture

log = logging.getLogger(__name__)

NUM_CASES = 3
"""Test windows that are shown of those answered best, and of those answered worst."""


class TransferConfig(Config):
    """Settings of the transfer suite."""

    recipe: str
    """A task, or a published protocol (`eventfm finetune --list`)."""
    encoders: str | list[str]
    """Encoder folders, separated by commas."""
    data: dict[str, Any]
    """Settings of the data of every run, with splits train, val and test in data.labels."""
    out: str
    """Folder for the runs, their results, the table, plots and the report."""
    protocols: tuple[Protocol, ...] = ("linear", "full")
    """How encoders are used: `linear` trains a linear head on a frozen network; the others as `task.adapt.mode`."""
    shares: tuple[float, ...] = (1.0,)
    """Shares of the training labels that are used."""
    shots: tuple[int, ...] = ()
    """Labels of each class that are used, of recognition, besides the shares."""
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    """Seeds of heads, of weights that are drawn anew, of the order of samples, and of which few labels are used."""
    task: dict[str, Any] = Field(default_factory=dict)
    """Further settings of the task, for every run."""
    train: dict[str, Any] = Field(default_factory=dict)
    """Further settings of training: the budget, which is the same for every row."""
    workers: Literal["auto"] | PositiveInt = 1
    """Runs at a time. One has all cores; several have a process and one core each, which small networks use better, and
    say what they do in `out/runs/NAME.log`."""
    keep_checkpoints: bool = False
    """Keep the checkpoints of the runs as well, which nobody needs once a run is complete; models are kept anyway."""


@dataclass(frozen=True)
class TransferResult:
    """Every run's result, and what a predictor reaches that does not look."""

    out: Path
    task: str
    cells: tuple[CellResult, ...]
    """In the order in which they were done; not all of them where the suite was stopped."""
    trivial: Scored
    groups: NDArray[np.int64]
    """(N,) the test recording of each test window."""
    seen: dict[str, str] = field(default_factory=dict)
    """For each encoder that was pretrained on test recordings, which; in words."""
    classes: tuple[str, ...] = ()


def transfer(**settings: Any) -> TransferResult:
    """Run the suite, or what is left of it; `api.evaluate("transfer", ...)` is this.

    For every encoder there is a row of the same network with weights drawn anew and the same budget: `scratch` where
    the network learns, `untrained` where it is frozen. Runs choose their step by validation windows, see the test
    recordings never, and nothing is averaged over augmented views.

    Raises:
        ValueError: Unknown keys, data without the splits or labels, encoders that do not fit.
    """
    config = TransferConfig.parse(nested(settings), "evaluate transfer")
    labels = [Labels(share) for share in config.shares] + [Labels(None, shots) for shots in config.shots]
    cells = cells_of(_rows(config), config.protocols, labels, config.seeds)
    if not cells:
        raise ConfigError("expected at least one encoder, protocol and share or number of labels, got none")
    done = _all_done(cells, config)
    if len(done) < len(cells):
        log.warning("stopped; %d of %d runs are kept, and the same command goes on", len(done), len(cells))
    result = _with_trivial(config, cells[0], done)
    write_transfer(result, config.model_dump(mode="json"))
    return result


class _StoppedError(Exception):
    """A run was told to stop."""


def _all_done(cells: Sequence[Cell], config: TransferConfig) -> list[CellResult]:
    """Return the results in the order of `cells`, up to where the suite was stopped."""
    num_workers = num_cores() if config.workers == "auto" else config.workers
    if num_workers == 1:
        outcomes = run_here(partial(_alone, config=config), cells, lambda line: log.info("%s", line))
    else:
        outcomes = run_in_processes(
            partial(_beside_others, config=config), cells, lambda line: log.info("%s", line), num_workers
        )
    found: dict[Cell, CellResult] = {}
    for outcome in outcomes:
        if isinstance(outcome.error, _StoppedError):
            break
        if outcome.error is not None:
            raise outcome.error
        found[outcome.task] = outcome.result
        log.info("%d of %d runs are done", len(found), len(cells))
    return [found[cell] for cell in cells if cell in found]


def _alone(cell: Cell, tick: Tick, config: TransferConfig) -> CellResult:
    tick(f"run: {cell.text}")
    return _done(cell, config)


def _beside_others(cell: Cell, tick: Tick, config: TransferConfig) -> CellResult:
    """Do one run in a process of its own, whose output would run into that of the others."""
    file = Path(config.out) / "runs" / f"{cell.slug}.log"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as said, redirect_stdout(said), redirect_stderr(said):
        return _alone(cell, tick, config)


def _done(cell: Cell, config: TransferConfig) -> CellResult:
    """Return the result of one run, from where it is kept or by doing it."""
    run = _run_config(cell, config)
    known_by = {
        "run": run.model_dump(mode="json", exclude={"out"}),
        "encoder": read_card(encoder_folder(cell.row.encoder)).weights_sha256
        if cell.row.weights == "pretrained"
        else None,
        "scored_at": "sensor",
    }

    def compute() -> CellResult:
        result = run_finetune(run)
        if result.interrupted:
            raise _StoppedError
        objective, card = load_model(result.model)
        num_classes = len(card.classes) or None
        test = _test(run, num_classes)
        scored = score_task(objective.predict, objective.task, test, num_classes)
        if cell.seed == config.seeds[0]:
            _draw(objective, test, scored, card.classes, Path(config.out) / "cells" / f"{cell.slug}.png")
        if not config.keep_checkpoints:
            shutil.rmtree(result.out / "checkpoints")
        return CellResult(cell, scored.figures, scored.sums, result.best_step, scored.by_class)

    return kept_cell(Path(config.out) / "cells", cell, known_by, compute)


def _with_trivial(config: TransferConfig, cell: Cell, done: Sequence[CellResult]) -> TransferResult:
    run = _run_config(cell, config)
    opened = open_finetune(run.model_copy(update={"labels": FewLabels()}))
    task, num_classes = str(run.task["name"]), len(opened.classes) or None
    test = _test(run, num_classes)
    trivial = score_task(trivial_predictor(task, opened.training, num_classes), task, test, num_classes)
    groups = np.array([number for number, _ in test.windows])
    return TransferResult(Path(config.out), task, tuple(done), trivial, groups, _seen(config, test), opened.classes)


def _rows(config: TransferConfig) -> list[Row]:
    """Return the rows: every encoder, and after it the same network without pretraining."""
    given = config.encoders.split(",") if isinstance(config.encoders, str) else config.encoders
    folders = [path.strip() for path in given]
    if not all(folders):
        raise ConfigError(f"expected encoders=FOLDER[,FOLDER ...], got {config.encoders!r}")
    names = [_name(path) for path in folders]
    rows: list[Row] = []
    controls: dict[str, str] = {}
    for folder, name in zip(folders, names, strict=True):
        card = read_card(encoder_folder(folder))
        # Encoders of one network and input share their control.
        twin = json.dumps([card.backbone.model_dump(), card.representation, card.input_size], sort_keys=True)
        known = twin in controls
        number = "" if not controls or known else f" ({card.backbone.name}, {len(controls) + 1})"
        control = controls.setdefault(twin, f"without pretraining{number}")
        rows.append(Row(folder, folder if names.count(name) > 1 else name, "pretrained", control))
        if not known:
            rows.append(Row(folder, control, "scratch"))
    return rows


def _name(folder: str) -> str:
    """Return what an encoder is called: its run's folder."""
    path = encoder_folder(folder)
    return path.parent.name if path.name == "encoder" else path.name


def _run_config(cell: Cell, config: TransferConfig) -> FinetuneConfig:
    """Return the run of one cell."""
    adapt = {"linear": {"task.head": {"name": "linear"}, "task.adapt.mode": "frozen"}}
    changes = {
        **{f"data.{key}": value for key, value in config.data.items()},
        **{f"task.{key}": value for key, value in config.task.items()},
        **{f"train.{key}": value for key, value in config.train.items()},
        **adapt.get(cell.protocol, {"task.adapt.mode": cell.protocol}),
        **cell.labels.settings,
        "labels.seed": cell.seed,
        "train.seed": cell.seed,
        "encoder": cell.row.encoder,
        "weights": cell.row.weights,
        "out": str(Path(config.out) / "runs" / cell.slug),
    }
    return parse_finetune(config.recipe, changes)


def _test(run: FinetuneConfig, num_classes: int | None) -> WindowSamples:
    """Return the test windows as the encoder of `run` reads them, with labels of the sensor's own size.

    Raises:
        CollectionError: The table has no split `test`.
        LabelError: Classes that the training labels do not have.
    """
    source = open_parts(run.data, needed=("train", "test"))["test"]
    beginning = beginning_of(run, (source.sensor.height, source.sensor.width))
    samples = build_samples(
        source,
        run.data.model_copy(update={"holdout": 0.0}),
        build_representation(beginning.representation),
        VoxelGrid(1),
        beginning.input_size,
        wanted=wanted(run.task),
        num_classes=num_classes,
    ).training
    return replace(cast(WindowSamples, samples), label_size="sensor")


def _draw(objective: Any, test: WindowSamples, scored: Scored, classes: tuple[str, ...], file: Path) -> None:
    """Draw the test windows that are answered best and worst, each with what it scores."""
    metric, better = SELECT[objective.task]
    metrics = build_metrics(objective.task, len(classes) or None)
    values: dict[int, float] = {}
    for number, row in enumerate(scored.sums):
        with suppress(ValueError):  # a window with nothing to measure
            values[number] = metrics.from_sums(row)[metric]
    ranked = sorted(values, key=values.__getitem__, reverse=better is max)
    chosen = list(dict.fromkeys([*ranked[:NUM_CASES], *ranked[-NUM_CASES:]]))
    notes = [f"{metric} {values[number]:.3g}" for number in chosen]
    file.parent.mkdir(parents=True, exist_ok=True)
    save_picture(file, draw_answers(objective, replace(test, label_size="input"), chosen, classes, notes))


def _seen(config: TransferConfig, test: WindowSamples) -> dict[str, str]:
    """Return, for each encoder that was pretrained on test recordings, which those are."""
    used = sorted({number for number, _ in test.windows})
    entries = [test.collection.entries[number] for number in used]
    prints = {entry.name: entry.fingerprint for entry in entries if entry.recording.num_events}
    found = {
        row.name: leakage(read_card(encoder_folder(row.encoder)).trained_on, prints)
        for row in _rows(config)
        if row.weights == "pretrained"
    }
    return {name: leak.text() for name, leak in found.items() if leak.seen}
