"""What the caller may add to the loop: the engine calls these and never imports upwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import nn

Metrics = Mapping[str, float]


class Best(NamedTuple):
    """Which metric says that a checkpoint is the best."""

    metric: str
    """A name that `validate` returns."""
    mode: Literal["min", "max"]
    """Whether less or more of it is better."""

    def improves(self, value: float, best: float | None) -> bool:
        """Return whether `value` is better than the `best` so far; NaN never is."""
        if best is None:
            return value == value
        return value > best if self.mode == "max" else value < best


@dataclass(frozen=True)
class Hooks:
    """Optional calls into the layers above.

    The objective they receive is an ordinary module with whole parameters, in evaluation mode: under FSDP2 it is a
    gathered copy. `validate` runs on every rank (it may share its work over them) and rank 0's answer holds; the
    other three run on rank 0 while the other ranks wait.
    """

    on_log: Callable[[int, Metrics], None] | None = None
    """Gets the step and every line of metrics."""
    validate: Callable[[nn.Module, int], Metrics] | None = None
    """Returns figures of the objective, which join the step's metrics."""
    validate_every: int = 1000
    """Steps between two validations; the last step is always validated."""
    pictures: Callable[[nn.Module, int], None] | None = None
    """Draws pictures; called after each validation, or at saves where there is none."""
    export: Callable[[nn.Module, int], None] | None = None
    """Writes the encoder at saves and at the end; with `best`, only of the best step so far."""
    best: Best | None = None
    """Keeps the best checkpoint; the run ends with its weights."""

    def __post_init__(self) -> None:
        if self.validate_every < 1:
            raise ValueError(f"expected validate_every of at least 1, got {self.validate_every}")
        if self.best is not None and self.validate is None:
            raise ValueError(f"best names the metric {self.best.metric!r} and there is no validate hook to measure it")
