"""`pretrain`: a recipe and data in, a run folder with an encoder and a report out."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from eventfm.api.held_out import look, look_every
from eventfm.api.left_out import write_curation
from eventfm.api.run_config import RunConfig, TeacherConfig, parse_run, read_recipe, resolve_sizes
from eventfm.api.run_pictures import RunPictures
from eventfm.api.run_report import write_run_report
from eventfm.api.stages import STAGES, read_stages
from eventfm.api.starting import Start, start_of
from eventfm.api.teaching import Teaching, open_teaching
from eventfm.config import apply_overrides
from eventfm.data.build import Samples, Source, build_samples, open_source
from eventfm.data.loader import Loader
from eventfm.engine.distributed import world
from eventfm.engine.hooks import Hooks
from eventfm.engine.run_folder import RunFolder
from eventfm.engine.settings import MAY_DIFFER
from eventfm.engine.trainer import train
from eventfm.methods import build_method, has_teacher, needs_activity
from eventfm.models.configs import BackboneConfig
from eventfm.models.encoder import EncoderCard, save_encoder, sha256_of_list
from eventfm.protocols import Representation
from eventfm.random import derive
from eventfm.representations import VoxelGrid, describe
from eventfm.representations import build as build_representation

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunResult:
    """What a run left."""

    out: Path
    encoder: Path
    step: int
    interrupted: bool
    metrics: Mapping[str, float]
    """The last line of metrics."""


def pretrain(recipe: str | Path, **overrides: Any) -> RunResult:
    """Pretrain an encoder by `recipe` and return where it is kept.

    `recipe` is a name (`eventfm pretrain --list`) or a YAML file. `out=FOLDER` is required; `data=PATH` says what to
    train on, `teacher=NAME` whom to learn from where the recipe has a teacher; any other key of the recipe may follow,
    nested (`train={"num_steps": 100}`) or dotted through `**{"train.num_steps": 100}`. A folder that holds the same
    run, unfinished, is resumed.

    A recipe of several stages runs them in order, each in a folder of its own (`stages.read_stages`); `out/encoder` is
    the last one's, and `out/report.html` is about all of them.

    Raises:
        ValueError: A key that does not exist, data that cannot be read, a folder that holds another run.
    """
    values, changes = read_recipe(recipe, overrides)
    if apply_overrides(values, changes).get(STAGES):
        from eventfm.api.staging import run_stages

        return run_stages(read_stages(values, changes, f"recipe {recipe}"), Path(str(changes["out"])), run, check)
    single = [{key: value for key, value in part.items() if key != STAGES} for part in (values, changes)]
    return run(parse_run(*single, f"recipe {recipe}"))


def run(config: RunConfig) -> RunResult:
    """Do one run, or what is left of it."""
    config, source, representation, image_size, teaching, samples, objective, decisions = _open(config)
    for decision in decisions:
        log.info("%s", decision)
    log.info(
        "data: %d training samples, %d held out, target %s",
        len(samples.training), len(samples.held_out or ()), samples.target,
    )  # fmt: skip
    _warn_of_queue(objective, len(samples.training))
    start = start_of(config, objective.encoder(), representation)
    card = _card(config, representation, image_size, source, samples, teaching, start)
    folder = RunFolder(Path(config.out))
    pictures = RunPictures(folder.path, samples)
    identity = {
        **config.model_dump(mode="json"),
        "trained_on_sha256": card.trained_on_sha256,
        **({"init_sha256": start.weights_sha256} if start else {}),
        **({"teacher_identity": teaching.identity} if teaching else {}),
    }

    def export(objective: Any, step: int) -> None:
        save_encoder(folder.encoder, objective.encoder(), card)
        write_curation(folder.path, samples)

    held_out = samples.held_out
    result = train(
        objective,
        lambda rank, world_size: Loader(
            samples.training,
            config.train.per_rank(world_size),
            config.train.seed,
            rank,
            world_size,
            _num_workers(config),
        ),
        config.train,
        folder.path,
        config=identity,
        may_differ=MAY_DIFFER | {"validate_every"},
        hooks=Hooks(
            validate=(lambda objective, step: look(objective, step, held_out, config.train.batch_size))
            if held_out
            else None,
            validate_every=look_every(config, len(samples.training)),
            pictures=pictures,
            export=export,
        ),
    )
    if world().rank == 0 and not result.interrupted:
        write_run_report(folder, config, card, result, pictures)
    metrics = result.metrics or _last_metrics(folder)
    return RunResult(folder.path, folder.encoder, result.step, result.interrupted, metrics)


def check(config: RunConfig) -> None:
    """Raise what `run` would raise before its first step: data, teacher, sizes that do not fit each other."""
    _open(config)


class _Opened(NamedTuple):
    """All that a run consists of before its first step."""

    config: RunConfig
    source: Source
    representation: Representation
    image_size: tuple[int, int]
    teaching: Teaching | None
    samples: Samples
    objective: Any
    decisions: list[str]


def _open(config: RunConfig) -> _Opened:
    """Return all that a run consists of; `config` has its sizes filled in."""
    taught = has_teacher(str(config.method.get("name")))
    if not taught:  # whom others learn from is nothing to this run
        config = config.model_copy(update={"teacher": TeacherConfig()})
    source = open_source(config.data)
    image_size, patch, decisions = resolve_sizes(config, source.sensor)
    config = _with_sizes(config, image_size, patch)
    representation = build_representation(config.representation)
    teaching = open_teaching(config.teacher, source, image_size) if taught else None
    samples = build_samples(
        source,
        config.data,
        representation,
        VoxelGrid(1),
        image_size,
        teaching.input if teaching else None,
        patch if needs_activity(config.method) else None,
    )
    objective = _build(config, representation.channels, image_size, teaching)
    if (queue := getattr(objective, "queue", None)) is not None:
        queue.check(config.train.batch_size)
    return _Opened(config, source, representation, image_size, teaching, samples, objective, decisions)


def untrained(card: EncoderCard, seed: int = 0) -> torch.nn.Module:
    """Return the backbone of `card` as it was before any training, drawn from `seed`."""
    from eventfm.models import build_backbone

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "weights"))
        backbone = build_backbone(card.backbone.name, card.in_channels, card.input_size, **card.backbone.arguments)
    assert isinstance(backbone, torch.nn.Module)
    return backbone.eval()


def _with_sizes(config: RunConfig, image_size: tuple[int, int], patch: int) -> RunConfig:
    backbone = dict(config.method.get("backbone", {}))
    backbone["arguments"] = {**backbone.get("arguments", {}), "patch_size": patch}
    return config.model_copy(
        update={
            "method": {**config.method, "backbone": backbone},
            "data": config.data.model_copy(update={"image_size": image_size}),
        }
    )


def _build(config: RunConfig, channels: int, image_size: tuple[int, int], teaching: Teaching | None) -> Any:
    """Build the objective with weights drawn from the run's seed, leaving everybody else's draws alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(config.train.seed, "weights"))
        return build_method(config.method, channels, image_size, teaching.teacher if teaching else None)


