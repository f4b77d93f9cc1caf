"""The image teacher: a DINOv3 of the students' size, trained here, on grey pictures as an event camera's frames are.

It learns two things at once, each by a linear layer on its tokens that is thrown away: the classes of the street
pictures (labels of CamVid's training split: shares of the classes in each patch), and, from pictures of which a part of
the patches is hidden, how gradients lie in every patch, hidden ones too (no labels; after MaskFeat, Wei et al., CVPR
2022: 8 orientations in 2 x 2 cells, each patch normed). Random crops of half the area and more, flips, brightness and
contrast. AdamW, one tenth warm-up, cosine.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from quality.teacher import warm_cosine
from torch import Tensor, nn
from torch.nn import functional

from distilled.settings import Settings
from distilled.streets import CLASSES, read_labels, shown
from eventfm.engine.run_folder import write_atomic
from eventfm.models.dino import DINO
from eventfm.models.dino_sizes import dinov3_nano
from eventfm.models.importers import export_dino
from eventfm.models.importers.pretrained import write_pretrained
from eventfm.representations.event_volume import IMAGENET_MEAN, IMAGENET_STD

ENLARGED = 1.5
"""Sides of the pictures that crops are taken from, as multiples of the crops'."""
ORIENTATIONS = 8
SAVED_EVERY = 100
"""Steps."""
LARGEST_CHANGE = 0.3
"""Of brightness and of contrast, as a share."""


class Pictures(NamedTuple):
    """What the teacher learns from, larger than it is shown."""

    taught: Tensor
    """(S, H', W') grey street pictures in [0, 1]."""
    labels: Tensor
    """(S, H', W') uint8, their classes."""
    looked_at: Tensor
    """(N, H', W'), all pictures."""


class Learner(nn.Module):
    """The teacher with its two linear layers."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.backbone = dinov3_nano(3, settings.size, patch_size=settings.patch)
        self.classes = nn.Linear(self.backbone.embed_dim, len(CLASSES))
        self.gradients = nn.Linear(self.backbone.embed_dim, 4 * ORIENTATIONS)

    def forward(self, pictures: Pictures, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the losses of the segmentation and of the gradients, of views drawn from `pictures`."""
        settings, count = self.settings, self.settings.teacher_batch
        some = torch.randint(len(pictures.taught), (count,), generator=draws)
        others = torch.randint(len(pictures.looked_at), (count,), generator=draws)
        street, truth = view(pictures.taught[some], settings.size, draws, pictures.labels[some])
        picture, _ = view(pictures.looked_at[others], settings.size, draws)
        blind = hidden(picture, settings.patch, settings.teacher_hidden, draws)
        named, told = self.backbone(normalised(torch.cat([street, blind]))).tokens.split(count)
        semantic = soft_cross_entropy(self.classes(named), shares(truth, settings.patch))
        wrong = self.gradients(told) - orientations(picture, settings.patch)
        return semantic, wrong.square().sum(dim=2).mean()


