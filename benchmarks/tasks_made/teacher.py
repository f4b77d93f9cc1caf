"""The image teacher: a small ResNet of transformers that learns the classes in pictures of the unlabelled worlds.

Its labels are of pictures, of worlds that no task has seen; of events it has none. It stands for the large image models
that cannot be had here: what is asked is what its knowledge of pictures is worth to a network of events. A linear layer
on its tokens, thrown away, tells the share of each class in each patch. Random crops of half the area and more, flips,
brightness and contrast. AdamW, one tenth warm-up, cosine.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from distilled.teacher import normalised, soft_cross_entropy, view
from quality.teacher import warm_cosine
from torch import Tensor, nn
from torch.nn import functional

from eventfm.data.collection import open_collection
from eventfm.engine.run_folder import write_atomic
from eventfm.representations.event_volume import IMAGENET_MEAN, IMAGENET_STD
from tasks_made.settings import Settings

SAVED_EVERY = 250
"""Steps."""
DIM = 96
PATCH = 8
"""Pixels from one of the network's tokens to the next."""


class Pictures(NamedTuple):
    """What the teacher learns from."""

    light: Tensor
    """(N, H, W) in [0, 1]."""
    classes: Tensor
    """(N, H, W) uint8."""


def train_teacher(folder: Path, worlds: Path, settings: Settings) -> None:
    """Train the teacher on the frames of `worlds` and save it in `folder`; a stopped training goes on."""
    if folder.exists():
        return
    pictures = read_pictures(worlds)
    num_classes = int(pictures.classes.max()) + 1
    torch.manual_seed(0)
    draws = torch.Generator().manual_seed(0)
    network = build()
    classes = nn.Linear(DIM, num_classes)
    parameters = [*network.parameters(), *classes.parameters()]
    optimizer = torch.optim.AdamW(parameters, settings.teacher_lr, weight_decay=0.05)
    state_file, first = folder.with_name(f"{folder.name}.pt"), 0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        network.load_state_dict(state["network"])
        classes.load_state_dict(state["classes"])
        optimizer.load_state_dict(state["optimizer"])
        draws.set_state(state["draws"])
        first = state["step"]
    network.train()
    for step in range(first, settings.teacher_steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.teacher_lr * warm_cosine(step, settings.teacher_steps, 0.1)
        some = torch.randint(len(pictures.light), (settings.teacher_batch,), generator=draws)
        seen, truth = view(pictures.light[some], pictures.light.shape[1:], draws, pictures.classes[some])
        loss = soft_cross_entropy(classes(tokens(network, seen)), shares(truth, num_classes))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if (step + 1) % SAVED_EVERY == 0 or step + 1 == settings.teacher_steps:
            print(f"teacher, step {step + 1}, loss {loss.item():.3f}", flush=True)
            state = {"network": network.state_dict(), "classes": classes.state_dict(), "step": step + 1}
            state |= {"optimizer": optimizer.state_dict(), "draws": draws.get_state()}
            torch.save(state, state_file.with_suffix(".new"))
            state_file.with_suffix(".new").replace(state_file)
    save(folder, network)
    state_file.unlink()


def build() -> nn.Module:
    """Return the network, untrained."""
    from transformers import ResNetConfig, ResNetModel

    return ResNetModel(ResNetConfig(embedding_size=32, hidden_sizes=[32, DIM], depths=[2, 3], layer_type="basic"))


def read_pictures(worlds: Path) -> Pictures:
    """Return all frames of a collection with tracks `frames` and `semantic`."""
    light, classes = [], []
    for entry in open_collection(worlds).entries:
        frames, maps = (entry.recording.tracks[name] for name in ("frames", "semantic"))
        light += [frames.read(number) for number in range(len(frames))]
        classes += [maps.read(number) for number in range(len(maps))]
    # Frames have 16 bits.
    return Pictures(torch.from_numpy(np.stack(light).astype(np.float32) / 65535), torch.from_numpy(np.stack(classes)))


def tokens(network: nn.Module, pictures: Tensor) -> Tensor:
    """Return what the network makes of grey pictures (B, 1, H, W) in [0, 1], (B, N, DIM)."""
    out: Tensor = network(normalised(pictures)).last_hidden_state
    return out.flatten(2).transpose(1, 2)


def shares(classes: Tensor, num_classes: int) -> Tensor:
    """Return the share of each class in each patch of maps (B, H, W), (B, N, num_classes)."""
    ones = functional.one_hot(classes.long(), num_classes).float()
    return functional.avg_pool2d(ones.permute(0, 3, 1, 2), PATCH).flatten(2).transpose(1, 2)


def save(folder: Path, network: nn.Module) -> None:
    """Write the teacher so that eventfm and transformers read it."""
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    network.save_pretrained(unfinished)
    said = json.dumps({"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD})
    write_atomic(unfinished / "preprocessor_config.json", said)
    unfinished.replace(folder)
