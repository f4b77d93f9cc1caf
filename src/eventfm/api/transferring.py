"""The transfer suite: encoders trained on labels of one task under one budget, and scored on test recordings."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from contextlib import closing, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from eventfm.api.finetune_config import FinetuneConfig, encoder_folder, parse_finetune
from eventfm.api.finetuning import run_finetune
from eventfm.api.settings import nested
from eventfm.api.task_pictures import draw_answers
from eventfm.api.transfer_cells import Cell, CellResult, Labels, Protocol, cells_of, file_of, kept_cell
from eventfm.api.transfer_plan import Exam, Plan, plan_of, samples_of_tests
from eventfm.api.transfer_report import write_transfer
from eventfm.api.transfer_rows import rows_of, without_encoder
from eventfm.config import Config, ConfigError, Several
from eventfm.data.pairs import WindowSamples
from eventfm.data.pool import Tick, num_cores, run_here, run_in_processes
from eventfm.deployment.model import load_model
from eventfm.evaluation.leakage import fingerprints_of, leakage
from eventfm.evaluation.scoring import Scored, score_task
from eventfm.evaluation.trivial import trivial_predictor
from eventfm.models.encoder import read_card
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
    protocols: Several[Protocol] = ("linear", "full")
    """How encoders are used: `linear` trains a linear head on a frozen network; the others as `task.adapt.mode`."""
    shares: Several[Annotated[float, Field(gt=0, le=1)]] = (1.0,)
    """Shares of the training labels that are used."""
    shots: Several[PositiveInt] = ()
    """Labels of each class that are used, of recognition, besides the shares."""
    seeds: Several[int] = Field(default=(0, 1, 2), min_length=1)
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
    recordings never, and nothing is averaged over augmented views. All are scored on the same windows. That every run
    can be done and scored is seen before the first one begins.

    Raises:
        ValueError: Unknown keys, data without the splits or labels, encoders that do not fit; or what is kept in `out`
            is of other settings, data or weights.
    """
    config = TransferConfig.parse(nested(settings), "evaluate transfer")
    labels = [Labels(share) for share in config.shares] + [Labels(None, shots) for shots in config.shots]
    cells = cells_of(rows_of(config.encoders), config.protocols, labels, config.seeds)
    if not cells:
        raise ConfigError("expected at least one encoder, protocol and share or number of labels, got none")
    plan = _plan(cells, config)
    nothing_done = _without_runs(config, plan)
    done = _all_done(cells, config, plan.exam)
    result = replace(nothing_done, cells=tuple(done))
    write_transfer(result, config.model_dump(mode="json"))
    return result


def _plan(cells: Sequence[Cell], config: TransferConfig) -> Plan:
    """Return the plan, for which one run is opened of each row and protocol of which not all is kept."""
    asked = _run_config(cells[0]._replace(protocol="full"), config)
    if config.shots and asked.task["name"] != "recognition":
        raise ConfigError(
            f"shots= counts labels of each class of recognition, got {config.shots} for {asked.task['name']}; give "
            "shares= instead"
        )
    # Fewer shots are part of more, and every share of the labels has one at least.
    most = Labels(None, max(config.shots)) if config.shots else Labels()
    missing = [cell for cell in cells if not file_of(Path(config.out) / "cells", cell).exists()]
    once = dict.fromkeys((cell.row, cell.protocol) for cell in [cells[0], *missing])
    runs = [_run_config(Cell(*key, most, config.seeds[0]), config) for key in once]
    return plan_of(asked, runs)


class _StoppedError(Exception):
    """A run was told to stop."""


def _all_done(cells: Sequence[Cell], config: TransferConfig, exam: Exam) -> list[CellResult]:
    """Return the results in the order of `cells`, up to where the suite was stopped."""
    num_workers = num_cores() if config.workers == "auto" else config.workers
    if num_workers == 1:
        outcomes = run_here(partial(_alone, config=config, exam=exam), cells, lambda line: log.info("%s", line))
    else:
        outcomes = run_in_processes(
            partial(_beside_others, config=config, exam=exam), cells, lambda line: log.info("%s", line), num_workers
        )
    found: dict[Cell, CellResult] = {}
    try:
        with closing(outcomes):
            for outcome in outcomes:
                if isinstance(outcome.error, _StoppedError):
                    break
                if outcome.error is not None:
                    raise outcome.error
                found[outcome.task] = outcome.result
                log.info("%d of %d runs are done", len(found), len(cells))
    finally:
        if len(found) < len(cells):
            log.warning("stopped; %d of %d runs are kept, and the same command goes on", len(found), len(cells))
    return [found[cell] for cell in cells if cell in found]


