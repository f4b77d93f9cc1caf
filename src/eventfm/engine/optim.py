"""AdamW over named parameter groups, the learning rate as a function of the step, gradient clipping."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from eventfm.protocols import ParameterRule

log = logging.getLogger(__name__)


def schedule(step: int, num_steps: int, warmup_steps: int, lr: float, min_lr: float = 0.0) -> float:
    """Return the learning rate of `step`: linear from 0 to `lr` over the warm-up, then half a cosine to `min_lr`."""
    if step < warmup_steps:
        return lr * step / warmup_steps
    done = min(1.0, (step - warmup_steps) / max(1, num_steps - warmup_steps))
    return min_lr + (lr - min_lr) * 0.5 * (1.0 + math.cos(math.pi * done))


def decayed(
    step: int, steps_per_epoch: float, warmup_steps: int, lr: float, factor: float, min_lr: float = 0.0
) -> float:
    """Return the learning rate of `step`: linear from 0 to `lr` over the warm-up, and `factor` times it each epoch.

    It falls at the ends of epochs, counted from the first step, and never below `min_lr`.
    """
    rate = max(min_lr, lr * factor ** int(step / steps_per_epoch))
    return rate * step / warmup_steps if step < warmup_steps else rate


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]], rules: Sequence[ParameterRule], weight_decay: float
) -> list[dict[str, Any]]:
    """Return optimiser groups in which every trainable parameter is exactly once.

    The first rule whose pattern is found in a parameter's name holds for it. Where none does, or the rule leaves the
    decay open, biases and parameters of at most one dimension have no decay. Each group carries its `lr_scale`.

    Raises:
        ValueError: No parameter is trainable.
    """
    grouped: dict[tuple[float, float], list[nn.Parameter]] = {}
    matched: set[str] = set()
    empty = True
    for name, parameter in named:
        empty = empty and not parameter.requires_grad
        hits = [rule for rule in rules if re.search(rule.pattern, name)]
        matched.update(rule.pattern for rule in hits)
        if parameter.requires_grad:
            rule = hits[0] if hits else ParameterRule("")
            decay = rule.weight_decay
            if decay is None:
                decay = 0.0 if parameter.ndim <= 1 or name.endswith("bias") else weight_decay
            grouped.setdefault((rule.lr_scale, decay), []).append(parameter)
    if empty:
        raise ValueError("expected at least one parameter with requires_grad, got none: there is nothing to train")
    if unused := [rule.pattern for rule in rules if rule.pattern not in matched]:
        log.warning("the parameter rules %s match no parameter", unused)
    return [
        {"params": parameters, "lr_scale": lr_scale, "weight_decay": decay}
        for (lr_scale, decay), parameters in grouped.items()
    ]


def build_optimizer(
    module: nn.Module, rules: Sequence[ParameterRule], weight_decay: float, betas: tuple[float, float]
) -> torch.optim.AdamW:
    """Return AdamW over the trainable parameters of `module`: fused on CUDA, grouped (foreach) elsewhere.

    The moments exist from the start, so that a checkpoint holds the same entries whichever parameters have had a
    gradient by then.
    """
    groups = parameter_groups(module.named_parameters(), rules, weight_decay)
    fused = all(parameter.is_cuda for group in groups for parameter in group["params"])
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=betas, fused=fused, foreach=not fused)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # with a learning rate of 0 this only allocates
    optimizer.zero_grad(set_to_none=True)
    for state in optimizer.state.values():
        state["step"].zero_()
    return optimizer


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group to `lr` times the group's factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


def trainable(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Return the optimiser's parameters that have a gradient."""
    return [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]


def gradient_norm(parameters: Sequence[Tensor]) -> Tensor:
    """Return the 2-norm of all gradients together, a 0-d tensor, whole also where parameters are sharded."""
    norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm


def clip_gradients(parameters: Sequence[Tensor], max_norm: float, norm: Tensor) -> None:
    """Scale the gradients, whose norm is `norm`, so that it is at most `max_norm`."""
    clip_grads_with_norm_(parameters, max_norm, norm)
