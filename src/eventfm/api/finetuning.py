"""`finetune`: an encoder and labels in, a run folder with a model and a report out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import nn

from eventfm.api.finetune_config import (
    Beginning,
    FinetuneConfig,
    beginning_of,
    encoder_folder,
    parse_finetune,
)
from eventfm.api.run_report import read_metrics
from eventfm.api.task_pictures import TaskPictures
from eventfm.api.task_report import note_classes, write_task_report
from eventfm.data.build import DataConfig, Samples, build_samples
from eventfm.data.loader import Loader
from eventfm.data.pairs import WindowSamples
from eventfm.data.splits import open_parts
from eventfm.data.table import CollectionError
from eventfm.data.targets import named_classes
from eventfm.deployment.model import ModelCard, save_model
from eventfm.engine.distributed import world
from eventfm.engine.hooks import Best, Hooks
from eventfm.engine.run_folder import RunFolder
from eventfm.engine.settings import MAY_DIFFER
from eventfm.engine.trainer import train
from eventfm.evaluation.scoring import score_task
from eventfm.evaluation.subsets import k_shot, share_of
from eventfm.models.encoder import EncoderCard, initialise, sha256_of_list
from eventfm.random import derive
from eventfm.representations import VoxelGrid
from eventfm.representations import build as build_representation
from eventfm.tasks import build_task, wanted
from eventfm.tasks.metrics import SELECT

log = logging.getLogger(__name__)

LOOKS = 10
"""Scorings of the validation windows in a run, where `validate_every` is not given."""


@dataclass(frozen=True)
class FinetuneResult:
    """What a run on labels left."""

    out: Path
    model: Path
    step: int
    interrupted: bool
    figures: Mapping[str, float]
    """What the chosen step reached on the validation windows; none of a run that was interrupted."""
    best_step: int
    """The chosen step; of a run that was interrupted, the last one."""


class Opened(NamedTuple):
    """All that a run on labels consists of before its first step."""

    config: FinetuneConfig
    beginning: Beginning
    training: WindowSamples
    validation: WindowSamples
    """With labels of the sensor's own size."""
    window: dict[str, Any]
    classes: tuple[str, ...]
    trained_on: tuple[str, ...]
    objective: Any


def finetune(recipe: str | Path, **overrides: Any) -> FinetuneResult:
    """Train the head of a task, and the network under it, on labels; return where the model is kept.

    `recipe` is the name of a task (recognition, segmentation, flow, depth) or of a published protocol
    (`eventfm finetune --list`), or a YAML file. `encoder=FOLDER`, `data=PATH` and `out=FOLDER` say what to start from,
    what to learn from and where to keep it; any other key may follow. The validation windows, those of the split `val`
    or else a share of the others, choose the step that is kept; the split `test` is not touched.

    Raises:
        ValueError: A key that does not exist, data without the labels of the task, an encoder that does not fit, a
            folder that holds another run.
    """
    return run_finetune(parse_finetune(recipe, overrides))


