"""The image teacher: a small ResNet of transformers, trained by SimCLR on the pictures, without labels.

SimCLR (Chen et al., ICML 2020): two views of every picture, whose projections are to find each other among those of the
batch (NT-Xent, temperature 0.2; a projector of two layers, thrown away). Views: a crop of 20 to 100 % of the area and
3/4 to 4/3 of its shape, resized; a left-right flip for half of them; brightness, contrast and saturation by up to 40 %
for four fifths; grey for a fifth. AdamW, weight decay 1e-4, one tenth warm-up, cosine.
"""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from quality.settings import Settings

TEMPERATURE = 0.2
MEAN, STD = (0.49, 0.48, 0.44), (0.25, 0.24, 0.26)


def train_teacher(folder: Path, pictures: NDArray[np.uint8], settings: Settings) -> None:
    """Train the teacher on `pictures` (N, H, W, 3) and save it in `folder`; a stopped training goes on by epochs."""
    if (folder / "model.safetensors").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model, head = build(settings)
    parameters = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, settings.teacher_lr, weight_decay=1e-4)
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()
    per_epoch = len(images) // settings.teacher_batch
    total = per_epoch * settings.teacher_epochs
    state_file, log = folder / "training.pt", []
    first = 0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        head.load_state_dict(state["head"])
        optimizer.load_state_dict(state["optimizer"])
        first, log = state["epoch"], state["log"]
    model.train()
    for epoch in range(first, settings.teacher_epochs):
        draws = torch.Generator().manual_seed(epoch)
        order, started, losses = torch.randperm(len(images), generator=draws), time.monotonic(), []
        for k in range(per_epoch):
            for group in optimizer.param_groups:
                group["lr"] = settings.teacher_lr * warm_cosine(epoch * per_epoch + k, total, 0.1)
            batch = images[order[k * settings.teacher_batch : (k + 1) * settings.teacher_batch]]
            views = torch.cat([view(batch, settings.teacher_size, draws) for _ in range(2)])
            loss = nt_xent(head(pooled(model, views)))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        log.append({"epoch": epoch, "loss": float(np.mean(losses)), "seconds": time.monotonic() - started})
        print(f"teacher, epoch {epoch}: loss {log[-1]['loss']:.3f}, {log[-1]['seconds']:.0f} s", flush=True)
        state = {"model": model.state_dict(), "head": head.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**state, "epoch": epoch + 1, "log": log}, f"{state_file}.new")
        os.replace(f"{state_file}.new", state_file)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": STD}))
    (folder / "loss.json").write_text(json.dumps(log))
    model.eval().save_pretrained(folder)
    state_file.unlink()


def build(settings: Settings) -> tuple[nn.Module, nn.Module]:
    """Return the network, whose last map has a cell for every 16 pixels, and the projector."""
    from transformers import ResNetConfig, ResNetModel

    width = settings.teacher_width
    sizes = [width, 2 * width, 4 * width]
    config = ResNetConfig(embedding_size=width, hidden_sizes=sizes, depths=[1, 1, 1], layer_type="basic")
    head = nn.Sequential(
        nn.Linear(sizes[-1], sizes[-1], bias=False), nn.BatchNorm1d(sizes[-1]), nn.ReLU(), nn.Linear(sizes[-1], 128)
    )
    return ResNetModel(config), head


def pooled(model: nn.Module, pictures: Tensor) -> Tensor:
    """Return the mean over the last map, (B, D), of pictures (B, 3, H, W) in [0, 1]."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    features: Tensor = model(pixel_values=(pictures - mean) / std).last_hidden_state
    return features.mean(dim=(2, 3))


def view(batch: Tensor, size: int, draws: torch.Generator) -> Tensor:
    """Return a random view (B, 3, size, size) in [0, 1] of each of `batch` (B, 3, H, W) uint8."""

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(len(batch), generator=draws) * (high - low) + low

    area, ratio = uniform(0.2, 1.0), uniform(math.log(3 / 4), math.log(4 / 3)).exp()
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    theta = torch.zeros(len(batch), 2, 3)
    theta[:, 0, 0] = width * torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    theta[:, 1, 1] = height
    theta[:, 0, 2] = uniform(-1, 1) * (1 - width)
    theta[:, 1, 2] = uniform(-1, 1) * (1 - height)
    grid = functional.affine_grid(theta, [len(batch), 3, size, size], align_corners=False)
    out = functional.grid_sample(batch.float() / 255, grid, padding_mode="border", align_corners=False)
    jittered = uniform(0, 1) < 0.8
    brightness, contrast, saturation = (
        torch.where(jittered, uniform(0.6, 1.4), 1.0)[:, None, None, None] for _ in range(3)
    )
    saturation = torch.where((uniform(0, 1) < 0.2)[:, None, None, None], 0.0, saturation)
    out = out * brightness
    out = (out - (middle := grey(out).mean(dim=(2, 3), keepdim=True))) * contrast + middle
    return ((out - (tone := grey(out))) * saturation + tone).clamp(0, 1)


def grey(pictures: Tensor) -> Tensor:
    """Return the luma (B, 1, H, W)."""
    return (pictures * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1, keepdim=True)


def nt_xent(projections: Tensor) -> Tensor:
    """Return SimCLR's loss of (2 B, D), where sample i and B + i are views of one picture."""
    unit = functional.normalize(projections, dim=1)
    logits = (unit @ unit.T / TEMPERATURE).fill_diagonal_(-torch.inf)
    half = len(unit) // 2
    return functional.cross_entropy(logits, torch.arange(len(unit)).roll(half))


def warm_cosine(step: int, total: int, warmup: float) -> float:
    """Return the factor of the learning rate: linear warm-up over a share of the run, then half a cosine."""
    start = max(1, int(warmup * total))
    if step < start:
        return (step + 1) / start
    return 0.5 * (1 + math.cos(math.pi * (step - start) / max(1, total - start)))
