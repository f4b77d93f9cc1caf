"""Pictures of what a task's network answers, beside what is true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eventfm.data.loader import SampleSet, evaluation_batches
from eventfm.engine.feed import to_device
from eventfm.protocols import Batch
from eventfm.visualization.dense import depth_map, signed_map
from eventfm.visualization.files import save_picture
from eventfm.visualization.flow import flow_picture, flow_wheel
from eventfm.visualization.masks import class_picture, legend
from eventfm.visualization.panel import panel

NUM_SHOWN = 6

Cell = tuple[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class TaskPictures:
    """Draws the same samples again and again (`Hooks.pictures`)."""

    out: Path
    samples: SampleSet
    classes: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where the pictures are kept."""
        return self.out / "pictures"

    def __call__(self, objective: Any, step: int) -> None:
        """Write `step_<step>.png`, a row per sample, evenly over the set."""
        indices = sorted({int(i) for i in np.linspace(0, len(self.samples) - 1, NUM_SHOWN)})
        self.folder.mkdir(exist_ok=True)
        save_picture(self.folder / f"step_{step:07d}.png", draw_answers(objective, self.samples, indices, self.classes))


@torch.no_grad()
def draw_answers(
    objective: Any, samples: SampleSet, indices: Sequence[int], classes: tuple[str, ...] = (), notes: Sequence[str] = ()
) -> NDArray[np.uint8]:
    """Return one picture with a row for each of the samples `indices`: events, truth, answer.

    `notes` stand beside the word events, one for each sample, such as what it scores.
    """
    (batch,) = evaluation_batches(samples, len(indices), list(indices))
    batch = to_device(batch, next(objective.parameters()).device)
    answer = objective.predict(batch)
    rows: list[list[Cell]] = []
    for i, image in enumerate(batch["input"].sum(1).float().cpu().numpy()):
        note = f", {notes[i]}" if notes else ""
        rows.append([(f"events, summed{note}", signed_map(image)), *_CELLS[objective.task](batch, answer, i, classes)])
    key = _key(objective.task, classes)
    return panel([*rows, *([key] if key else [])])


def _recognition(batch: Batch, answer: dict[str, torch.Tensor], i: int, classes: tuple[str, ...]) -> list[Cell]:
    shares = answer["logits"][i].float().softmax(0).cpu()
    names = classes or tuple(str(n) for n in range(len(shares)))
    best = shares.topk(min(3, len(shares)))
    said = ", ".join(
        f"{names[n]} {share:.0%}" for share, n in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    )
    bars = np.full((64, 4 * len(shares), 3), 255, np.uint8)
    for n, share in enumerate(shares.tolist()):
        right = n == int(batch["label"][i])
        bars[64 - round(63 * share) - 1 :, 4 * n : 4 * n + 3] = (0, 158, 115) if right else (213, 94, 0)
    return [(f"is {names[int(batch['label'][i])]}; says {said}", bars)]


def _segmentation(batch: Batch, answer: dict[str, torch.Tensor], i: int, classes: tuple[str, ...]) -> list[Cell]:
    truth = batch["semantic"][i].cpu().numpy()
    said = answer["logits"][i].argmax(0).cpu().numpy()
    return [("truth", class_picture(truth, classes)), ("answer", class_picture(said, classes))]


def _flow(batch: Batch, answer: dict[str, torch.Tensor], i: int, classes: tuple[str, ...]) -> list[Cell]:
    truth, said = batch["flow"][i].float().cpu().numpy(), answer["flow"][i].float().cpu().numpy()
    known = np.isfinite(truth).all(0)
    lengths = np.hypot(*truth[:, known])
    limit = max(float(np.percentile(lengths, 99)), 1e-3) if known.any() else None
    return [("truth", flow_picture(truth, known, limit)), ("answer", flow_picture(said, None, limit))]


def _depth(batch: Batch, answer: dict[str, torch.Tensor], i: int, classes: tuple[str, ...]) -> list[Cell]:
    truth, said = batch["depth"][i, 0].float().cpu().numpy(), answer["depth"][i, 0].float().cpu().numpy()
    known = truth[np.isfinite(truth) & (truth > 0)]
    limits = (float(known.min()), float(known.max()) + 1e-6) if len(known) else None
    return [("truth", depth_map(truth, limits)), ("answer", depth_map(said, limits))]


_CELLS = {"recognition": _recognition, "segmentation": _segmentation, "flow": _flow, "depth": _depth}


def _key(task: str, classes: tuple[str, ...]) -> list[Cell]:
    if task == "segmentation":
        return [("classes", legend(classes))] if classes else []
    return [("direction and speed", flow_wheel(96))] if task == "flow" else []