def run_finetune(config: FinetuneConfig) -> FinetuneResult:
    """Do one run, or what is left of it."""
    opened = open_finetune(config)
    objective, training, validation = opened.objective, opened.training, opened.validation
    log.info("data: %d training windows, %d for validation", len(training), len(validation))
    folder = RunFolder(Path(config.out))
    pictures = TaskPictures(folder.path, replace(validation, label_size="input"), opened.classes)
    metric, mode = SELECT[objective.task]
    num_classes = len(opened.classes) or None

    def validate(objective: nn.Module, step: int) -> dict[str, float]:
        device = next(objective.parameters()).device
        predict, task = cast(Any, objective).predict, str(config.task["name"])
        scored = score_task(predict, task, validation, num_classes, batch_size=config.train.batch_size, device=device)
        if scored.by_class and world().rank == 0:
            note_classes(folder.path, step, scored.by_class)
        return {f"validation/{name}": value for name, value in scored.figures.items()}

    def export(objective: nn.Module, step: int) -> None:
        save_model(folder.path / "model", objective, _card(opened, step, folder))

    result = train(
        objective,
        lambda rank, world_size: Loader(
            training,
            config.train.per_rank(world_size),
            config.train.seed,
            rank,
            world_size,
            1 if config.data.num_workers == "auto" else config.data.num_workers,
        ),
        config.train,
        folder.path,
        config={
            **config.model_dump(mode="json"),
            "trained_on_sha256": sha256_of_list(opened.trained_on),
            "labels_sha256": sha256_of_list(_asked_about(opened)),
            **({"encoder_sha256": opened.beginning.card.weights_sha256} if opened.beginning.card else {}),
        },
        may_differ=MAY_DIFFER | {"validate_every"},
        hooks=Hooks(
            validate=validate,
            validate_every=_score_every(config, len(training)),
            pictures=pictures,
            export=export,
            best=Best(f"validation/{metric}", "max" if mode is max else "min"),
        ),
    )
    if world().rank == 0 and not result.interrupted:
        write_task_report(folder, config.model_dump(mode="json"), result, pictures)
    figures = {} if result.interrupted else _figures_of(folder, result.best_step)
    best = result.step if result.best_step is None else result.best_step
    return FinetuneResult(folder.path, folder.path / "model", result.step, result.interrupted, figures, best)


def open_finetune(config: FinetuneConfig) -> Opened:
    """Return all that a run on labels consists of.

    Raises:
        ValueError: As `finetune` raises.
    """
    parts = open_parts(config.data)
    source = parts["train"]
    assert source.collection is not None, "open_parts refuses what is no recording"
    beginning = beginning_of(config, (source.sensor.height, source.sensor.width))
    representation = build_representation(beginning.representation)
    named = config.classes or ()
    if not named and "semantic" in wanted(config.task):
        named = named_classes(entry for part in parts.values() if part.collection for entry in part.collection.entries)

    def samples(part: str, data: DataConfig) -> Samples:
        return build_samples(
            parts[part],
            data,
            representation,
            VoxelGrid(1),
            beginning.input_size,
            wanted=wanted(config.task),
            num_classes=len(named) or None,
        )

    everything = config.data.model_copy(update={"holdout": 0.0})
    made = samples("train", everything if "val" in parts else config.data)
    training = cast(WindowSamples, made.training)
    held_out = samples("val", everything).training if "val" in parts else made.held_out
    if held_out is None:
        more = "more recordings, or shorter windows" if config.data.holdout else "data.holdout above 0"
        raise CollectionError(
            f"no window is left to choose the best step by: give a split named val in data.labels, or {more}"
        )
    validation = replace(cast(WindowSamples, held_out), label_size="sensor")
    classes = _classes(config, source.collection.classes, named, (training, validation))
    if "semantic" in training.wanted:
        training, validation = (replace(part, class_limit=len(classes)) for part in (training, validation))
    training = _few(training, config)
    entries = source.collection.entries
    used = sorted({number for number, _ in training.windows})
    trained_on = tuple(f"{entries[n].name or Path(str(config.data.path)).name} {entries[n].fingerprint}" for n in used)
    window = made.window.model_dump(mode="json")
    objective = _objective(config, beginning, representation.channels, len(classes) or None)
    return Opened(config, beginning, training, validation, window, classes, trained_on, objective)


def _asked_about(opened: Opened) -> Iterator[str]:
    """Yield a line for each window that is learnt from or chosen by, with the class of its recording.

    Maps of pixels stand in it with their times, not with what they show, for which all would have to be read.
    """
    for part, samples in {"training": opened.training, "validation": opened.validation}.items():
        for number, window in samples.windows:
            entry = samples.collection.entries[number]
            kind = "" if entry.label is None else samples.collection.classes[entry.label]
            yield f"{part} {entry.name} {window.start} {window.stop} {kind}"


