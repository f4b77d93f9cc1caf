"""The segmentation probe: one linear layer on frozen tokens, chosen on some pictures and scored on others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from distilled.streets import CLASSES, VOID
from distilled.teacher import shares, soft_cross_entropy

MOST_ROUNDS = 60
"""Of L-BFGS, for each penalty; the next one starts where the last ended."""


class Labelled(NamedTuple):
    """Tokens of pictures whose classes are known."""

    tokens: Tensor
    """(N, rows * cols, D)."""
    labels: Tensor
    """(N, H, W) uint8."""
    picture: Tensor
    """(N,) which picture it is a view of."""


def probe(parts: Mapping[str, Labelled], patch: int, penalties: tuple[float, ...]) -> dict[str, Any]:
    """Return how well a linear layer on the tokens of `train` tells the classes in `test`.

    Its penalty, on the squares of its weights, is the one of `penalties` that is best on `choice`. Scores are of
    pixels: scores of classes are interpolated linearly between patches. `confusions` (pictures of `test`, classes,
    classes) counts them, true classes first.
    """
    train = parts["train"]
    mean, std = train.tokens.mean(dim=(0, 1)), train.tokens.std(dim=(0, 1)).clamp(min=1e-6)
    known = {name: part._replace(tokens=(part.tokens - mean) / std) for name, part in parts.items()}
    wanted = shares(train.labels, patch)
    layer = nn.Linear(train.tokens.shape[2], len(CLASSES))
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    found = []
    for penalty in sorted(penalties, reverse=True):
        fit(layer, known["train"].tokens, wanted, penalty)
        chosen_by = float(miou(confusions(layer, known["choice"], patch).sum(axis=0)))
        found.append((chosen_by, penalty, confusions(layer, known["test"], patch)))
    chosen_by, penalty, counts = max(found, key=lambda item: item[0])
    total = counts.sum(axis=0)
    return {
        "miou": float(miou(total)),
        "accuracy": float(accuracy(total)),
        "penalty": penalty,
        "choice_miou": chosen_by,
        "confusions": counts.tolist(),
    }


def fit(layer: nn.Linear, tokens: Tensor, wanted: Tensor, penalty: float) -> None:
    """Let `layer` minimise cross-entropy and `penalty` times half the squares of its weights, from where it is."""
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=MOST_ROUNDS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = soft_cross_entropy(layer(tokens), wanted) + penalty / 2 * layer.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)


@torch.inference_mode()
def confusions(layer: nn.Linear, part: Labelled, patch: int) -> NDArray[np.int64]:
    """Return how many pixels of which class are said to be of which, (pictures, classes, classes), views together."""
    height, width = part.labels.shape[1:]
    count = len(CLASSES)
    out = np.zeros((int(part.picture.max()) + 1, count, count), np.int64)
    for tokens, labels, picture in zip(part.tokens, part.labels, part.picture.tolist(), strict=True):
        scores = layer(tokens).T.unflatten(1, (height // patch, width // patch))
        said = functional.interpolate(scores[None], (height, width), mode="bilinear")[0].argmax(dim=0)
        true = labels != VOID
        pairs = labels[true].long() * count + said[true]
        out[picture] += torch.bincount(pairs, minlength=count**2).view(count, count).numpy()
    return out


def miou(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean intersection over union of `counts` (..., classes, classes), over the classes that are there."""
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    true, said = counts.sum(axis=-1), counts.sum(axis=-2)
    there = true > 0
    each = np.where(there, right / np.maximum(true + said - right, 1), 0)
    return each.sum(axis=-1) / np.maximum(there.sum(axis=-1), 1)


def accuracy(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return the share of pixels that are right in `counts` (..., classes, classes)."""
    return np.trace(counts, axis1=-2, axis2=-1) / np.maximum(counts.sum(axis=(-2, -1)), 1)
