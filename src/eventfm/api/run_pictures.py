"""Pictures of what a network makes of a few fixed samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eventfm.data.build import Samples
from eventfm.data.loader import evaluation_batches
from eventfm.engine.feed import to_device
from eventfm.protocols import Batch
from eventfm.visualization.dense import hide_patches, signed_limit, signed_map
from eventfm.visualization.features import pca_maps
from eventfm.visualization.files import save_picture
from eventfm.visualization.panel import panel
from eventfm.visualization.tokens import pca_pictures

NUM_SHOWN = 4

Cell = tuple[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class RunPictures:
    """Draws the same samples again and again, held out where there are such (`Hooks.pictures`)."""

    out: Path
    samples: Samples

    @property
    def folder(self) -> Path:
        """Where the pictures are kept."""
        return self.out / "pictures"

    def __call__(self, objective: Any, step: int) -> None:
        """Write `step_<step>.png`, a row per sample."""
        self.folder.mkdir(exist_ok=True)
        save_picture(self.folder / f"step_{step:07d}.png", self.draw(objective))

    @torch.no_grad()
    def draw(self, objective: Any) -> NDArray[np.uint8]:
        """Return one picture with a row per sample: what went in, what the method made of it, and the tokens."""
        samples = self.samples.held_out or self.samples.training
        # Evenly over the set, so that not all come from one recording.
        indices = sorted({int(i) for i in np.linspace(0, len(samples) - 1, NUM_SHOWN)})
        (batch,) = evaluation_batches(samples, NUM_SHOWN, indices)
        batch = to_device(batch, next(objective.parameters()).device)
        rows = _rows(objective, batch)
        backbone = objective.encoder()
        features = backbone(batch["input"])
        maps = pca_maps(features.tokens.float().cpu().numpy(), features.grid)
        for row, tokens in zip(rows, maps, strict=True):
            row.append(("tokens, PCA", _enlarged(tokens, backbone.stride)))
        return panel(rows)


def _rows(objective: Any, batch: Batch) -> list[list[Cell]]:
    """Return, for each sample, the pictures that the method has of it."""
    rows: list[list[Cell]] = [
        [("events, summed", signed_map(image))] for image in batch["input"].sum(1).float().cpu().numpy()
    ]
    stride = objective.encoder().stride
    if hasattr(objective, "reconstruct"):
        images = _arrays(objective.reconstruct(batch))
        for i, row in enumerate(rows):
            row += _drawn({name: image[i] for name, image in images.items()}, stride)
    if hasattr(objective, "inspect"):
        for row, cells in zip(rows, _compared(objective, batch), strict=True):
            row += cells
    return rows


def _compared(objective: Any, batch: Batch) -> list[list[Cell]]:
    """Return, for each sample, what the teacher was shown and said, and what the student says beside it."""
    seen = objective.inspect(batch)
    height, width = batch["input"].shape[2:]
    taught = seen["teacher"].unflatten(1, _grid(seen["teacher_grid"])).float().cpu().numpy()
    own = seen["student"].unflatten(1, _grid(seen["student_grid"])).float().cpu().numpy()
    in_its_words = hasattr(objective, "active")  # the student's tokens are to be the teacher's, not to name them
    pictures = pca_pictures([*taught, *own] if in_its_words else [*taught])
    rows: list[list[Cell]] = []
    for i, teacher in enumerate(pictures[: len(taught)]):
        row: list[Cell] = []
        if "teacher_picture" in batch:
            picture = batch["teacher_picture"][i].permute(1, 2, 0).float().cpu().numpy()
            row.append(("teacher's picture", np.rint(255 * picture.clip(0, 1)).astype(np.uint8)))
        row.append(("teacher, PCA", _enlarged(teacher, max(1, height // teacher.shape[0]))))
        if in_its_words:
            student = pictures[len(taught) + i]
            row.append(("student, same colours", _enlarged(student, max(1, height // student.shape[0]))))
            active = seen["weight"][i].reshape(student.shape[:2]).float().cpu().numpy()
            row.append(("active patches", _enlarged(signed_map(active, 1.0), max(1, width // active.shape[1]))))
        agreement = seen["similarity"][i].reshape(_grid(seen["student_grid"])).float().cpu().numpy()
        row.append(("agreement", _enlarged(signed_map(agreement, 1.0), max(1, width // agreement.shape[1]))))
        rows.append(row)
    return rows


def _drawn(images: Mapping[str, NDArray[np.float32]], stride: int) -> list[Cell]:
    limit = signed_limit(images["target"])
    hidden = images["mask"][::stride, ::stride] > 0
    return [
        ("visible", hide_patches(signed_map(images["input"]), hidden)),
        ("target", signed_map(images["target"], limit)),
        ("drawn", hide_patches(signed_map(images["prediction"], limit), ~hidden)),
    ]


def _arrays(tensors: Mapping[str, torch.Tensor]) -> dict[str, NDArray[np.float32]]:
    return {name: value.float().cpu().numpy() for name, value in tensors.items()}


def _enlarged(picture: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    return picture.repeat(factor, 0).repeat(factor, 1)


def _grid(size: Any) -> tuple[int, int]:
    rows, columns = (int(side) for side in size)
    return rows, columns