def _few(samples: WindowSamples, config: FinetuneConfig) -> WindowSamples:
    """Return the windows whose labels are used."""
    few = config.labels
    if few.share is None and few.shots is None:
        return samples
    if few.share is not None and few.shots is not None:
        raise ValueError("expected one of labels.share and labels.shots, got both")
    names = [f"{samples.entry(n).name}@{window.start}" for n, (_, window) in enumerate(samples.windows)]
    if few.shots is None:
        chosen = share_of(names, float(few.share or 1), few.seed)
    else:
        task = config.task.get("name")
        if task != "recognition":
            raise ValueError(f"labels.shots counts windows of each class of recognition; for {task} give labels.share")
        labels = [samples.entry(n).label for n in range(len(samples))]
        chosen = k_shot(np.array(labels), names, few.shots, few.seed)
    log.info("labels of %d of %d windows are used", len(chosen), len(samples))
    return replace(samples, windows=tuple(samples.windows[n] for n in chosen))


def _classes(
    config: FinetuneConfig, labels: tuple[str, ...], named: tuple[str, ...], parts: tuple[WindowSamples, WindowSamples]
) -> tuple[str, ...]:
    """Return the names of the classes, of tasks that have such: `labels` of recordings, or `named` ones of pixels."""
    task = str(config.task.get("name"))
    if task == "recognition":
        if not labels:
            raise CollectionError("recognition needs a class for every recording: give data.labels=TABLE.csv")
        return labels
    if task != "segmentation":
        return ()
    return named or tuple(f"class {n}" for n in range(max(part.num_classes() for part in parts)))


def _objective(config: FinetuneConfig, beginning: Beginning, channels: int, num_classes: int | None) -> Any:
    """Build the task with weights drawn from the run's seed, and those of the encoder where it is to start from it."""
    representation = build_representation(beginning.representation)

    def start(backbone: nn.Module) -> None:
        if config.encoder is not None and config.weights == "pretrained":
            initialise(backbone, encoder_folder(config.encoder), representation)

    task = {**config.task, "backbone": beginning.backbone.model_dump(mode="json")}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(config.train.seed, "weights"))
        return build_task(task, channels, beginning.input_size, num_classes, start)


def _score_every(config: FinetuneConfig, num_samples: int) -> int:
    if config.validate_every is not None:
        return config.validate_every
    steps = config.train.num_steps or (config.train.epochs or 1) * max(1, num_samples // config.train.batch_size)
    return max(1, steps // LOOKS)


def _card(opened: Opened, step: int, folder: RunFolder) -> ModelCard:
    config, beginning = opened.config, opened.beginning
    metric, mode = SELECT[opened.objective.task]
    sensor = opened.training.collection.sensor
    parent = beginning.card
    pretrained = parent is not None and config.weights == "pretrained"
    return ModelCard(
        task={**config.task, "backbone": beginning.backbone.model_dump(mode="json")},
        encoder=EncoderCard(
            backbone=beginning.backbone,
            in_channels=opened.training.representation.channels,
            input_size=beginning.input_size,
            representation=beginning.representation,
            window=opened.window,
            sensor={"width": sensor.width, "height": sensor.height, "name": sensor.name, "inferred": sensor.inferred},
            parents=(f"encoder {parent.method} {parent.weights_sha256}",) if parent and pretrained else (),
            method=parent.method if parent and pretrained else "scratch",
            trained_on=parent.trained_on if parent and pretrained else (),
            overlaps=parent.overlaps if parent and pretrained else (),
            trained_on_sha256=parent.trained_on_sha256 if parent and pretrained else "",
        ),
        classes=opened.classes,
        trained_on=opened.trained_on,
        figures=_figures_of(folder, step),
        chosen_by=f"{'most' if mode is max else 'least'} {metric} on {len(opened.validation)} validation windows, "
        f"at step {step}",
        recipe=config.model_dump(mode="json", exclude={"out"}),
    )


def _figures_of(folder: RunFolder, step: int | None) -> dict[str, float]:
    """Return what the validation windows gave after `step` steps."""
    prefix = "validation/"
    for record in reversed(read_metrics(folder)):
        if record["step"] == step:
            return {key.removeprefix(prefix): value for key, value in record.items() if key.startswith(prefix)}
    return {}
