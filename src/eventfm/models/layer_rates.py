"""Learning rates by layer, for any backbone that names its layers.

The rules come in pairs, since the first rule that matches a parameter decides its decay as well: what must not decay
first, then the rest of the layer. They go before the general rule for `NO_DECAY`. Names that are in no layer (final
norm, fusion, heads) are left to the rules that follow, hence keep the run's full rate.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from eventfm.models.layers import NO_DECAY
from eventfm.protocols import Backbone, ParameterRule

GRAFTED_SCALES = (0.01, 0.1, 1.0)
"""Factors of the three groups of layers, from the input on (EventPretrain, stage 3, after layer-grafted training)."""


def layer_decay(backbone: Backbone, prefix: str, factor: float) -> list[ParameterRule]:
    """Return rules by which each layer learns `factor` times as fast as the next; the last one at the full rate.

    `prefix` is what stands before the backbone's parameter names, such as "backbone.".
    """
    layers = backbone.layers()
    last = len(layers) - 1
    return _rules(layers, prefix, [factor ** (last - i) for i in range(len(layers))])


def layer_grafted(backbone: Backbone, prefix: str) -> list[ParameterRule]:
    """Return rules by which the layers learn at `GRAFTED_SCALES` of the rate, by thirds of the transformer blocks.

    The first third goes with all layers before it. Thirds are rounded up: 4 + 4 + 4 of 12 blocks, 4 + 4 + 3 of 11.

    Raises:
        ValueError: No layer of the backbone is a transformer block, named `blocks.N.` at any depth.
    """
    layers = backbone.layers()
    blocks = [any(re.search(r"(?:^|\.)blocks\.\d+\.$", name) for name in layer) for layer in layers]
    if not any(blocks):
        raise ValueError(f"expected layers with names such as blocks.0. among those of the backbone, got {layers}")
    third = math.ceil(sum(blocks) / 3)
    groups = [max(0, sum(blocks[: i + 1]) - 1) // third for i in range(len(layers))]
    return _rules(layers, prefix, [GRAFTED_SCALES[group] for group in groups])


def _rules(layers: Sequence[Sequence[str]], prefix: str, scales: Sequence[float]) -> list[ParameterRule]:
    rules = []
    for layer, scale in zip(layers, scales, strict=True):
        names = "|".join(re.escape(prefix + name) for name in layer)
        rules.append(ParameterRule(f"^(?=.*(?:{NO_DECAY}))(?:{names})", scale, weight_decay=0.0))
        rules.append(ParameterRule(f"^(?:{names})", scale))
    return rules
