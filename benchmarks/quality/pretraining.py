"""The pretrained rows: runs of eventfm's own recipes, at the size of the benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eventfm.api import prepare_teacher, pretrain
from eventfm.api.pretraining import untrained
from eventfm.deployment.predict import LoadedEncoder, assemble, load
from quality.settings import Settings

ENCODERS = {
    "stage1": "stages/1_difference/encoder",
    "stages12": "stages/2_transition/encoder",
    "stages123": "stages/3_contrast/encoder",
    "joint": "joint/encoder",
}
"""Where each row's encoder is, below the folder of its seed. The first three are of one run of three stages."""
RUNS = ("stages", "joint")


def cache_tokens(out: Path, settings: Settings) -> None:
    """Ask the teacher once about every picture."""
    prepare_teacher(data=source(out), teacher=teacher(out, settings), out=out / "tokens", quiet=True, device="cpu")


def source(out: Path) -> dict[str, Any]:
    """Return the data of all runs: events of unlabelled pictures, and the pictures themselves for the teacher."""
    return {
        "path": str(out / "events" / "unlabelled"),
        "labels": str(out / "events" / "shown.csv"),
        "images": str(out / "pictures" / "unlabelled"),
    }


def teacher(out: Path, settings: Settings) -> dict[str, Any]:
    """Return the teacher of all runs."""
    return {"name": str(out / "teacher"), "input_size": settings.teacher_size}


def run(out: Path, name: str, seed: int, settings: Settings) -> dict[str, float]:
    """Do what is left of the run `name`, one of `RUNS`, and return its last metrics.

    Raises:
        SystemExit: It was stopped.
    """
    folder = out / f"seed{seed}"
    data = {f"data.{key}": value for key, value in source(out).items()}
    common: dict[str, Any] = {
        **data,
        "data.image_size": 32,
        "data.window.duration_us": 100_000,
        "data.holdout": 0.02,
        "data.augment.flip": settings.flip,
        "representation.num_bins": settings.num_bins,
        "representation.span": settings.span,
        "teacher.name": teacher(out, settings)["name"],
        "teacher.cache": str(out / "tokens"),
        "train.batch_size": settings.batch_size,
        "train.lr": settings.lr,
        "train.seed": seed,
        "train.log_every": 20,
        "train.save_every": 400,
        "train.keep_last": 1,
        "train.device": "cpu",
    }
    backbone = {"name": settings.backbone, "arguments": {"patch_size": settings.patch}}
    decoder = {"dim": settings.decoder_dim, "depth": settings.decoder_depth, "num_heads": 4}
    contrast = {
        "hidden_dim": settings.hidden_dim, "queue_length": settings.queue_length, "temperature": settings.temperature,
    }  # fmt: skip
    if name == "joint":
        result = pretrain(
            "eventpretrain-ablation-joint",
            out=folder / "joint",
            method={
                "backbone": backbone,
                "decoder": decoder,
                "mask_ratio": settings.mask_ratio,
                "contrast": contrast,
                "contrast_weight": settings.contrast_weight,
            },
            **{**common, "train.num_steps": settings.steps_joint},
        )
    else:
        result = pretrain(
            "eventpretrain-vit-tiny",
            out=folder / "stages",
            **common,
            **{
                "method.backbone": backbone,
                "stages.difference.method.decoder": decoder,
                "stages.difference.method.mask_ratio": settings.mask_ratio,
                "stages.difference.train.num_steps": settings.steps_difference,
                "stages.transition.method.contrast": contrast,
                "stages.transition.train.num_steps": settings.steps_transition,
                "stages.contrast.method.contrast": contrast,
                "stages.contrast.train.num_steps": settings.steps_contrast,
                "stages.contrast.train.lr": settings.contrast_lr,
            },
        )
    if result.interrupted:
        raise SystemExit("stopped; the same command goes on from here")
    return {key: float(value) for key, value in result.metrics.items()}


def encoder(out: Path, row: str, seed: int) -> LoadedEncoder:
    """Return the encoder of a row; without training, with the weights that the run of this seed started from."""
    if row in ENCODERS:
        return load(out / f"seed{seed}" / ENCODERS[row])
    card = load(out / f"seed{seed}" / ENCODERS["stage1"]).card
    return assemble(untrained(card, seed), card)
