"""Events to tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from eventfm.registry import Registry

REPRESENTATIONS = Registry(
    "representation",
    {
        "voxel_grid": "eventfm.representations.grids:VoxelGrid",
        "polarity_counts": "eventfm.representations.grids:PolarityCounts",
        "stacked_histogram": "eventfm.representations.grids:StackedHistogram",
        "ecdp_image": "eventfm.representations.count_images:ECDPImage",
        "mem_image": "eventfm.representations.count_images:MEMImage",
        "event_volume": "eventfm.representations.event_volume:EventVolume",
        "evrep": "eventfm.representations.evrep:EvRep",
    },
)


if TYPE_CHECKING:
    from eventfm.representations.configs import build, describe
    from eventfm.representations.count_images import ECDPImage, MEMImage
    from eventfm.representations.event_volume import EventVolume
    from eventfm.representations.evrep import EvRep
    from eventfm.representations.grids import PolarityCounts, StackedHistogram, VoxelGrid

__all__ = [
    "REPRESENTATIONS",
    "ECDPImage",
    "EvRep",
    "EventVolume",
    "MEMImage",
    "PolarityCounts",
    "StackedHistogram",
    "VoxelGrid",
    "build",
    "describe",
]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "configs": ["build", "describe"],
        "count_images": ["ECDPImage", "MEMImage"],
        "event_volume": ["EventVolume"],
        "evrep": ["EvRep"],
        "grids": ["PolarityCounts", "StackedHistogram", "VoxelGrid"],
    },
)
