"""Pictures and motion to events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "SensorConfig": "eventfm.simulation.sensor",
    "EventSimulator": "eventfm.simulation.pixel",
    "simulate": "eventfm.simulation.pixel",
    "simulate_voxel": "eventfm.simulation.pixel",
    "Affine": "eventfm.simulation.motion",
    "PlanarMotion": "eventfm.simulation.motion",
    "Waypoints": "eventfm.simulation.motion",
    "flow": "eventfm.simulation.motion",
    "frame_times": "eventfm.simulation.motion",
    "random_planar_motion": "eventfm.simulation.motion",
    "saccades": "eventfm.simulation.motion",
    "translation": "eventfm.simulation.motion",
    "Clip": "eventfm.simulation.render",
    "linear": "eventfm.simulation.render",
    "make_clip": "eventfm.simulation.render",
}

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


def __getattr__(name: str) -> Any:
    """Import a public name at first use, so that the package itself stays light."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'eventfm.simulation' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
