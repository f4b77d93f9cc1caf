"""Classes of pixels by nearest neighbours: what frozen tokens say of them, with nothing to learn.

A relative of the dense retrieval of Balazevic et al. (NeurIPS 2023, "Towards In-Context Scene Understanding"), from
which cosine similarity, soft labels of patches and votes weighted by a temperature are taken. The bank is smaller, and
drawn evenly over all patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from eventfm.data.loader import SampleSet, evaluation_batches
from eventfm.data.targets import NOT_LABELLED
from eventfm.evaluation.probes import ProbeError
from eventfm.protocols import Batch
from eventfm.random import uniforms

_SIMILARITIES = 2**24
"""Similarities that are held at a time."""


class Bank(NamedTuple):
    """Labelled patches."""

    tokens: Tensor
    """(M, D), of unit length."""
    shares: Tensor
    """(M, K), the share of each class among the labelled pixels of each patch."""


@dataclass(frozen=True)
class PatchNeighbours:
    """Answers the classes of pixels by the patches of a bank that are nearest to each patch of the input."""

    backbone: nn.Module
    """A network in evaluation mode."""
    bank: Bank
    neighbours: int = 30
    temperature: float = 0.02
    """By which similarities are divided before they are made weights: a low one leaves the vote to the nearest."""

    @torch.no_grad()
    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Return `logits` (B, K, rows, cols), the shares of classes on the grid of patches (`scoring.Predict`)."""
        features = self.backbone(batch["input"])
        return {"logits": self.votes(features.tokens).movedim(-1, 1).unflatten(2, features.grid)}

    def votes(self, tokens: Tensor) -> Tensor:
        """Return the mean shares (..., K) of the neighbours of `tokens` (..., D), weighted by softmax(cosine / T)."""
        queries = functional.normalize(tokens.flatten(0, -2).float(), dim=-1)
        num = min(self.neighbours, len(self.bank.tokens))
        found = []
        for part in queries.split(max(1, _SIMILARITIES // len(self.bank.tokens))):
            similarity, place = (part @ self.bank.tokens.T).topk(num)
            weights = (similarity / self.temperature).softmax(1)
            found.append((weights.unsqueeze(1) @ self.bank.shares[place]).squeeze(1))
        return torch.cat(found).unflatten(0, tokens.shape[:-1])


@torch.no_grad()
def fill_bank(
    backbone: nn.Module, samples: SampleSet, names: Sequence[str], num_classes: int, size: int, batch_size: int = 16
) -> Bank:
    """Return the tokens of the labelled patches of `samples`, or of `size` of them where there are more.

    A hash of its sample's name and of its place in that decides whether a patch is among them, so that the bank of a
    network depends neither on the order of the samples nor on their batches, and a smaller one is part of a larger one.
    No more is ever held than the bank and a batch.

    Args:
        backbone: A network in evaluation mode, on the device where the bank is to be.
        samples: With `input` and `semantic`.
        names: One for each sample.
        num_classes: How many classes there are.
        size: Patches at most.
        batch_size: Samples that go through the network at a time.

    Raises:
        ProbeError: No patch is labelled, or a token is not finite.
    """
    device = next(backbone.parameters()).device
    kept: list[Tensor] = []
    for batch in evaluation_batches(samples, batch_size):
        features = backbone(batch["input"].to(device))
        shares = class_shares(batch["semantic"], features.grid, num_classes)
        draws = torch.stack(
            [torch.from_numpy(uniforms(0, names[number], shares.shape[1])) for number in batch["index"].tolist()]
        )
        labelled = shares.sum(-1) > 0
        tokens = features.tokens.float()[labelled.to(device)]
        if not tokens.isfinite().all():
            raise ProbeError("expected finite tokens of the training windows, and some are not")
        new = [draws[labelled], functional.normalize(tokens, dim=-1), shares[labelled].to(device)]
        kept = [torch.cat(pair) for pair in zip(kept, new, strict=True)] if kept else new
        chosen = kept[0].topk(min(size, len(kept[0])), largest=False).indices
        kept = [rows[chosen.to(rows.device)] for rows in kept]
    if not kept or not len(kept[0]):
        raise ProbeError("no pixel of the training windows is labelled: there are no neighbours to ask")
    return Bank(*kept[1:])


def class_shares(labels: Tensor, grid: tuple[int, int], num_classes: int) -> Tensor:
    """Return the share of each class among the labelled pixels of each patch, (B, N, K); zeros where there are none.

    `labels` (B, H, W) have classes and 255; `grid` is the rows and columns of the patches.
    """
    batch, height, width = labels.shape
    rows = torch.arange(height, device=labels.device) * grid[0] // height
    columns = torch.arange(width, device=labels.device) * grid[1] // width
    patches = grid[0] * grid[1]
    sample = torch.arange(batch, device=labels.device).view(-1, 1, 1)
    number = (sample * patches + rows[:, None] * grid[1] + columns) * num_classes + labels
    counts = torch.bincount(number[labels != NOT_LABELLED], minlength=batch * patches * num_classes)
    counts = counts.view(batch, patches, num_classes).float()
    return counts / counts.sum(-1, keepdim=True).clamp_min(1)
