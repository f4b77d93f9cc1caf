"""Events to tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventfm.registry import Registry

REPRESENTATIONS = Registry(
    "representation",
    {
        "voxel_grid": "eventfm.representations.grids:VoxelGrid",
        "polarity_counts": "eventfm.representations.grids:PolarityCounts",
        "stacked_histogram": "eventfm.representations.grids:StackedHistogram",
    },
)

_PUBLIC = {
    "VoxelGrid": "eventfm.representations.grids",
    "PolarityCounts": "eventfm.representations.grids",
    "StackedHistogram": "eventfm.representations.grids",
    "build": "eventfm.representations.configs",
    "describe": "eventfm.representations.configs",
}

if TYPE_CHECKING:
    from eventfm.representations.configs import build, describe
    from eventfm.representations.grids import PolarityCounts, StackedHistogram, VoxelGrid

__all__ = ["REPRESENTATIONS", "PolarityCounts", "StackedHistogram", "VoxelGrid", "build", "describe"]


def __getattr__(name: str) -> Any:
    """Import a public name at first use, so that the package itself stays light."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'eventfm.representations' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
