"""Scores of the rows: probes of frozen features, and fine-tuning with few labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eventfm.api.evaluating import BASELINES, count_features, features_of
from eventfm.data.collection import Collection, labels_of
from eventfm.deployment.predict import LoadedEncoder
from eventfm.evaluation.probes import Probe, linear
from eventfm.evaluation.protocol import Part, ProtocolError, parts, score
from eventfm.random import derive
from quality.pictures import read_pictures
from quality.results import packed
from quality.settings import Settings
from quality.teacher import pooled
from quality.tuning import NUM_WINDOWS, choose_lr, few, fine_tune, inputs_of, predict


@dataclass(frozen=True)
class Data:
    """Labelled recordings, and which of them are learnt from and scored."""

    name: str
    collection: Collection
    flip: bool
    """Whether a mirrored sample is still one of its class."""

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """(N,)."""
        return labels_of(self.collection)

    @cached_property
    def protocol(self) -> list[Part]:
        """Five folds, or train and test."""
        return parts(
            [entry.split for entry in self.collection.entries], [entry.fold for entry in self.collection.entries]
        )

    @cached_property
    def counts(self) -> NDArray[np.float32]:
        """Log counts of events, (N, 2 * h * w)."""
        return count_features(self.collection)

    def few_parts(self, settings: Settings, seed: int) -> list[Part]:
        """Return the parts with few labels to learn from; what is scored is the same."""
        count = settings.labels_per_class
        return [replace(part, train=few(self.labels, part.train, count, seed)) for part in self.protocol]


def open_data(data: Path, out: Path, settings: Settings, open_collection: Callable[..., Collection]) -> list[Data]:
    """Return N-MNIST, or in development what stands for it, and the events of labelled pictures."""
    if settings.develop:
        digits = open_collection(out / "digits" / "recordings.h5", labels=out / "digits" / "labels.csv")
    else:
        folder = data / "labelled" / "nmnist"
        digits = open_collection(folder, labels=folder / "labels.csv")
        digits = replace(digits, entries=digits.entries[: settings.num_recordings])
    filmed = out / "events" / "labelled"
    pictures = open_collection(filmed, labels=filmed / "labels.csv")
    return [Data("nmnist", digits, False), Data("cifar", pictures, settings.tune_flip)]


def probe(data: Data, encoder: LoadedEncoder) -> dict[str, Any]:
    """Return the linear probe of frozen features, all labels of the training part."""
    require_apart(data, encoder)
    features = features_of(data.collection, encoder, NUM_WINDOWS, "concat")
    return _scored(linear, features, data, data.protocol)


def require_apart(data: Data, encoder: LoadedEncoder) -> None:
    """Refuse an encoder that was pretrained on a recording that it is scored on.

    Raises:
        ProtocolError: It was.
    """
    seen = {item.rpartition(" ")[2] for item in encoder.card.trained_on}
    entries = data.collection.entries
    shared = [entries[i].name for part in data.protocol for i in part.test if entries[i].fingerprint in seen]
    if shared:
        raise ProtocolError(f"{len(shared)} recordings of {data.name} were pretrained on, e.g. {shared[0]}")


def baseline(data: Data, way: str, settings: Settings) -> dict[str, Any]:
    """Return the best classifier on log counts of events, all of them named; with few labels or all."""
    protocol = data.protocol if way == "linear" else data.few_parts(settings, 0)
    found = {name: _scored(model, data.counts, data, protocol) for name, model in BASELINES.items()}
    best = max(found, key=lambda name: found[name]["accuracy"])
    return {**found[best], "best": best, "all": {name: values["accuracy"] for name, values in found.items()}}


def tuned(data: Data, encoder: LoadedEncoder, seed: int, settings: Settings, lrs: Sequence[float]) -> dict[str, Any]:
    """Return fine-tuning with few labels, at the learning rate `lrs` of each part."""
    inputs = inputs_of(encoder, data.collection)
    correct = np.zeros(len(data.labels), bool)
    scored = np.zeros(len(data.labels), bool)
    for number, part in enumerate(data.few_parts(settings, seed)):
        draws = derive(seed, "tuning", number) % 2**31
        model = fine_tune(encoder, data.collection, part.train, lrs[number], data.flip, draws, settings)
        correct[part.test] = predict(*model, inputs[part.test]) == data.labels[part.test]
        scored[part.test] = True
    return _values(correct[scored], [{"lr": lr} for lr in lrs])


def learning_rates(data: Data, encoder: LoadedEncoder, seed: int, settings: Settings) -> dict[str, Any]:
    """Return the learning rate of each part, chosen inside its training part."""
    inputs = inputs_of(encoder, data.collection)
    return {
        "lrs": [
            choose_lr(
                encoder, data.collection, data.labels, inputs, part.train, data.flip,
                derive(seed, "tuning", number) % 2**31, settings,
            )
            for number, part in enumerate(data.protocol)
        ]
    }  # fmt: skip


def teacher_scored(out: Path, data: Data, way: str, settings: Settings) -> dict[str, Any]:
    """Return the linear probe of the teacher's mean token of the pictures themselves; with few labels or all."""
    from transformers import ResNetModel

    model = ResNetModel.from_pretrained(out / "teacher").eval()
    files = [out / "pictures" / "labelled" / picture_of(entry.name) for entry in data.collection.entries]
    pictures = torch.from_numpy(read_pictures(files)).permute(0, 3, 1, 2).float() / 255
    size = (settings.teacher_size, settings.teacher_size)
    with torch.inference_mode():
        shown = (torch.nn.functional.interpolate(part, size, mode="bilinear") for part in pictures.split(256))
        features = torch.cat([pooled(model, part) for part in shown]).numpy()
    return _scored(linear, features, data, data.protocol if way == "linear" else data.few_parts(settings, 0))


def picture_of(recording: str) -> str:
    """Return the picture that a recording `clips-00000.h5::train__ship__0001.jpg-0` was made from."""
    return recording.partition("::")[2].rpartition("-")[0].replace("__", "/")


def _scored(model: Probe, features: NDArray[np.float32], data: Data, protocol: list[Part]) -> dict[str, Any]:
    found = score("", "", model, [features] * len(protocol), data.labels, protocol)
    return _values(found.correct, found.settings)


def _values(correct: NDArray[np.bool_], settings: list[dict[str, Any]]) -> dict[str, Any]:
    return {"accuracy": float(correct.mean()), "settings": settings, "correct": packed(correct)}
