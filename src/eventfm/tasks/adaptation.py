"""How much of a backbone learns a task, and how fast."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from eventfm.config import Config, ConfigError
from eventfm.models.layer_rates import layer_decay
from eventfm.models.layers import NO_DECAY
from eventfm.models.lora import add_lora
from eventfm.protocols import ParameterRule

PROBE_PATCHES = 4
"""Patches a side of the input by which is found out what a head reads; some backbones want at least 3."""


class AdaptConfig(Config):
    """What of the backbone learns."""

    mode: Literal["full", "frozen", "partial", "lora"] = "full"
    """`full`: everything; `frozen`: nothing, and it stays in evaluation mode; `partial`: its last layers and what comes
    after them; `lora`: low-rank updates of the linear layers of its blocks."""
    last: PositiveInt = 1
    """Layers that learn in `partial`, counted from the output."""
    rank: PositiveInt = 8
    """Of the updates in `lora`."""
    alpha: float = Field(default=16.0, gt=0)
    """The updates in `lora` are scaled by alpha / rank."""


def adapt(backbone: Any, config: AdaptConfig) -> None:
    """Make `backbone` learn as `config` says; what did not learn before is left so.

    Raises:
        ConfigError: The backbone has fewer layers than are to learn.
    """
    if config.mode == "frozen":
        backbone.requires_grad_(False)
    elif config.mode == "lora":
        add_lora(backbone, rank=config.rank, alpha=config.alpha)
    elif config.mode == "partial":
        layers = backbone.layers()
        if config.last > len(layers):
            raise ConfigError(f"expected adapt.last of at most {len(layers)}, the backbone's layers, got {config.last}")
        fixed = tuple(prefix for layer in layers[: -config.last] for prefix in layer)
        for name, parameter in backbone.named_parameters():
            if name.startswith(fixed):
                parameter.requires_grad_(False)


def leave_unread(backbone: Any, in_channels: int, read: Callable[[Tensor], Iterable[Tensor]]) -> None:
    """Exclude from training what none of the outputs that `read` returns of an input depends on.

    A dense head does not read the last norm of some backbones, for instance. Left in, such a parameter would never get
    a gradient, for which training on many ranks would wait in vain.
    """
    learning = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    if not learning:
        return
    side = PROBE_PATCHES * backbone.stride
    was_training = backbone.training
    backbone.eval()
    with torch.enable_grad():
        total = torch.stack([each.sum() for each in read(torch.zeros(1, in_channels, side, side))]).sum()
        gradients = torch.autograd.grad(total, learning, allow_unused=True)
    backbone.train(was_training)
    for parameter, gradient in zip(learning, gradients, strict=True):
        if gradient is None:
            parameter.requires_grad_(False)


def rules(backbone: Any, prefix: str, factor: float | None = None, rate: float = 1.0) -> list[ParameterRule]:
    """Return rules by which the backbone learns at `rate` of the run's learning rate, and heads at the full one.

    With `factor`, each layer learns that much slower than the next. Biases and norms do not decay. `prefix` is what
    stands before the backbone's parameter names, such as "backbone.".
    """
    by_layer = [] if factor is None else layer_decay(backbone, prefix, factor)
    slower = [rule._replace(lr_scale=rule.lr_scale * rate) for rule in by_layer]
    if rate != 1.0:
        slower.append(ParameterRule(f"^(?=.*(?:{NO_DECAY})){re.escape(prefix)}", rate, weight_decay=0.0))
        slower.append(ParameterRule(f"^{re.escape(prefix)}", rate))
    return [*slower, ParameterRule(NO_DECAY, weight_decay=0.0)]
