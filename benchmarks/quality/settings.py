"""Sizes of the quality benchmark: one place for all that decides what comes out."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

PRETRAINED = ("stage1", "stages12", "stages123", "joint")
"""Rows that start from a pretrained encoder."""
ENCODED = ("untrained", *PRETRAINED)
"""Rows that have an encoder to probe."""
FINE_TUNED = ("scratch", *PRETRAINED)
"""Rows that are fine-tuned; from scratch is from the weights that pretraining starts from."""


@dataclass(frozen=True)
class Settings:
    """What the benchmark does. A folder of results belongs to one of these."""

    backbone: str = "vit_nano"
    patch: int = 4
    seeds: tuple[int, ...] = (0, 1, 2)
    develop: bool = False
    """Choose settings: a tenth of the training pictures, kept out of all training, stands for the test pictures, and
    simulated digits of scikit-learn for N-MNIST."""

    num_pictures: int = 10_000
    """CIFAR training pictures at most; the same share of each class."""
    num_labelled: int = 4_000
    """Of these, so many are filmed a second time, with labels."""
    num_tests: int = 2_000
    num_recordings: int = 1_100
    """N-MNIST recordings at most."""
    kind: str = "saccades"
    speed_px_s: tuple[float, float] = (30.0, 80.0)
    threshold: tuple[float, float] = (0.15, 0.4)
    num_clips: int = 1
    """Clips of every picture to pretrain on."""

    teacher_epochs: int = 20
    teacher_width: int = 32
    teacher_size: int = 48
    """Side of the teacher's pictures, pixels."""
    teacher_batch: int = 256
    teacher_lr: float = 2e-3

    num_bins: int = 5
    span: str = "window"
    batch_size: int = 128
    lr: float = 1e-3
    steps_difference: int = 500
    steps_transition: int = 100
    steps_contrast: int = 500
    steps_joint: int = 500
    decoder_dim: int = 64
    decoder_depth: int = 1
    hidden_dim: int = 256
    queue_length: int = 512
    temperature: float = 0.07
    mask_ratio: float = 0.5
    contrast_lr: float = 1e-3
    contrast_weight: float = 1.0
    flip: float = 0.5

    labels_per_class: int = 10
    tune_steps: int = 60
    tune_batch: int = 64
    tune_lrs: tuple[float, ...] = (1e-3, 3e-3)
    tune_flip: bool = True
    """Flip simulated pictures left to right while fine-tuning; digits never are."""

    @classmethod
    def of(cls, backbone: str, quick: bool, changes: list[str]) -> Self:
        """Return the settings for `backbone`, smaller ones with `quick`, with `key=value` changes."""
        out = cls(**BACKBONES[backbone])
        if quick:
            out = replace(out, **QUICK)
        return changed(out, changes)

    @property
    def digest(self) -> str:
        """Tell these settings from all others (`digest_of`)."""
        return digest_of(self)


BACKBONES: dict[str, dict[str, Any]] = {
    "vit": {},
    # Its convolutions are on single pixels at a patch of 4: a third of the samples per second, hence fewer steps; but
    # stage 1 needs 300 until it answers anything but that nothing changes.
    "convvit": {
        "backbone": "convvit_nano",
        "steps_difference": 600,
        "steps_contrast": 250,
        "steps_joint": 250,
        "tune_steps": 40,
    },
}
QUICK: dict[str, Any] = {
    "seeds": (0,), "num_pictures": 200, "num_labelled": 100, "num_tests": 50, "num_recordings": 120,
    "teacher_epochs": 1, "teacher_width": 16, "teacher_size": 32, "teacher_batch": 64, "batch_size": 32,
    "steps_difference": 4, "steps_transition": 2, "steps_contrast": 4, "steps_joint": 2, "decoder_depth": 1,
    "hidden_dim": 32, "queue_length": 64, "labels_per_class": 2, "tune_steps": 2, "tune_batch": 10, "tune_lrs": (1e-3,),
}  # fmt: skip


def changed(settings: Any, changes: list[str]) -> Any:
    """Return `settings`, a dataclass, with `key=value` changes; values that are not text are JSON.

    Raises:
        SystemExit: There is no such setting.
    """
    kinds = {field.name for field in fields(settings)}
    for change in changes:
        key, _, value = change.partition("=")
        if key not in kinds:
            raise SystemExit(f"unknown setting {key!r}; known: {', '.join(sorted(kinds))}")
        read: Any = value if isinstance(getattr(settings, key), str) else json.loads(value)
        settings = replace(settings, **{key: tuple(read) if isinstance(read, list) else read})
    return settings


def digest_of(settings: Any) -> str:
    """Return what tells `settings`, a dataclass, from all others, the seeds aside: more may be added to a folder."""
    values = {key: value for key, value in asdict(settings).items() if key != "seeds"}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
