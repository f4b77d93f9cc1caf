"""`pretrain`: a recipe and data in, a run folder with an encoder and a report out."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from eventfm.api.run_config import RunConfig, read_run_config, resolve_sizes
from eventfm.api.run_report import RunPictures, write_run_report
from eventfm.data.build import Samples, build_samples, open_source
from eventfm.data.loader import Loader, evaluation_batches
from eventfm.engine.distributed import world
from eventfm.engine.feed import to_device
from eventfm.engine.hooks import Hooks
from eventfm.engine.monitor import dead_share, effective_rank, mean_cosine
from eventfm.engine.run_folder import RunFolder
from eventfm.engine.settings import MAY_DIFFER
from eventfm.engine.trainer import train
from eventfm.events import Sensor
from eventfm.methods import build_method
from eventfm.models.configs import BackboneConfig
from eventfm.models.encoder import EncoderCard, save_encoder
from eventfm.protocols import Progress, Representation
from eventfm.random import derive
from eventfm.representations import VoxelGrid, describe
from eventfm.representations import build as build_representation

log = logging.getLogger(__name__)

MAX_VALIDATION = 512
"""Held-out samples that a look at the loss uses, evenly chosen: from this many on, less than twice as many."""
LOOKS = 10
"""Looks at the held-out data in a run, where `validate_every` is not given."""


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
    train on; any other key of the recipe may follow, nested (`train={"num_steps": 100}`) or dotted through
    `**{"train.num_steps": 100}`. A folder that holds the same run, unfinished, is resumed.

    Raises:
        ValueError: A key that does not exist, data that cannot be read, a folder that holds another run.
    """
    config = read_run_config(recipe, overrides)
    source = open_source(config.data)
    image_size, patch, decisions = resolve_sizes(config, source.sensor)
    for decision in decisions:
        log.info("%s", decision)
    config = _with_sizes(config, image_size, patch)
    representation = build_representation(config.representation)
    samples = build_samples(source, config.data, representation, VoxelGrid(1), image_size)
    log.info(
        "data: %d training samples, %d held out, target %s",
        len(samples.training), len(samples.held_out or ()), samples.target,
    )  # fmt: skip
    objective = _build(config, representation.channels, image_size)
    card = _card(config, representation, image_size, source.sensor, samples)
    folder = RunFolder(Path(config.out))
    pictures = RunPictures(folder.path, samples)
    identity = {**config.model_dump(mode="json"), "trained_on_sha256": card.trained_on_sha256}

    def export(objective: Any, step: int) -> None:
        save_encoder(folder.encoder, objective.encoder(), card)

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
            validate=(lambda objective, step: _look(objective, step, samples, config)) if samples.held_out else None,
            validate_every=config.validate_every or _look_every(config, len(samples.training)),
            pictures=pictures,
            export=export,
        ),
    )
    if world().rank == 0 and not result.interrupted:
        write_run_report(folder, config, card, result, pictures)
    metrics = result.metrics or _last_metrics(folder)
    return RunResult(folder.path, folder.encoder, result.step, result.interrupted, metrics)


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


def _build(config: RunConfig, channels: int, image_size: tuple[int, int]) -> torch.nn.Module:
    """Build the objective with weights drawn from the run's seed, leaving everybody else's draws alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(config.train.seed, "weights"))
        objective = build_method(config.method, channels, image_size)
    assert isinstance(objective, torch.nn.Module)
    return objective


def _card(
    config: RunConfig,
    representation: Representation,
    image_size: tuple[int, int],
    sensor: Sensor,
    samples: Samples,
) -> EncoderCard:
    from eventfm.models.encoder import sha256_of_list

    return EncoderCard(
        backbone=BackboneConfig.parse(config.method["backbone"], "method.backbone"),
        in_channels=representation.channels,
        input_size=image_size,
        representation=describe(representation),
        window=samples.window.model_dump(mode="json"),
        sensor={"width": sensor.width, "height": sensor.height, "name": sensor.name, "inferred": sensor.inferred},
        method=str(config.method["name"]),
        recipe=config.model_dump(mode="json", exclude={"out"}),
        trained_on=samples.identity,
        trained_on_sha256=sha256_of_list(samples.identity),
    )


def _last_metrics(folder: RunFolder) -> dict[str, float]:
    """Return the last line of metrics of a run that was complete before."""
    lines = folder.metrics.read_text(encoding="utf-8").splitlines() if folder.metrics.exists() else []
    return json.loads(lines[-1]) if lines else {}


def _num_workers(config: RunConfig) -> int:
    if config.data.num_workers != "auto":
        return config.data.num_workers
    return max(1, min(4, (os.cpu_count() or 1) // 2))


def _look_every(config: RunConfig, num_samples: int) -> int:
    steps = config.train.num_steps or (config.train.epochs or 1) * max(1, num_samples // config.train.batch_size)
    return max(1, steps // LOOKS)


@torch.no_grad()
def _look(objective: Any, step: int, samples: Samples, config: RunConfig) -> dict[str, float]:
    """Return the loss on held-out samples, and whether their features are about to collapse."""
    assert samples.held_out is not None
    device = next(objective.parameters()).device
    indices = list(range(len(samples.held_out)))[:: max(1, len(samples.held_out) // MAX_VALIDATION)]
    totals: dict[str, float] = {}
    features, seen = [], 0
    for batch in evaluation_batches(samples.held_out, min(64, config.train.batch_size), indices):
        batch = to_device(batch, device)
        size = len(batch["key"])
        outputs = objective(batch, Progress(step, step))
        for name, value in outputs.items():
            totals[name] = totals.get(name, 0.0) + float(value) * size
        features.append(objective.encoder()(batch["input"]).tokens.mean(1).float())
        seen += size
    figures = {f"held_out/{name}": total / seen for name, total in totals.items()}
    joined = torch.cat(features)
    if len(joined) > 1:
        figures["features/effective_rank"] = float(effective_rank(joined))
        figures["features/mean_cosine"] = float(mean_cosine(joined))
        figures["features/dead_share"] = float(dead_share(joined))
    return figures
