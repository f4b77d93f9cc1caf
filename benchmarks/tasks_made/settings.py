"""Sizes of the benchmark of the tasks on simulated worlds: one place for all that decides what comes out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from quality.settings import changed, digest_of

TASKS = ("recognition", "segmentation", "flow", "depth")


@dataclass(frozen=True)
class Settings:
    """What the benchmark does. A folder of results belongs to one of these."""

    seeds: tuple[int, ...] = (0, 1, 2)
    shares: tuple[float, ...] = (0.05, 1.0)
    """Of the training labels."""

    sensor: tuple[int, int] = (64, 64)
    """Width and height."""
    shapes: tuple[str, ...] = ("disc", "box", "star", "crescent")
    field_of_view_deg: float = 20.0
    depth_field_of_view_deg: float = 55.0
    """Of the worlds of depth: wide enough for the floor, whose distance below the camera is what tells metres."""
    num_labelled: int = 2_000
    """Worlds, and as many of depth: eight of ten to learn from, one to choose the step, one to test."""
    num_unlabelled: int = 4_000

    backbone: str = "convvit_nano"
    patch: int = 8
    num_bins: int = 5

    stage1_steps: int = 3_000
    stage1_batch: int = 64
    stage1_lr: float = 2e-3

    teacher_steps: int = 3_500
    teacher_batch: int = 32
    teacher_lr: float = 2e-3

    distilled_steps: int = 2_000
    distilled_batch: int = 32
    distilled_lr: float = 2e-3

    steps: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(TASKS, 500) | {"segmentation": 400, "depth": 1_000}
    )
    """Of fine-tuning, for each task."""
    batch: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TASKS, 16) | {"recognition": 32, "depth": 8})
    lr: float = 2e-3
    layer_decay: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TASKS, 0.75) | {"flow": 1.0})
    """Rate of a layer of the network by that of the next, of fine-tuning."""
    head_dim: int = 24
    """Channels of UPerNet, the head of all tasks but recognition, whose head is linear."""
    num_workers: int = 0
    """Runs at a time, each with a core; 0 for as many as there are cores. Changes no result."""

    @classmethod
    def of(cls, quick: bool, changes: list[str]) -> Self:
        """Return the settings, smaller ones with `quick`, with `key=value` changes."""
        out: Self = changed(replace(cls(), **(QUICK if quick else {})), changes)
        return out

    @property
    def workers(self) -> Literal["auto"] | int:
        """Processes at a time, as eventfm's settings have it."""
        return self.num_workers or "auto"

    @property
    def digest(self) -> str:
        """Tell these settings from all others (`quality.settings.digest_of`)."""
        return digest_of(replace(self, num_workers=0))


QUICK: dict[str, Any] = {
    "seeds": (0,), "shares": (0.5, 1.0), "sensor": (32, 32), "num_labelled": 40, "num_unlabelled": 16,
    "stage1_steps": 2, "stage1_batch": 4, "teacher_steps": 2, "teacher_batch": 4, "distilled_steps": 2,
    "distilled_batch": 4, "steps": dict.fromkeys(TASKS, 2), "batch": dict.fromkeys(TASKS, 4), "head_dim": 8,
}  # fmt: skip
