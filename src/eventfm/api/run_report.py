"""Pictures while a run goes on, and its report at the end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eventfm.api.run_config import RunConfig
from eventfm.data.build import Samples
from eventfm.data.loader import evaluation_batches
from eventfm.deployment.report import Section, Table, write_report
from eventfm.engine.feed import to_device
from eventfm.engine.run_folder import RunFolder
from eventfm.models.encoder import EncoderCard
from eventfm.visualization.curves import curves
from eventfm.visualization.dense import hide_patches, signed_limit, signed_map
from eventfm.visualization.features import pca_maps
from eventfm.visualization.files import read_picture, save_picture
from eventfm.visualization.panel import panel

NUM_SHOWN = 4
CURVES = {
    "Loss (predicting zero is the trivial level)": ["loss", "zero_loss", "held_out/loss", "held_out/zero_loss"],
    "Effective rank of held-out features": ["features/effective_rank"],
    "Mean cosine of held-out features": ["features/mean_cosine"],
    "Samples per second": ["samples_per_s"],
}


@dataclass(frozen=True)
class RunPictures:
    """Draws what the network makes of a few fixed samples, held out where there are such (`Hooks.pictures`)."""

    out: Path
    samples: Samples

    @property
    def folder(self) -> Path:
        """Where the pictures are kept."""
        return self.out / "pictures"

    def __call__(self, objective: Any, step: int) -> None:
        """Write `step_<step>.png`: input, what was visible, target, what was drawn, and a map of the tokens."""
        self.folder.mkdir(exist_ok=True)
        save_picture(self.folder / f"step_{step:07d}.png", self.draw(objective))

    def latest(self) -> Path | None:
        """Return the newest picture, if there is one."""
        return max(self.folder.glob("step_*.png"), default=None)

    @torch.no_grad()
    def draw(self, objective: Any) -> NDArray[np.uint8]:
        """Return one picture with a row per sample."""
        samples = self.samples.held_out or self.samples.training
        # Evenly over the set, so that not all come from one recording.
        indices = sorted({int(i) for i in np.linspace(0, len(samples) - 1, NUM_SHOWN)})
        (batch,) = evaluation_batches(samples, NUM_SHOWN, indices)
        batch = to_device(batch, next(objective.parameters()).device)
        images = {name: value.cpu().numpy() for name, value in objective.reconstruct(batch).items()}
        backbone = objective.encoder()
        features = backbone(batch["input"])
        maps = pca_maps(features.tokens.float().cpu().numpy(), features.grid)
        rows = []
        for i in range(len(indices)):
            limit = signed_limit(images["target"][i])
            target = signed_map(images["target"][i], limit)
            hidden = images["mask"][i][:: backbone.stride, :: backbone.stride] > 0
            rows.append(
                [
                    ("events, summed", signed_map(images["input"][i])),
                    ("visible", hide_patches(signed_map(images["input"][i]), hidden)),
                    ("target", target),
                    ("drawn", hide_patches(signed_map(images["prediction"][i], limit), ~hidden)),
                    ("tokens, PCA", maps[i].repeat(backbone.stride, 0).repeat(backbone.stride, 1)),
                ]
            )
        return panel(rows)


def write_run_report(
    folder: RunFolder, config: RunConfig, card: EncoderCard, result: Any, pictures: RunPictures
) -> None:
    """Write the run's `report.html`: what was trained on what, how it went, what it sees."""
    records = [json.loads(line) for line in folder.metrics.read_text(encoding="utf-8").splitlines()]
    latest = pictures.latest()
    seen = []
    if latest is not None:
        seen = [
            (
                "Held-out samples: events summed over the window; what the network saw; the standardised target; what "
                "it drew for the hidden patches; and its tokens, like colours for like features."
                if pictures.samples.held_out
                else "Training samples (nothing was held out), as above.",
                read_picture(latest),
            )
        ]
    last: Mapping[str, Any] = records[-1] if records else {}
    sections = [
        Section("What this is", text=_summary(config, card, pictures.samples, last)),
        Section("How it went", pictures=[("", curves(records, CURVES))] if records else []),
        Section("What it sees", pictures=seen),
        Section("Decisions", tables=[Table(["what", "value", "why"], result.decisions)]),
        Section("Settings", settings=config.model_dump(mode="json")),
        Section(
            "Training data",
            text=f"{len(card.trained_on)} recordings or pictures, list hash {card.trained_on_sha256[:16]}; the whole "
            "list is in encoder/config.json.",
        ),
    ]
    write_report(folder.report, f"Run {folder.path.name}", sections)


def _summary(config: RunConfig, card: EncoderCard, samples: Samples, last: Mapping[str, Any]) -> str:
    target = (
        "the grey difference of the two frames that bound the window"
        if samples.target == "frames"
        else "the log-intensity change that the window's own events encode (eventfm's extension; no frames needed)"
    )
    text = (
        f"{card.method} on {card.backbone.name}, input {card.input_size[1]}x{card.input_size[0]}, "
        f"{card.representation['name']}. Target: {target}. {len(samples.training)} training samples"
    )
    text += f", {len(samples.held_out)} held out." if samples.held_out else ", none held out."
    if "held_out/loss" in last:
        text += (
            f" Loss on held-out samples after {last['step']} steps: {last['held_out/loss']:.4f}; "
            f"predicting zero costs {last['held_out/zero_loss']:.4f}."
        )
    return text
