"""`evaluate`: the suites, and the quickest of them, how good frozen features are beside untrained ones and counts."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt

from eventfm.api.probe_inputs import ProbeData, encoder_names, encoders_of_parts, sees_tests, untrained_twins
from eventfm.api.probe_report import print_probe, write_probe_report
from eventfm.api.settings import nested
from eventfm.config import Config, ConfigError, Several
from eventfm.data.collection import Collection, labels_of
from eventfm.data.pairs import write_grid
from eventfm.data.sequences import open_recordings
from eventfm.data.transforms import Geometry
from eventfm.data.windows import WindowConfig, WindowError, read, spread
from eventfm.deployment.predict import LoadedEncoder
from eventfm.engine.run_folder import write_atomic
from eventfm.evaluation import probes
from eventfm.evaluation.protocol import Score, paired_difference, parts, score
from eventfm.events import Events
from eventfm.registry import did_you_mean
from eventfm.representations import PolarityCounts

if TYPE_CHECKING:
    from eventfm.api.disturbing import RobustnessResult
    from eventfm.api.probing_pixels import PixelProbeResult
    from eventfm.api.transferring import TransferResult

log = logging.getLogger(__name__)

SUITES = ("probe", "transfer", "robustness")
TASKS = ("recognition", "segmentation")
"""What frozen features are probed for."""
PROBES: dict[str, probes.Probe] = {"linear": probes.linear, "knn": probes.nearest_neighbours}
BASELINES: dict[str, probes.Probe] = {
    "ridge": probes.ridge,
    "knn": probes.nearest_neighbours,
    "rbf_svm": probes.rbf_svm,
}
COUNT_SIDE = 48
"""Count images are brought down to at most this many pixels a side, so that the baselines stay tractable."""


class ProbeConfig(Config):
    """Settings of the probe of whole recordings; `probing_pixels.PixelProbeConfig` has those of pixels."""

    task: Literal["recognition"] = "recognition"
    encoders: str | list[str]
    """Encoder folders, separated by commas; `{fold}` in a path stands for the fold that is scored."""
    data: ProbeData
    out: str
    """Folder for the table, the figures and the report."""
    windows: PositiveInt = 3
    """Windows that stand for one recording, evenly over its length."""
    window: WindowConfig | None = None
    """How recordings are cut, where it is not as each encoder was trained."""
    pool: Literal["concat", "mean"] = "concat"
    """How the features of these windows become one vector."""
    probes: Several[Literal["linear", "knn"]] = ("linear", "knn")
    baselines: Several[Literal["ridge", "knn", "rbf_svm"]] = ("ridge", "knn", "rbf_svm")
    """Classifiers on log counts of events per pixel and polarity, over the whole recording."""
    allow_overlap: bool = False
    """Probe even where an encoder was pretrained, without labels, on recordings that it is scored on."""


@dataclass(frozen=True)
class ProbeResult:
    """Scores of every row, and differences of pretrained rows to what they must beat."""

    out: Path
    scores: tuple[Score, ...]
    differences: dict[str, tuple[float, float, float]]
    """`"a - b"`: difference in accuracy, and the ends of its paired bootstrap interval."""
    overlap: bool
    num_classes: int

    def row(self, name: str, probe: str) -> Score:
        """Return the score of one row."""
        return next(s for s in self.scores if (s.name, s.probe) == (name, probe))


def evaluate(
    suite: str = "probe", **settings: Any
) -> ProbeResult | PixelProbeResult | TransferResult | RobustnessResult:
    """Run an evaluation suite and return its scores.

    `encoders=`, `data={"path": ..., "labels": ...}` and `out=` are required. `probe` scores frozen features of whole
    recordings by their class, or with `task=segmentation` those of patches by the classes of pixels, in minutes
    (`probe`, `probing_pixels.probe_pixels`); `transfer` trains any task on labels, frozen or not, with all or
    few of them, over seeds (`transferring.transfer`); `robustness` scores models, `models=`, on events that were made
    worse (`disturbing.robustness`).

    Raises:
        ValueError: Unknown suite, task or key, labels that do not fit, or an encoder that has seen its test recordings.
    """
    if suite not in SUITES:
        raise ConfigError(f"unknown suite {suite!r}{did_you_mean(suite, list(SUITES))}")
    if suite == "transfer":
        from eventfm.api.transferring import transfer

        return transfer(**settings)
    if suite == "robustness":
        from eventfm.api.disturbing import robustness

        return robustness(**settings)
    task = settings.get("task", "recognition")
    if task not in TASKS:
        raise ConfigError(f"expected task={' or task='.join(TASKS)} for a probe, got {task!r}")
    if task == "segmentation":
        from eventfm.api.probing_pixels import probe_pixels

        return probe_pixels(**settings)
    return probe(**settings)


def probe(**settings: Any) -> ProbeResult:
    """Score frozen features by linear and nearest-neighbour probes.

    For every encoder a row of the same network with the weights it started from is added, and rows of plain
    classifiers on event counts. Every setting is chosen by cross-validation inside the training part.

    Raises:
        ValueError: Unknown key, labels that do not fit, or an encoder that has seen its test recordings.
    """
    config = ProbeConfig.parse(nested(settings), "evaluate probe")
    names = encoder_names(config.encoders)
    collection = open_recordings(
        config.data.path,
        labels=config.data.labels,
        format=config.data.format,
        sensor=config.data.sensor,
        on_error=config.data.on_error,
    )
    labels = labels_of(collection)
    protocol = parts([entry.split for entry in collection.entries], [entry.fold for entry in collection.entries])
    scores: list[Score] = []
    overlap = False
    differences: dict[str, tuple[float, float, float]] = {}

    counts = count_features(collection)
    for baseline in config.baselines:
        log.info("counts, %s", baseline)
        scores.append(score("counts", baseline, BASELINES[baseline], [counts] * len(protocol), labels, protocol))
    for name, label in names.items():
        encoders = encoders_of_parts(name, protocol)
        overlap |= sees_tests(collection, encoders, protocol, config.allow_overlap)
        rows = {label: encoders, f"{label}, untrained": untrained_twins(encoders)}
        for row, members in rows.items():
            log.info("features: %s", row)
            features = _once_each(
                members, lambda encoder: features_of(collection, encoder, config.windows, config.pool, config.window)
            )
            scores += [score(row, probe, PROBES[probe], features, labels, protocol) for probe in config.probes]
        _compare(scores, label, config, differences)
    result = ProbeResult(Path(config.out), tuple(scores), differences, overlap, len(collection.classes))
    _write(result, config)
    print_probe(result)
    return result


def features_of(
    collection: Collection, encoder: LoadedEncoder, num_windows: int, pool: str, window: WindowConfig | None = None
) -> NDArray[np.float32]:
    """Return one row per recording (N, D) or, with `pool="concat"`, (N, num_windows * D).

    Raises:
        WindowError: A recording has no window, as it is empty or has no frames; the message names it.
    """

    def windows() -> Iterator[Events]:
        for entry in collection.entries:
            try:
                chosen = spread(entry.recording, window or encoder.window, num_windows)
            except WindowError as error:
                raise WindowError(f"recording {entry.name!r}: {error}") from error
            yield from (read(entry.recording, part) for part in chosen)

    stacked = encoder.summaries(windows()).reshape(len(collection.entries), num_windows, -1)
    return stacked.reshape(len(stacked), -1) if pool == "concat" else stacked.mean(1)


def count_features(collection: Collection) -> NDArray[np.float32]:
    """Return log(1 + count) of each pixel and polarity over the whole recording, (N, 2 * h * w)."""
    sensor, counts = collection.sensor, PolarityCounts()
    scale = min(1.0, COUNT_SIDE / max(sensor.width, sensor.height))
    size = max(1, round(sensor.height * scale)), max(1, round(sensor.width * scale))
    geometry = Geometry(0, 0, sensor.width, sensor.height, size)
    out = np.empty((len(collection.entries), 2, *size), np.float32)
    for entry, row in zip(collection.entries, out, strict=True):
        first, last = entry.recording.t_range
        write_grid(counts, geometry.events(entry.recording.events(first, last + 1)), geometry, row)
    return np.log1p(out).reshape(len(out), -1)


def _once_each(
    encoders: Sequence[LoadedEncoder], compute: Callable[[LoadedEncoder], NDArray[np.float32]]
) -> list[NDArray[np.float32]]:
    """Return `compute(encoder)` for each, but only once for equal ones."""
    done: list[tuple[LoadedEncoder, NDArray[np.float32]]] = []
    out = []
    for encoder in encoders:
        known = next((values for other, values in done if _same(encoder, other)), None)
        if known is None:
            known = compute(encoder)
            done.append((encoder, known))
        out.append(known)
    return out


def _same(a: LoadedEncoder, b: LoadedEncoder) -> bool:
    """Return whether two encoders give the same features of the same recording."""
    if (a.card.backbone, a.representation, a.window, a.input_size) != (
        b.card.backbone, b.representation, b.window, b.input_size,
    ):  # fmt: skip
        return False
    ours, theirs = a.backbone.state_dict(), b.backbone.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def _compare(
    scores: list[Score], label: str, config: ProbeConfig, differences: dict[str, tuple[float, float, float]]
) -> None:
    """Add the differences of the encoder's rows to its untrained twin and, for the linear probe, to each baseline."""
    by_row = {(s.name, s.probe): s for s in scores}
    for probe in config.probes:
        ours = by_row[label, probe]
        rivals = [(f"{label}, untrained", probe)]
        rivals += [("counts", baseline) for baseline in config.baselines] if probe == "linear" else []
        for rival in rivals:
            differences[f"{label} ({probe}) - {rival[0]} ({rival[1]})"] = paired_difference(ours, by_row[rival])


def _write(result: ProbeResult, config: ProbeConfig) -> None:
    result.out.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "name": s.name,
            "probe": s.probe,
            "accuracy": s.accuracy,
            "interval_95": s.interval(),
            "num_samples": len(s.correct),
            "settings": s.settings,
        }
        for s in result.scores
    ]
    values = {
        "config": config.model_dump(mode="json"),
        "rows": rows,
        "differences": {key: list(value) for key, value in result.differences.items()},
        "overlap_of_pretraining_and_test": result.overlap,
    }
    write_atomic(result.out / "results.json", json.dumps(values, indent=2) + "\n")
    np.savez(result.out / "correct.npz", **{f"{s.name} | {s.probe}": s.correct for s in result.scores})
    write_probe_report(result, config.model_dump(mode="json"))
