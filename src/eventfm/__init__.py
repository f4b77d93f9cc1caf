"""eventfm: pretrain vision backbones on event-camera data without labels, and put them to use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "Events": "eventfm.events",
    "Sensor": "eventfm.events",
    "EventBatch": "eventfm.events",
    "open_recording": "eventfm.io",
    "VoxelGrid": "eventfm.representations",
    "PolarityCounts": "eventfm.representations",
    "StackedHistogram": "eventfm.representations",
    "load": "eventfm.api",
    "pretrain": "eventfm.api",
    "evaluate": "eventfm.api",
    "embed": "eventfm.api",
    "info": "eventfm.api",
    "convert": "eventfm.api",
}

if TYPE_CHECKING:
    from eventfm.api import convert, embed, evaluate, info, load, pretrain
    from eventfm.events import EventBatch, Events, Sensor
    from eventfm.io import open_recording
    from eventfm.representations import PolarityCounts, StackedHistogram, VoxelGrid

__all__ = [
    "EventBatch",
    "Events",
    "PolarityCounts",
    "Sensor",
    "StackedHistogram",
    "VoxelGrid",
    "convert",
    "embed",
    "evaluate",
    "info",
    "load",
    "open_recording",
    "pretrain",
]


def __getattr__(name: str) -> Any:
    """Import a public name at first use, so that `import eventfm` stays light."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'eventfm' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