def train_teacher(
    folder: Path, streets: Sequence[tuple[Path, Path]], photographs: Sequence[Path], settings: Settings
) -> None:
    """Train the teacher on street pictures with labels and on `photographs`, and save it in `folder`.

    A training that was stopped goes on from the last `SAVED_EVERY` steps.
    """
    if folder.exists():
        return
    torch.manual_seed(0)
    learner, draws, log = Learner(settings), torch.Generator().manual_seed(0), []
    parameters = [p for p in learner.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, settings.teacher_lr, weight_decay=0.05)
    state_file, first = folder.with_name(f"{folder.name}.pt"), 0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        learner.load_state_dict(state["learner"])
        optimizer.load_state_dict(state["optimizer"])
        draws.set_state(state["draws"])
        first, log = state["step"], state["log"]
    pictures = read_pictures(streets, photographs, settings)
    for step in range(first, settings.teacher_steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.teacher_lr * warm_cosine(step, settings.teacher_steps, 0.1)
        semantic, oriented = learner(pictures, draws)
        optimizer.zero_grad(set_to_none=True)
        (semantic + settings.teacher_gradients * oriented).backward()
        optimizer.step()
        if (step + 1) % SAVED_EVERY == 0 or step + 1 == settings.teacher_steps:
            log.append({"step": step + 1, "segmentation": semantic.item(), "gradients": oriented.item()})
            print(f"teacher, {log[-1]}", flush=True)
            state = {"learner": learner.state_dict(), "optimizer": optimizer.state_dict(), "draws": draws.get_state()}
            torch.save({**state, "step": step + 1, "log": log}, state_file.with_suffix(".new"))
            state_file.with_suffix(".new").replace(state_file)
    save(folder, learner.backbone, log)
    state_file.unlink()


def read_pictures(streets: Sequence[tuple[Path, Path]], photographs: Sequence[Path], settings: Settings) -> Pictures:
    """Return all that the teacher learns from, `ENLARGED`."""
    large = round(ENLARGED * settings.size[0]), round(ENLARGED * settings.size[1])
    taught = torch.from_numpy(np.stack([shown(picture, large) for picture, _ in streets]))
    labels = torch.from_numpy(np.stack([read_labels(file, large) for _, file in streets]))
    others = [torch.from_numpy(shown(file, large))[None] for file in photographs]
    return Pictures(taught, labels, torch.cat([taught, *others]))


def save(folder: Path, backbone: DINO, log: list[dict[str, float]]) -> None:
    """Write the teacher so that eventfm and transformers read it, and its losses beside it."""
    write_atomic(folder.with_name(f"{folder.name}.json"), json.dumps(log) + "\n")
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    if not unfinished.exists():
        write_pretrained(unfinished, export_dino(backbone.state_dict(), "huggingface"), backbone.published_config())
    said = json.dumps({"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD})
    (unfinished / "preprocessor_config.json").write_text(said)
    unfinished.replace(folder)


def normalised(grey: Tensor) -> Tensor:
    """Return grey pictures (B, 1, H, W) in [0, 1] as the network is shown them, (B, 3, H, W)."""
    mean, std = (grey.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (grey - mean) / std


def view(
    pictures: Tensor, size: tuple[int, int], draws: torch.Generator, labels: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return a random view of each of `pictures` (B, H', W'), (B, 1, H, W) in [0, 1], and of `labels` (B, H', W')."""
    count = len(pictures)

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, generator=draws) * (high - low) + low

    side = uniform(0.5, 1.0).sqrt()
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = side * torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    theta[:, 1, 1] = side
    theta[:, 0, 2] = uniform(-1, 1) * (1 - side)
    theta[:, 1, 2] = uniform(-1, 1) * (1 - side)
    grid = functional.affine_grid(theta, [count, 1, *size], align_corners=False)
    seen = functional.grid_sample(pictures[:, None], grid, padding_mode="border", align_corners=False)
    brightness, contrast = (uniform(1 - LARGEST_CHANGE, 1 + LARGEST_CHANGE)[:, None, None, None] for _ in range(2))
    middle = seen.mean(dim=(2, 3), keepdim=True)
    seen = (((seen - middle) * contrast + middle) * brightness).clamp(0, 1)
    if labels is None:
        return seen, torch.empty(0)
    truth = functional.grid_sample(
        labels[:, None].float(), grid, mode="nearest", padding_mode="border", align_corners=False
    )
    return seen, truth[:, 0].to(torch.uint8)


def hidden(pictures: Tensor, patch: int, share: float, draws: torch.Generator) -> Tensor:
    """Return `pictures` (B, 1, H, W) with this share of the patches, about, in their mean grey."""
    rows, columns = pictures.shape[2] // patch, pictures.shape[3] // patch
    mask = torch.rand(len(pictures), 1, rows, columns, generator=draws) < share
    mask = mask.repeat_interleave(patch, dim=2).repeat_interleave(patch, dim=3)
    return torch.where(mask, pictures.mean(dim=(2, 3), keepdim=True), pictures)


def shares(labels: Tensor, patch: int) -> Tensor:
    """Return the share of each class in each patch of `labels` (B, H, W), (B, N, classes); what is void has none."""
    ones = functional.one_hot(labels.long(), len(CLASSES) + 1)[..., : len(CLASSES)].float()
    return functional.avg_pool2d(ones.permute(0, 3, 1, 2), patch).flatten(2).transpose(1, 2)


def soft_cross_entropy(scores: Tensor, wanted: Tensor) -> Tensor:
    """Return the cross-entropy of `scores` (..., classes) with `wanted` shares, the mean over what has a class."""
    return -(wanted * scores.log_softmax(dim=-1)).sum() / wanted.sum().clamp(min=1)


def orientations(pictures: Tensor, patch: int) -> Tensor:
    """Return how gradients lie in each patch of `pictures` (B, 1, H, W), (B, N, 4 * ORIENTATIONS), normed."""
    padded = functional.pad(pictures, (1, 1, 1, 1), mode="replicate")
    dx = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    dy = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    angle = torch.atan2(dy, dx) % torch.pi
    kind = (angle * (ORIENTATIONS / torch.pi)).long().clamp(max=ORIENTATIONS - 1)
    sizes = torch.zeros(len(pictures), ORIENTATIONS, *pictures.shape[2:]).scatter_(1, kind, torch.hypot(dx, dy))
    cells = functional.avg_pool2d(sizes, patch // 2)
    told = functional.pixel_unshuffle(cells, 2).flatten(2).transpose(1, 2)
    return told / (told.norm(dim=2, keepdim=True) + 0.02)
