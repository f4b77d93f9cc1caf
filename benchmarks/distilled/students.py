"""The students: runs of eventfm's own recipe `scaleevent-tiny`, each row with its part of the method."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distilled.settings import Settings
from distilled.streets import window
from eventfm.api import pretrain
from eventfm.deployment.predict import LoadedEncoder, load
from eventfm.methods.structure_loss import Form


@dataclass(frozen=True)
class Student:
    """What makes a row: the terms that count, where, in which form, and what it starts from."""

    title: str
    form: Form = "robust"
    terms: tuple[str, ...] = ("token", "intra", "cross")
    masked: bool = True
    trained: bool = True
    from_teacher: bool = True
    mended: bool = False


def mend(settings: Settings) -> Settings:
    """Return settings with what helped together in development.

    The rate and the weight of intra are three times as large, and twice the steps see half a batch each.
    """
    token, intra, cross = settings.weights
    return replace(
        settings,
        lr=3 * settings.lr,
        weights=(token, 3 * intra, cross),
        steps=2 * settings.steps,
        batch_size=settings.batch_size // 2,
    )


STUDENTS = {
    "untrained": Student("untrained", trained=False, from_teacher=False),
    "teacher_on_events": Student("teacher's weights on events, not distilled", trained=False),
    "token": Student("token loss, all patches", terms=("token",), masked=False),
    "mask": Student("+ mask: active patches only", terms=("token",)),
    "intra": Student("+ intra", terms=("token", "intra")),
    "cross": Student("+ cross: all of the method, `robust` form"),
    "mended": Student("all of the method, `robust` form, three mends", mended=True),
    "released": Student("all of the method, `released` form", form="released"),
    "paper": Student("all of the method, `paper` form", form="paper"),
}
TERMS = ("token", "intra", "cross")
TRAINED = tuple(name for name, student in STUDENTS.items() if student.trained)
CONTROLS = tuple(name for name, student in STUDENTS.items() if not student.trained)


def seeds_of(name: str, settings: Settings) -> tuple[int, ...]:
    """Return the seeds of a row; what neither draws weights nor trains has one."""
    return settings.seeds if name in TRAINED or name == "untrained" else settings.seeds[:1]


def run(out: Path, name: str, seed: int, settings: Settings) -> dict[str, float]:
    """Do what is left of the run of a student, and return its last metrics.

    Raises:
        SystemExit: It was stopped.
    """
    student = STUDENTS[name]
    settings = mend(settings) if student.mended else settings
    weights = {term: value * (term in student.terms) for term, value in zip(TERMS, settings.weights, strict=True)}
    steps = settings.steps if student.trained else 0
    changes: dict[str, Any] = {
        "method.backbone.arguments.patch_size": settings.patch,
        "method.projection": "none",
        "method.form": student.form,
        "method.weights": weights,
        "method.mask": {"by": "share", "share": settings.mask_share} if student.masked else {"by": "none"},
        "representation.coding": "imagenet",
        "teacher": {"name": str(out / "teacher"), "input_size": "data"},
        "init": "teacher" if student.from_teacher else None,
        "data.path": str(out / "events"),
        "data.image_size": settings.size,
        "data.window": window(settings),
        "data.holdout": 0.02,
        # Whole frames: a crop's tokens would be the teacher's interpolated.
        "data.augment.crop_min": 1.0,
        "data.num_workers": 1,
        "train.num_steps": steps,
        "train.batch_size": settings.batch_size,
        "train.lr": settings.lr,
        "train.weight_decay": settings.weight_decay,
        "train.seed": seed,
        "train.keep_last": 1,
        "train.device": "cpu",
        "validate_every": max(1, steps),
    }
    result = pretrain("scaleevent-tiny", out=folder(out, name, seed), **changes)
    if result.interrupted:
        raise SystemExit("stopped; the same command goes on from here")
    return {key: float(value) for key, value in result.metrics.items()}


def encoder(out: Path, name: str, seed: int) -> LoadedEncoder:
    """Return the encoder of a row."""
    return load(folder(out, name, seed) / "encoder")


def folder(out: Path, name: str, seed: int) -> Path:
    """Return where a run is kept."""
    return out / "runs" / f"{name}-{seed}"
