"""The dense part of `demo`: classes of pixels in made worlds, from the encoder that the demo has just pretrained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eventfm.api.simulating import simulate_corpus
from eventfm.api.transferring import TransferResult, transfer

NUM_WORLDS = 300
"""Eight of ten to learn from, one to choose the step, one to score."""
WORLD: dict[str, Any] = {
    "sensor": (32, 32),
    "tracks": ("semantic",),
    "frames_hz": 20,
    "motion": {"duration_us": 100_000},
    "scene": {"num_objects": (1, 1), "shapes": ("disc", "star"), "field_of_view_deg": 20},
}
NUM_STEPS = 300
HEADER = ["network", "mIoU, %", "right pixels, %"]


def segment_worlds(out: Path, encoder: Path) -> TransferResult:
    """Simulate worlds with classes in `out`, and let the encoder and its twin without pretraining learn them."""
    simulate_corpus("scenes", out / "worlds", num_clips=NUM_WORLDS, seed=0, **WORLD)
    return transfer(
        recipe="segmentation",
        encoders=str(encoder),
        data={"path": str(out / "worlds"), "labels": str(out / "worlds" / "labels.csv")},
        protocols=("full",),
        seeds=(0,),
        task={"head": {"name": "upernet", "dim": 32}},
        train={"num_steps": NUM_STEPS, "batch_size": 16, "device": "cpu"},
        workers="auto",
        out=str(out / "segmentation"),
    )


def rows_of(result: TransferResult) -> list[list[str]]:
    """Return the rows of the table under `HEADER`."""
    scored = [
        ("pretrained on digits" if run.cell.row.weights == "pretrained" else "from scratch", run.figures)
        for run in result.cells
    ]
    return [
        [name, f"{100 * figures['miou']:.1f}", f"{100 * figures['pixel_accuracy']:.1f}"]
        for name, figures in [*scored, ("does not look: wall everywhere", result.trivial.figures)]
    ]


def answers_of(result: TransferResult) -> Path:
    """Return the picture of test worlds, the best and the worst answered by the pretrained network."""
    run = next(run for run in result.cells if run.cell.row.weights == "pretrained")
    return result.out / "cells" / f"{run.cell.slug}.png"
