"""Low-rank updates of a network's linear layers (LoRA: Hu et al., ICLR 2022): few weights learn, and merge at the end.

A linear layer of weight W (out, in) becomes W + (alpha / rank) B A, with A (rank, in) and B (out, rank). They are
parametrizations of PyTorch, so that the network's own code does not change; in the state dict W is called
`parametrizations.weight.original`.
"""

from __future__ import annotations

import re
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

IN_BLOCKS = r"(?:^|\.)blocks\.\d+\."
"""Where the linear layers of transformer blocks are, in every backbone."""


class LowRankUpdate(nn.Module):
    """Adds (alpha / rank) B A to a weight. B starts at zero, so that nothing changes at first."""

    def __init__(self, out_dim: int, in_dim: int, rank: int, alpha: float) -> None:
        super().__init__()
        self.scale = alpha / rank
        self.down = nn.Parameter(torch.empty(rank, in_dim))
        self.up = nn.Parameter(torch.zeros(out_dim, rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the updated `weight` (out, in)."""
        return weight + self.scale * (self.up @ self.down)


def add_lora(module: nn.Module, rank: int = 8, alpha: float = 16.0, where: str = IN_BLOCKS) -> list[str]:
    """Give the linear layers of `module` whose names match `where` a low-rank update, and return these names.

    Nothing but the updates learns from then on.

    Raises:
        ValueError: `rank` is below 1, or no linear layer has such a name.
    """
    if rank < 1:
        raise ValueError(f"expected a rank of at least 1, got {rank}")
    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.Linear)}
    chosen = {name: layer for name, layer in layers.items() if re.search(where, name)}
    if not chosen:
        raise ValueError(f"expected linear layers with names like {where!r}, got {sorted(layers)[:5] or 'none'}")
    module.requires_grad_(False)
    for layer in chosen.values():
        update = LowRankUpdate(layer.out_features, layer.in_features, rank, alpha).to(layer.weight)
        # Not unsafe: the update keeps shape and kind of the weight; the check would run it once for every layer.
        parametrize.register_parametrization(layer, "weight", update, unsafe=True)
    return list(chosen)


def merged_state(module: nn.Module) -> dict[str, Tensor]:
    """Return the state of `module` with every update put into its weight: names and values are a plain network's.

    `module` keeps its updates. (Removing parametrizations from a copy would break the original: both share a class.)
    """
    layers = dict(module.named_modules())
    state: dict[str, Tensor] = {}
    for name, value in module.state_dict().items():
        layer, found, part = name.rpartition(".parametrizations.weight.")
        if not found:
            state[name] = value
        elif part == "original":
            state[f"{layer}.weight"] = cast(Tensor, layers[layer].weight).detach()
    return state
