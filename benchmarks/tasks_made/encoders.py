"""What is fine-tuned: one network, pretrained on the unlabelled worlds by each of eventfm's two systems."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eventfm.api import pretrain
from tasks_made.settings import Settings
from tasks_made.teacher import train_teacher
from tasks_made.worlds import UNLABELLED, WINDOW_US

STAGE1, DISTILLED = "stage1", "distilled"


@dataclass(frozen=True)
class Place:
    """What a process has at hand (`quality.workers`)."""

    out: Path
    settings: Settings
    open_once: Callable[..., Any]

    def stage1(self) -> None:
        """Pretrain by EventPretrain's first stage: what changed in hidden parts of the frames."""
        settings = self.settings
        self._run(
            STAGE1,
            "difference-vit-tiny",
            {
                "data.window": {"by": "frames", "track": "frames"},
                "train.num_steps": settings.stage1_steps,
                "train.batch_size": settings.stage1_batch,
                "train.lr": settings.stage1_lr,
            },
        )

    def distilled(self) -> None:
        """Train the teacher, and pretrain by ScaleEvent's distillation."""
        settings = self.settings
        train_teacher(self.out / "teacher", self.out / UNLABELLED, settings)
        self._run(
            DISTILLED,
            "scaleevent-tiny",
            {
                "method.mask": {"by": "none"},
                "teacher": {"name": str(self.out / "teacher"), "input_size": "data"},
                "data.window": {
                    "by": "frame", "track": "frames", "frame_at": "end", "length": "time", "duration_us": WINDOW_US,
                    "jitter": False,
                },
                "train.epochs": None,
                "train.num_steps": settings.distilled_steps,
                "train.batch_size": settings.distilled_batch,
                "train.lr": settings.distilled_lr,
            },
        )  # fmt: skip

    def _run(self, name: str, recipe: str, changes: dict[str, Any]) -> None:
        settings = self.settings
        common: dict[str, Any] = {
            "method.backbone": {"name": settings.backbone, "arguments": {"patch_size": settings.patch}},
            # The same input for both, so that one network without pretraining is the control of both.
            "representation": {"name": "voxel_grid", "num_bins": settings.num_bins, "span": "window"},
            "data.path": str(self.out / UNLABELLED),
            "data.image_size": settings.sensor[::-1],
            "data.holdout": 0.02,
            "data.num_workers": 1,
            "train.device": "cpu",
            "train.keep_last": 1,
        }
        if pretrain(recipe, out=self.out / name, **common, **changes).interrupted:
            raise SystemExit("stopped; the same command goes on from here")
