"""Fine-tuning with few labels: the backbone, the mean of its tokens, one linear layer, plain training.

One window of a recording is a sample while training; a recording is scored by the mean log-probability of its windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from eventfm.data.collection import Collection
from eventfm.data.loader import Loader
from eventfm.data.pairs import WindowSamples
from eventfm.data.transforms import AugmentConfig
from eventfm.data.windows import read, spread
from eventfm.deployment.predict import LoadedEncoder
from eventfm.random import derive, generator
from eventfm.representations import VoxelGrid
from quality.settings import Settings
from quality.teacher import warm_cosine

NUM_WINDOWS = 3
HEAD_FACTOR = 10.0
"""Learning rate of the classifier, which starts at zero, as a multiple of that of the backbone."""


def few(labels: NDArray[np.int64], among: NDArray[np.int64], per_class: int, seed: int) -> NDArray[np.int64]:
    """Return `per_class` members of `among` of every class, drawn from `seed`, in order of number."""
    rng = generator(seed, "few labels")
    of_class = [among[labels[among] == label] for label in np.unique(labels)]
    return np.sort(np.concatenate([rng.permutation(members)[:per_class] for members in of_class]))


def fine_tune(
    encoder: LoadedEncoder,
    collection: Collection,
    train: NDArray[np.int64],
    lr: float,
    flip: bool,
    seed: int,
    settings: Settings,
) -> tuple[nn.Module, nn.Linear]:
    """Return a copy of the backbone and a classifier, trained on the recordings `train` for the same steps always."""
    backbone = deepcopy(encoder.backbone)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "classifier") % 2**63)
        head = nn.Linear(backbone.embed_dim, len(collection.classes))
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    windows = [(int(n), w) for n in train for w in spread(collection.entries[n].recording, encoder.window, NUM_WINDOWS)]
    samples = WindowSamples(
        collection, tuple(windows), encoder.window, encoder.representation, VoxelGrid(1), encoder.input_size,
        AugmentConfig(flip=0.5 if flip else 0.0, erase=0.1, add=0.1),
    )  # fmt: skip
    parameters = [p for p in backbone.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.05, "factor": 1.0},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0, "factor": 1.0},
        {"params": [*head.parameters()], "weight_decay": 0.0, "factor": HEAD_FACTOR},
    ]
    optimizer = torch.optim.AdamW(groups, lr)
    batches = Loader(samples, min(settings.tune_batch, len(windows)), seed, num_workers=1)(0)
    backbone.train()
    for step in range(settings.tune_steps):
        for group in optimizer.param_groups:
            group["lr"] = group["factor"] * lr * warm_cosine(step, settings.tune_steps, 0.1)
        batch = next(batches)
        scores = head(backbone(batch["input"]).tokens.mean(dim=1))
        loss = nn.functional.cross_entropy(scores, batch["label"], label_smoothing=0.1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    batches.close()
    return backbone.eval(), head


@torch.inference_mode()
def predict(backbone: nn.Module, head: nn.Linear, inputs: torch.Tensor) -> NDArray[np.int64]:
    """Return the label of each recording; `inputs` (N, windows, C, H, W)."""
    flat = inputs.flatten(0, 1)
    scores = torch.cat([head(backbone(part).tokens.mean(dim=1)).log_softmax(dim=1) for part in flat.split(256)])
    found: NDArray[np.int64] = scores.view(len(inputs), -1, scores.shape[1]).mean(dim=1).argmax(dim=1).numpy()
    return found


def inputs_of(encoder: LoadedEncoder, collection: Collection) -> torch.Tensor:
    """Return the network's inputs of all recordings, (N, windows, C, H, W), as the probes see them."""
    parts = [
        encoder.tensors([read(e.recording, w) for w in spread(e.recording, encoder.window, NUM_WINDOWS)])
        for e in collection.entries
    ]
    return torch.stack(parts)


def choose_lr(
    encoder: LoadedEncoder,
    collection: Collection,
    labels: NDArray[np.int64],
    inputs: torch.Tensor,
    part: NDArray[np.int64],
    flip: bool,
    seed: int,
    settings: Settings,
) -> float:
    """Return the learning rate that is best inside the training part `part`: few of it to learn, others to score."""
    if len(settings.tune_lrs) == 1:
        return settings.tune_lrs[0]
    train = few(labels, part, settings.labels_per_class, derive(seed, "choice") % 2**31)
    rest = np.setdiff1d(part, train)[:600]

    def accuracy(lr: float) -> float:
        found = predict(*fine_tune(encoder, collection, train, lr, flip, seed, settings), inputs[rest])
        return float((found == labels[rest]).mean())

    scores: Sequence[float] = [accuracy(lr) for lr in settings.tune_lrs]
    return settings.tune_lrs[int(np.argmax(scores))]
