"""The worlds: those with labels, those with depth, and others with frames that encoders are pretrained on."""

from __future__ import annotations

from pathlib import Path

from eventfm.api.simulating import simulate_corpus
from tasks_made.settings import Settings

LABELLED, WIDE, UNLABELLED = "labelled", "wide", "unlabelled"
WINDOW_US = 50_000
CLIP_US = 2 * WINDOW_US


def film(out: Path, settings: Settings) -> None:
    """Simulate the collections. No world is in two of them: their seeds differ."""
    scene = {"num_objects": (1, 1), "shapes": settings.shapes, "field_of_view_deg": settings.field_of_view_deg}
    wide = {**scene, "field_of_view_deg": settings.depth_field_of_view_deg, "floor": 1.0}
    for folder, seed, num_clips, seen, tracks in (
        (LABELLED, 0, settings.num_labelled, scene, ("flow", "depth", "semantic")),
        (WIDE, 2, settings.num_labelled, wide, ("depth",)),
        # The maps of classes are for the teacher alone.
        (UNLABELLED, 1, settings.num_unlabelled, scene, ("frames", "semantic")),
    ):
        simulate_corpus(
            "scenes",
            out / folder,
            num_clips=num_clips,
            seed=seed,
            tracks=tracks,
            scene=seen,
            sensor=settings.sensor,
            frames_hz=1e6 / WINDOW_US,
            motion={"duration_us": CLIP_US},
            quiet=True,
            workers=settings.workers,
        )
