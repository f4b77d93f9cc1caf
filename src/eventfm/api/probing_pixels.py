"""`evaluate probe task=segmentation`: what frozen patches say of the classes of pixels, beside untrained ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt

from eventfm.api.pixel_probe_report import print_pixel_probe, write_pixel_probe
from eventfm.api.probe_inputs import ProbeData, encoder_names, encoders_of_parts, sees_tests, untrained_twins
from eventfm.api.settings import nested
from eventfm.config import Config
from eventfm.data.collection import Collection
from eventfm.data.pairs import WindowSamples, cut_collection
from eventfm.data.sequences import open_recordings
from eventfm.data.targets import check_labels, check_wanted, count_classes, named_classes
from eventfm.data.transforms import AugmentConfig
from eventfm.data.windows import Window, WindowConfig
from eventfm.deployment.predict import LoadedEncoder
from eventfm.evaluation.intervals import Interval, added_up, interval, paired_interval
from eventfm.evaluation.patch_neighbours import PatchNeighbours, fill_bank
from eventfm.evaluation.protocol import Part, ProtocolError, parts
from eventfm.evaluation.scoring import Predict, Scored, score_task
from eventfm.evaluation.trivial import trivial_predictor
from eventfm.representations import VoxelGrid
from eventfm.tasks.metrics import build_metrics
from eventfm.tasks.metrics_classes import iou_by_class

log = logging.getLogger(__name__)

TRIVIAL = "trivial (does not look)"
_WINDOW = {"by": "frame", "track": "semantic", "frame_at": "end", "duration_us": 50_000}

Answer = Callable[[LoadedEncoder, WindowSamples], Predict]
"""Returns what answers, given an encoder and the training windows of a part."""


class PixelProbeConfig(Config):
    """Settings of the probe of pixels."""

    task: Literal["segmentation"]
    encoders: str | list[str]
    """Encoder folders, separated by commas; `{fold}` in a path stands for the fold that is scored."""
    data: ProbeData
    out: str
    """Folder for the table, the figures and the report."""
    window: dict[str, Any] = Field(default_factory=dict)
    """How windows differ from the 50 ms up to each map of labels, which are those of `finetune segmentation`."""
    neighbours: PositiveInt = 30
    """Patches of the training windows that each patch asks."""
    temperature: PositiveFloat = 0.02
    """By which their cosines are divided before they are made weights."""
    bank: PositiveInt = 20_000
    """Labelled patches of the training windows that are kept; those beyond are left out by a hash."""
    device: str = "cpu"
    allow_overlap: bool = False
    """Probe even where an encoder was pretrained, without labels, on recordings that it is scored on."""


@dataclass(frozen=True)
class PixelProbeResult:
    """Scores of every row, and what pretraining adds."""

    out: Path
    rows: dict[str, Scored]
    """By name: each encoder, the same network untrained, and what does not look; over all parts."""
    groups: NDArray[np.int64]
    """(N,) the recording of each test window."""
    differences: dict[str, Interval]
    """`"a - b"`: in `miou`, with its paired bootstrap interval over recordings; none of a single recording."""
    overlap: bool
    classes: tuple[str, ...]

    def interval(self, name: str) -> Interval | None:
        """Return the `miou` of a row with its bootstrap interval over recordings; None where there is only one."""
        sums = added_up(self.rows[name].sums, self.groups)
        from_sums = build_metrics("segmentation", len(self.classes)).from_sums
        return interval(sums, from_sums).get("miou") if len(sums) > 1 else None


@dataclass(frozen=True)
class _Maps:
    """The labelled windows of all recordings that are learnt from or scored on."""

    collection: Collection
    windows: tuple[tuple[int, Window], ...]
    config: WindowConfig
    classes: tuple[str, ...]
    protocol: list[Part]

    def samples(self, encoder: LoadedEncoder, members: NDArray[np.int64]) -> WindowSamples:
        """Return the windows of the recordings `members` as `encoder` reads them."""
        return WindowSamples(
            self.collection,
            tuple(window for window in self.windows if window[0] in members),
            self.config,
            encoder.representation,
            VoxelGrid(1),
            encoder.input_size,
            AugmentConfig.none(),
            wanted=("semantic",),
            class_limit=len(self.classes),
        )


def probe_pixels(**settings: Any) -> PixelProbeResult:
    """Score frozen tokens by the classes that the nearest labelled patches have (`evaluation.patch_neighbours`).

    Nothing is trained and nothing chosen. Answers are upsampled bilinearly to the labels' own size. For every encoder a
    row of the same network with the weights it started from is added, and one of the majority class.

    Raises:
        ValueError: Unknown key, recordings without maps of classes or without folds or splits, or an encoder that has
            seen its test recordings.
    """
    config = PixelProbeConfig.parse(nested(settings), "evaluate probe task=segmentation")
    names = encoder_names(config.encoders)
    maps = _opened(config)
    num_classes = len(maps.classes)

    def neighbours(encoder: LoadedEncoder, training: WindowSamples) -> Predict:
        named = [f"{training.entry(n).name}@{window.start}" for n, (_, window) in enumerate(training.windows)]
        bank = fill_bank(encoder.backbone, training, named, num_classes, config.bank)
        return PatchNeighbours(encoder.backbone, bank, config.neighbours, config.temperature)

    rows: dict[str, Scored] = {}
    overlap = False
    for name, label in names.items():
        encoders = encoders_of_parts(name, maps.protocol, config.device)
        overlap |= sees_tests(maps.collection, encoders, maps.protocol, config.allow_overlap)
        if not rows:
            rows[TRIVIAL] = _scored(
                maps, encoders, lambda _, training: trivial_predictor("segmentation", training, num_classes)
            )
        for row, members in ((label, encoders), (f"{label}, untrained", untrained_twins(encoders))):
            log.info("patches: %s", row)
            rows[row] = _scored(maps, members, neighbours)
    groups = np.concatenate([_numbers(maps, part.test) for part in maps.protocol])
    differences = _differences(list(names.values()), rows, groups, num_classes)
    result = PixelProbeResult(Path(config.out), rows, groups, differences, overlap, maps.classes)
    write_pixel_probe(result, config.model_dump(mode="json"))
    print_pixel_probe(result)
    return result


def _opened(config: PixelProbeConfig) -> _Maps:
    window = WindowConfig.parse({**_WINDOW, **config.window}, under="window")
    check_wanted(("semantic",), window, AugmentConfig.none())
    collection = open_recordings(
        config.data.path,
        labels=config.data.labels,
        format=config.data.format,
        sensor=config.data.sensor,
        on_error=config.data.on_error,
    )
    # Others, such as those of a split val, need no labels.
    used = sorted({int(i) for part in _parts_of(collection) for i in (*part.train, *part.test)})
    collection = replace(collection, entries=tuple(collection.entries[i] for i in used))
    windows, _ = cut_collection(collection, window)
    classes = named_classes(collection.entries)
    classes = classes or tuple(f"class {n}" for n in range(count_classes(collection, windows)))
    check_labels(collection, windows, "semantic", len(classes))
    protocol = _parts_of(collection)
    cut_from = {number for number, _ in windows}
    for part in protocol:
        for members, purpose in ((part.train, "learn from"), (part.test, "score")):
            if cut_from.isdisjoint(members.tolist()):
                where = "" if part.fold is None else f" where fold {part.fold} is scored"
                raise ProtocolError(f"none of the {len(members)} recordings to {purpose}{where} has a map of classes")
    return _Maps(collection, tuple(windows), window, classes, protocol)


def _parts_of(collection: Collection) -> list[Part]:
    return parts([entry.split for entry in collection.entries], [entry.fold for entry in collection.entries])


def _scored(maps: _Maps, encoders: Sequence[LoadedEncoder], answer: Answer) -> Scored:
    """Return what is answered of the test windows of all parts, each part by its own encoder."""
    num_classes = len(maps.classes)
    sums = []
    for part, encoder in zip(maps.protocol, encoders, strict=True):
        predict = answer(encoder, maps.samples(encoder, part.train))
        test = replace(maps.samples(encoder, part.test), label_size="sensor")
        device = next(encoder.backbone.parameters()).device
        sums.append(score_task(predict, "segmentation", test, num_classes, device=device).sums)
    whole = np.concatenate(sums)
    by_class = tuple(None if np.isnan(iou) else iou for iou in iou_by_class(whole.sum(0)).tolist())
    return Scored(build_metrics("segmentation", num_classes).from_sums(whole.sum(0)), whole, by_class)


def _numbers(maps: _Maps, members: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the recording of each window of `members`, in the order in which they are scored."""
    return np.array([number for number, _ in maps.windows if number in members], np.int64)


def _differences(
    labels: Sequence[str], rows: dict[str, Scored], groups: NDArray[np.int64], num_classes: int
) -> dict[str, Interval]:
    if len(np.unique(groups)) < 2:
        return {}
    from_sums = build_metrics("segmentation", num_classes).from_sums
    found: dict[str, Interval] = {}
    for label in labels:
        for rival in (f"{label}, untrained", TRIVIAL):
            ours, theirs = (added_up(rows[name].sums, groups) for name in (label, rival))
            if difference := paired_interval(ours, theirs, from_sums).get("miou"):
                found[f"{label} - {rival}"] = difference
    return found