def _warn_of_queue(objective: Any, num_samples: int) -> None:
    """Say so where a queue of negatives outlasts an epoch: a sample is then told from itself."""
    queue = getattr(objective, "queue", None)
    if queue is not None and queue.length > num_samples:
        log.warning(
            "the queue holds %d negatives per position and there are %d training samples: the keys of a sample stand "
            "among its own negatives; a queue_length (method.contrast) below the number of samples, or 0, avoids that",
            queue.length, num_samples,
        )  # fmt: skip


def _card(
    config: RunConfig,
    representation: Representation,
    image_size: tuple[int, int],
    source: Source,
    samples: Samples,
    teaching: Teaching | None,
    start: Start | None,
) -> EncoderCard:
    parents = [start.lineage] if start else []
    parents += [f"teacher {json.dumps(teaching.identity, sort_keys=True)}"] if teaching else []
    # What an earlier stage saw, this encoder has seen too.
    seen = dict.fromkeys([*(start.trained_on if start else ()), *samples.identity])
    tests = [f"{name}: {benchmarks}" for name, benchmarks in source.overlaps.items()]
    sensor = source.sensor
    return EncoderCard(
        backbone=BackboneConfig.parse(config.method["backbone"], under="method.backbone"),
        in_channels=representation.channels,
        input_size=image_size,
        representation=describe(representation),
        window=samples.window.model_dump(mode="json"),
        sensor={"width": sensor.width, "height": sensor.height, "name": sensor.name, "inferred": sensor.inferred},
        normalisation=samples.coding,
        parents=tuple(parents),
        method=str(config.method["name"]),
        recipe=config.model_dump(mode="json", exclude={"out"}),
        trained_on=tuple(seen),
        overlaps=tuple(dict.fromkeys([*(start.overlaps if start else ()), *tests])),
        trained_on_sha256=sha256_of_list(seen),
    )


def _last_metrics(folder: RunFolder) -> dict[str, float]:
    """Return the last line of metrics of a run that was complete before."""
    lines = folder.metrics.read_text(encoding="utf-8").splitlines() if folder.metrics.exists() else []
    return json.loads(lines[-1]) if lines else {}


def _num_workers(config: RunConfig) -> int:
    if config.data.num_workers != "auto":
        return config.data.num_workers
    return max(1, min(4, (os.cpu_count() or 1) // 2))
