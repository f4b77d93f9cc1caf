"""eventfm: pretrain vision backbones on event-camera data without labels, and put them to use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

__version__ = "0.1.0"


if TYPE_CHECKING:
    from eventfm.api import (
        convert,
        convert_all,
        diagnose,
        diagnose_all,
        embed,
        evaluate,
        export_weights,
        finetune,
        import_weights,
        info,
        load,
        predict,
        prepare_teacher,
        pretrain,
        simulate_corpus,
        visualize,
    )
    from eventfm.events import EventBatch, Events, Sensor
    from eventfm.io import open_recording
    from eventfm.representations import ECDPImage, EvRep, MEMImage, PolarityCounts, StackedHistogram, VoxelGrid

__all__ = [
    "ECDPImage",
    "EvRep",
    "EventBatch",
    "Events",
    "MEMImage",
    "PolarityCounts",
    "Sensor",
    "StackedHistogram",
    "VoxelGrid",
    "convert",
    "convert_all",
    "diagnose",
    "diagnose_all",
    "embed",
    "evaluate",
    "export_weights",
    "finetune",
    "import_weights",
    "info",
    "load",
    "open_recording",
    "predict",
    "prepare_teacher",
    "pretrain",
    "simulate_corpus",
    "visualize",
]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "api": [
            "convert",
            "convert_all",
            "diagnose",
            "diagnose_all",
            "embed",
            "evaluate",
            "export_weights",
            "finetune",
            "import_weights",
            "info",
            "load",
            "predict",
            "prepare_teacher",
            "pretrain",
            "simulate_corpus",
            "visualize",
        ],
        "events": ["EventBatch", "Events", "Sensor"],
        "io": ["open_recording"],
        "representations": ["ECDPImage", "EvRep", "MEMImage", "PolarityCounts", "StackedHistogram", "VoxelGrid"],
    },
)
