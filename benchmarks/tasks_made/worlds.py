"""The worlds: those with labels, and others with frames that encoders are pretrained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eventfm.api.simulating import simulate_corpus
from tasks_made.settings import Settings

LABELLED, UNLABELLED = "labelled", "unlabelled"
WINDOW_US = 50_000
CLIP_US = 2 * WINDOW_US


def film(out: Path, settings: Settings) -> None:
    """Simulate both collections. No world is in both: their seeds differ."""
    common: dict[str, Any] = {
        "sensor": settings.sensor,
        "frames_hz": 1e6 / WINDOW_US,
        "motion": {"duration_us": CLIP_US},
        "scene": {
            "num_objects": (1, 1),
            "shapes": settings.shapes,
            "field_of_view_deg": settings.field_of_view_deg,
        },
        "quiet": True,
        "workers": settings.workers,
    }
    tracks = ("flow", "depth", "semantic")
    simulate_corpus("scenes", out / LABELLED, num_clips=settings.num_labelled, seed=0, tracks=tracks, **common)
    # The maps of classes are for the teacher alone.
    tracks = ("frames", "semantic")
    simulate_corpus("scenes", out / UNLABELLED, num_clips=settings.num_unlabelled, seed=1, tracks=tracks, **common)
