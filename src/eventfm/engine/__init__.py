"""The one training loop and what it stands on."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "CheckpointError": "checkpoint",
    "CheckpointWriteError": "checkpoint",
    "DiskFullError": "checkpoint",
    "Hooks": "hooks",
    "RunFolder": "run_folder",
    "RunFolderError": "run_folder",
    "TrainResult": "trainer",
    "TrainSettings": "settings",
    "TrainingError": "guard",
    "train": "trainer",
}

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


def __getattr__(name: str) -> Any:
    """Import a public name at first use, so that importing the package does not import torch."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'eventfm.engine' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"eventfm.engine.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value
