"""Stages 1 and 3 of EventPretrain at once: masked modelling and the contrast, one backbone, one step (an ablation)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field
from torch import Tensor, nn

from eventfm.methods import difference
from eventfm.methods.contrast import ContrastTerm, FeatureContrast, assemble
from eventfm.methods.difference import DifferenceConfig, DifferenceModeling
from eventfm.protocols import Batch, ParameterRule, Progress, Teacher


class JointConfig(DifferenceConfig):
    """All that stage 1 can be told, and the contrast beside it."""

    name: Literal["joint"] = "joint"  # type: ignore[assignment]
    contrast: ContrastTerm = ContrastTerm()
    """Heads and loss of the contrast."""
    contrast_weight: float = Field(default=1.0, ge=0)
    """What the contrast counts beside the masked modelling."""


class JointModeling(nn.Module):
    """The sum of both losses; the backbone runs twice, masked and whole.

    The two objectives hold the same backbone. Their parts are this module's own, under the names that they have in
    either, so that every parameter is there once; the objectives themselves are not submodules.
    """

    def __init__(self, difference: DifferenceModeling, contrast: FeatureContrast, contrast_weight: float = 1.0) -> None:
        super().__init__()
        assert difference.backbone is contrast.backbone
        self._objectives = (difference, contrast)  # in a tuple nothing is registered
        for objective in self._objectives:
            for name, part in objective.named_children():
                self.add_module(name, part)
        self.contrast_weight = contrast_weight

    def train(self, mode: bool = True) -> Self:
        """Set the training mode, of the two objectives as well."""
        super().train(mode)
        for objective in self._objectives:
            objective.train(mode)
        return self

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return `loss`, its two terms `difference_loss` and `contrast_loss`, and what else the objectives tell."""
        masked, compared = (objective(batch, progress) for objective in self._objectives)
        losses = {"difference_loss": masked.pop("loss"), "contrast_loss": compared.pop("loss")}
        total = losses["difference_loss"] + self.contrast_weight * losses["contrast_loss"]
        return {"loss": total, **losses, **masked, **compared}

    def after_step(self, progress: Progress) -> None:
        """Let the step's keys into the queue."""
        for objective in self._objectives:
            objective.after_step(progress)

    def encoder(self) -> nn.Module:
        """Return the backbone."""
        return self._objectives[0].encoder()

    def parameter_rules(self) -> list[ParameterRule]:
        """Return the rules of both objectives."""
        return list(dict.fromkeys(rule for objective in self._objectives for rule in objective.parameter_rules()))

    def shard_units(self) -> list[nn.Module]:
        """Return the blocks of the backbone and the decoder and the linear layers of the heads, each once."""
        return list(dict.fromkeys(unit for objective in self._objectives for unit in objective.shard_units()))

    def reconstruct(self, batch: Batch) -> dict[str, Tensor]:
        """Return what `DifferenceModeling.reconstruct` does."""
        return self._objectives[0].reconstruct(batch)

    def inspect(self, batch: Batch) -> dict[str, Tensor]:
        """Return what `FeatureContrast.inspect` does."""
        return self._objectives[1].inspect(batch)


def build(
    config: Mapping[str, Any] | JointConfig,
    in_channels: int,
    image_size: tuple[int, int],
    teacher: Teacher | None = None,
) -> JointModeling:
    """Return `JointModeling` as `config` says, for inputs (B, in_channels, H, W) of `image_size` (H, W).

    Raises:
        ConfigError: An unknown key or a value out of range; no teacher.
        ValueError: Sizes that do not fit together.
    """
    if not isinstance(config, JointConfig):
        config = JointConfig.parse(config, under="method")
    masked = difference.build(config, in_channels, image_size)
    contrast = assemble(masked.backbone, config.contrast, image_size, teacher)
    return JointModeling(masked, contrast, config.contrast_weight)
