"""Contrast of queries and keys position by position (EventPretrain, stages 2 and 3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Contrast(NamedTuple):
    """What comparing each query with its key and with others gives, each (B, L) float32."""

    loss: Tensor
    """-log of the share of its own key."""
    cosine: Tensor
    """Between a query and its own key, without gradient."""
    picked: Tensor
    """1 where its own key is nearer to a query than any other; a tie is not."""


def queue_contrast(query: Tensor, key: Tensor, entries: Tensor, temperature: float) -> Contrast:
    """Compare queries (B, L, D) with their keys (B, L, D) and with `entries` (D, L, K) of the same position.

    All vectors have length 1. The gradient reaches the keys; `entries` are constants.
    """
    query, key, entries = query.float(), key.float(), entries.detach()
    # Half precision resolves a cosine to 0.004, which over a temperature of 0.07 is no small part of the loss.
    with torch.autocast(query.device.type, enabled=False):
        own = (query * key).sum(dim=2) / temperature
        others = torch.einsum("bld,dlk->blk", query, entries) / temperature
    loss = torch.logaddexp(own, others.logsumexp(dim=2)) - own
    return Contrast(loss, (own * temperature).detach(), (own > others.amax(dim=2)).float())


def batch_contrast(query: Tensor, key: Tensor, offset: int, temperature: float) -> Contrast:
    """Compare queries (B, L, D) with the keys (M, L, D) of a whole batch, of the same position.

    All vectors have length 1. Query `b` belongs to key `b + offset`.
    """
    query, key = query.float(), key.float()
    with torch.autocast(query.device.type, enabled=False):
        logits = torch.einsum("bld,mld->blm", query, key) / temperature
    own_number = torch.arange(offset, offset + len(query), device=query.device)[:, None, None]
    own = logits.gather(2, own_number.expand(-1, logits.shape[1], 1))[:, :, 0]
    picked = (logits >= own[:, :, None]).sum(dim=2) == 1
    return Contrast(logits.logsumexp(dim=2) - own, (own * temperature).detach(), picked.float())


@torch.no_grad()
def image_cosine(query: Tensor) -> Tensor:
    """Return the mean cosine of two samples' queries (B, L, D) at the same position, 0-d; 0 for a single sample.

    Near 1 the queries tell positions, not what is seen there: they have collapsed.
    """
    size = len(query)
    if size == 1:
        return query.new_zeros((), dtype=torch.float32)
    total = functional.normalize(query.float(), dim=2).sum(dim=0).square().sum(dim=1)
    return ((total - size) / (size * (size - 1))).mean()
