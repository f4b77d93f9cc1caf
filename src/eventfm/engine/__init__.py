"""The one training loop and what it stands on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from eventfm.engine.checkpoint import CheckpointError, CheckpointWriteError, DiskFullError
    from eventfm.engine.guard import TrainingError
    from eventfm.engine.hooks import Hooks
    from eventfm.engine.run_folder import RunFolder, RunFolderError
    from eventfm.engine.settings import TrainSettings
    from eventfm.engine.trainer import TrainResult, train

__all__ = [
    "CheckpointError",
    "CheckpointWriteError",
    "DiskFullError",
    "Hooks",
    "RunFolder",
    "RunFolderError",
    "TrainResult",
    "TrainSettings",
    "TrainingError",
    "train",
]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "checkpoint": ["CheckpointError", "CheckpointWriteError", "DiskFullError"],
        "guard": ["TrainingError"],
        "hooks": ["Hooks"],
        "run_folder": ["RunFolder", "RunFolderError"],
        "settings": ["TrainSettings"],
        "trainer": ["TrainResult", "train"],
    },
)
