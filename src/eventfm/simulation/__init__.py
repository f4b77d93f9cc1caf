"""Pictures and motion to events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from eventfm.simulation.motion import (
        Affine,
        PlanarMotion,
        Waypoints,
        flow,
        frame_times,
        random_planar_motion,
        saccades,
        translation,
    )
    from eventfm.simulation.pixel import EventSimulator, simulate, simulate_voxel
    from eventfm.simulation.render import Clip, linear, make_clip
    from eventfm.simulation.sensor import SensorConfig

__all__ = [
    "Affine",
    "Clip",
    "EventSimulator",
    "PlanarMotion",
    "SensorConfig",
    "Waypoints",
    "flow",
    "frame_times",
    "linear",
    "make_clip",
    "random_planar_motion",
    "saccades",
    "simulate",
    "simulate_voxel",
    "translation",
]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "motion": [
            "Affine",
            "PlanarMotion",
            "Waypoints",
            "flow",
            "frame_times",
            "random_planar_motion",
            "saccades",
            "translation",
        ],
        "pixel": ["EventSimulator", "simulate", "simulate_voxel"],
        "render": ["Clip", "linear", "make_clip"],
        "sensor": ["SensorConfig"],
    },
)
