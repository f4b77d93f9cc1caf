"""What a transfer suite learns from and is scored on, opened and checked before its first run."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, cast

from eventfm.api.finetune_config import FewLabels, FinetuneConfig, beginning_of
from eventfm.api.finetuning import open_finetune
from eventfm.data.build import build_samples
from eventfm.data.pairs import WindowSamples
from eventfm.data.splits import open_parts
from eventfm.data.windows import Window
from eventfm.evaluation.label_checks import labelled_digest, read_labels
from eventfm.representations import VoxelGrid
from eventfm.representations import build as build_representation
from eventfm.tasks import wanted

log = logging.getLogger(__name__)

Windows = tuple[tuple[int, Window], ...]
"""Number of the recording among those for testing, and the window in it."""


class Exam(NamedTuple):
    """What every run of a suite is scored on."""

    windows: Windows
    data_sha256: str
    """What tells the recordings, labels and test windows of the suite from others."""


class Plan(NamedTuple):
    """What a suite consists of beside its runs."""

    task: str
    exam: Exam
    training: WindowSamples
    """With all labels."""
    test: WindowSamples
    classes: tuple[str, ...]


def plan_of(asked: FinetuneConfig, runs: Sequence[FinetuneConfig]) -> Plan:
    """Return the plan of a suite; `runs` are opened, up to their first step, to see that they can be done.

    `asked` is a run with the head that was asked for. It alone decides the test windows: where it compares windows
    (`raft`), those without another before them are left out for every run, so that all answer the same questions.

    Raises:
        ValueError: A run cannot be done, or not be scored: no recordings for testing, or none of their windows has
            what is wanted; labels of another size or of unknown classes; fewer labels than shots.
    """
    kinds = wanted(asked.task)
    log.info("before the first run: opening %d kinds of run, reading all labels", len(runs))
    parts = open_parts(asked.data, needed=("train", "test"))
    first = runs[0].model_copy(update={"labels": FewLabels()})
    opened = open_finetune(first)
    num_classes = len(opened.classes) or None
    test = samples_of_tests(asked, num_classes)
    read_labels(test.collection, test.wanted, test.windows, num_classes)
    for run in runs:
        if run != first:
            open_finetune(run)
    digests = {
        part: labelled_digest(source.collection, kinds, test.windows if part == "test" else ())
        for part, source in parts.items()
        if source.collection is not None
    }
    whole = hashlib.sha256(json.dumps([digests, opened.classes], sort_keys=True).encode()).hexdigest()[:16]
    return Plan(str(asked.task["name"]), Exam(test.windows, whole), opened.training, test, opened.classes)


def samples_of_tests(run: FinetuneConfig, num_classes: int | None, windows: Windows | None = None) -> WindowSamples:
    """Return the test windows, or those of them that are given, as the encoder of `run` reads them.

    Labels have the sensor's own size.

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
    found = replace(cast(WindowSamples, samples), label_size="sensor")
    return found if windows is None else replace(found, windows=windows)