def _alone(cell: Cell, tick: Tick, config: TransferConfig, exam: Exam) -> CellResult:
    tick(f"run: {cell.text}")
    return _done(cell, config, exam)


def _beside_others(cell: Cell, tick: Tick, config: TransferConfig, exam: Exam) -> CellResult:
    """Do one run in a process of its own, whose output would run into that of the others."""
    file = Path(config.out) / "runs" / f"{cell.slug}.log"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as said, redirect_stdout(said), redirect_stderr(said):
        return _alone(cell, tick, config, exam)


def _done(cell: Cell, config: TransferConfig, exam: Exam) -> CellResult:
    """Return the result of one run, from where it is kept or by doing it."""
    run = _run_config(cell, config)
    pretrained = cell.row.weights == "pretrained"
    known_by = {
        "settings": [run.model_dump(mode="json", exclude={"out", "encoder"}), {"scored_at": "sensor"}],
        "recordings or labels": exam.data_sha256,
        "weights": read_card(encoder_folder(cell.row.encoder)).weights_sha256 if pretrained else None,
    }

    def compute() -> CellResult:
        result = run_finetune(run)
        if result.interrupted:
            raise _StoppedError
        objective, card = load_model(result.model)
        num_classes = len(card.classes) or None
        test = samples_of_tests(run, num_classes, exam.windows)
        scored = score_task(objective.predict, objective.task, test, num_classes)
        if cell.seed == config.seeds[0]:
            _draw(objective, test, scored, card.classes, Path(config.out) / "cells" / f"{cell.slug}.png")
        if not config.keep_checkpoints:
            shutil.rmtree(result.out / "checkpoints")
        return CellResult(cell, scored.figures, scored.sums, result.best_step, scored.by_class)

    return kept_cell(Path(config.out) / "cells", cell, known_by, compute)


def _without_runs(config: TransferConfig, plan: Plan) -> TransferResult:
    """Return what is known of the suite before its first run."""
    task, num_classes = plan.task, len(plan.classes) or None
    trivial = score_task(trivial_predictor(task, plan.training, num_classes), task, plan.test, num_classes)
    groups = np.array([number for number, _ in plan.test.windows])
    return TransferResult(Path(config.out), task, (), trivial, groups, _seen(config, plan.test), plan.classes)


def _run_config(cell: Cell, config: TransferConfig) -> FinetuneConfig:
    """Return the run of one cell.

    That of a row without pretraining names no encoder, but the network and the input that it shares with one.
    """
    changes = {
        **{f"data.{key}": value for key, value in config.data.items()},
        **{f"task.{key}": value for key, value in config.task.items()},
        **{f"train.{key}": value for key, value in config.train.items()},
        "task.adapt.mode": "frozen" if cell.protocol == "linear" else cell.protocol,
        **cell.labels.settings,
        "labels.seed": cell.seed,
        "train.seed": cell.seed,
        "encoder": cell.row.encoder,
        "weights": cell.row.weights,
        "out": str(Path(config.out) / "runs" / cell.slug),
    }
    run = parse_finetune(config.recipe, changes)
    if cell.protocol == "linear":
        run = run.model_copy(update={"task": {**run.task, "head": {"name": "linear"}}})
    return run if cell.row.weights == "pretrained" else without_encoder(run)


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
    prints = fingerprints_of(test)
    found = {
        row.name: leakage(read_card(encoder_folder(row.encoder)).trained_on, prints)
        for row in rows_of(config.encoders)
        if row.weights == "pretrained" and prints
    }
    return {name: leak.text() for name, leak in found.items() if leak.seen}
