"""Learned queries that join the tokens of a plain transformer in its last blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def run_with_queries(
    blocks: Sequence[nn.Module] | nn.ModuleList, tokens: Tensor, queries: Tensor, last: int, **arguments: Any
) -> Tensor:
    """Return queries and tokens (B, Q + N, D) after all `blocks`, not normed, the queries first.

    The `tokens` (B, N, D) run alone through all blocks but the last `last`; those see the `queries` (Q, D) as well
    (EoMT: Kerssies et al., CVPR 2025). `arguments` go to each block.

    Raises:
        ValueError: There are not as many blocks, or the queries are of another width.
    """
    if not 1 <= last <= len(blocks):
        raise ValueError(f"expected queries in 1 to {len(blocks)} last blocks, as many as there are, got {last}")
    if queries.ndim != 2 or queries.shape[1] != tokens.shape[2]:
        raise ValueError(f"expected queries (Q, {tokens.shape[2]}) of the backbone's width, got {tuple(queries.shape)}")
    for number, block in enumerate(blocks):
        if number == len(blocks) - last:
            tokens = torch.cat([queries.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        tokens = block(tokens, **arguments)
    return tokens
