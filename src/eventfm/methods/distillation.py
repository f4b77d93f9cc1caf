"""Structure-aware distillation of an image teacher into an event backbone (ScaleEvent, Chen et al., CVPR 2026).

The student's tokens are to be the teacher's (token term), to resemble each other as the teacher's do (intra term), and
to resemble the teacher's tokens of other places as these resemble each other (cross term), wherever events are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from eventfm.config import Config, ConfigError
from eventfm.methods.activation import active_patches, active_share
from eventfm.methods.pairing import Grid, taught_tokens
from eventfm.methods.structure_loss import Form, structure_terms
from eventfm.models import build_backbone
from eventfm.models.configs import BackboneConfig
from eventfm.models.encoder import without_fusion
from eventfm.models.layers import NO_DECAY
from eventfm.protocols import Batch, ParameterRule, Progress, Teacher

FIXED = r"^(?:\w+\.)?(?:cls_token|register_tokens|mask_token)$|^norm\."
"""Parameters of a backbone that the released code leaves as they are: class and register tokens and the last norm."""
FIRST_LAYER = r"^backbone\.(?:embeddings|patch_embed|stems)\."
MaskKind = Literal["threshold", "share", "stored", "none"]


class WeightsConfig(Config):
    """What each term counts, as published; 0 leaves it out."""

    token: float = Field(default=1.0, ge=0)
    intra: float = Field(default=10.0, ge=0)
    cross: float = Field(default=4.0, ge=0)


class MaskConfig(Config):
    """Which patches count: the active ones (ScaleEvent, section 3)."""

    by: MaskKind = "threshold"
    """`threshold`: with at least so many events; `share`: those with most events, in each sample; `stored`: those that
    the data name; `none`: all."""
    threshold: PositiveFloat = 64.0
    """Events per 256 sensor pixels, that is in a patch of 16x16 of them."""
    share: float = Field(default=0.3, gt=0, le=1)
    """Share of a sample's patches; one without any event is never active."""


class DistillationConfig(Config):
    """The whole method; defaults are eventfm's, the recipes say what was published and what was released."""

    name: Literal["distillation"] = "distillation"
    backbone: BackboneConfig = BackboneConfig(name="dinov3_small")
    """The student."""
    form: Form = "robust"
    """How the terms are written: as in the paper, as in the released code, or in our own form, in which a student
    whose tokens have become one pays for it (see `methods.structure_loss`)."""
    weights: WeightsConfig = WeightsConfig()
    mask: MaskConfig = MaskConfig()
    layers: tuple[PositiveInt, ...] = ()
    """Blocks, counted from 1, whose normed tokens are compared, all with the same weight; the last one's where none is
    named. The teacher has to give as many (`teacher.layers`)."""
    projection: Literal["none", "linear"] = "none"
    """Whether a linear layer takes the student's tokens to the teacher's dimension; published without."""
    train: Literal["all", "released"] = "all"
    """What of the student learns: everything, or all but class and register tokens and the last norm."""
    first_layer_rate: float = Field(default=1.0, gt=0, le=1)
    """Learning rate of the patch embedding, as a share of the others'."""


class _Compared(NamedTuple):
    """What is compared in a batch, layer by layer."""

    student: list[Tensor]
    """(B, N, D) each."""
    teacher: list[Tensor]
    """(B, N, D) float32 each."""
    active: Tensor
    """(B, N) bool."""
    grid: Grid


class StructureDistillation(nn.Module):
    """Compares the tokens of a backbone with a teacher's, patch by patch and pair by pair.

    A batch has `input` (B, C, H, W); `teacher_tokens` or `teacher_picture`, and `view` (see `protocols.Batch`);
    `activity` (B, rows, cols), the events of each patch; or `active` (B, rows, cols), where the data bring a mask.
    """

    def __init__(
        self,
        backbone: nn.Module,
        teacher: Teacher,
        projection: nn.Module,
        *,
        form: Form = "robust",
        weights: Mapping[str, float],
        mask: MaskKind = "threshold",
        threshold: float = 64.0,
        share: float = 0.3,
        layers: Sequence[int] = (),
        train_backbone: Literal["all", "released"] = "all",
        first_layer_rate: float = 1.0,
    ) -> None:
        super().__init__()
        assert not isinstance(teacher, nn.Module), "a module would be trained and saved"
        self.backbone = backbone
        self.projection = projection
        self.teacher = teacher
        self.form = form
        self.weights = {name: weight for name, weight in weights.items() if weight > 0}
        self.mask = mask
        self.threshold = threshold
        self.share = share
        self.layers = tuple(layers)
        self.first_layer_rate = first_layer_rate
        for name, parameter in backbone.named_parameters():
            if train_backbone == "released" and re.search(FIXED, name):
                parameter.requires_grad_(False)

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return `loss`, the terms before they are weighted, and what tells how the student stands.

        `cosine` is between student and teacher, the mean over active patches; `active_share` the share of active
        patches, `without_active` that of samples without any. Out of training, `mean_token_loss` is what a student
        would pay that says the teacher's mean active token everywhere.
        """
        compared = self._compared(batch)
        total, terms = self._loss(compared.student, compared)
        active = compared.active
        cosine = functional.cosine_similarity(compared.student[-1].float(), compared.teacher[-1], dim=2)
        out = {
            "loss": total,
            **terms,
            "cosine": (cosine.detach() * active).sum() / active.sum().clamp(min=1),
            "active_share": active.float().mean(),
            "without_active": (~active.any(dim=1)).float().mean(),
        }
        if not self.training:
            out["mean_token_loss"] = self._loss([_mean(t, active) for t in compared.teacher], compared)[0]
        return out

    def after_step(self, progress: Progress) -> None:
        """Do nothing: all is trained by gradient."""

    def encoder(self) -> nn.Module:
        """Return the backbone."""
        return self.backbone

    def parameter_rules(self) -> list[ParameterRule]:
        """Return the rate of the patch embedding, and the rule that keeps biases and norms from decaying."""
        rules = [ParameterRule(NO_DECAY, weight_decay=0.0)]
        if self.first_layer_rate == 1.0:
            return rules
        slower = ParameterRule(FIRST_LAYER, self.first_layer_rate)
        return [ParameterRule(f"(?=.*(?:{NO_DECAY})){FIRST_LAYER}", self.first_layer_rate, 0.0), slower, *rules]

    def shard_units(self) -> list[nn.Module]:
        """Return the blocks of the backbone."""
        units: list[nn.Module] = self.backbone.shard_units()
        return units

    @torch.no_grad()
    def inspect(self, batch: Batch) -> dict[str, Tensor]:
        """Return what is compared, for pictures; called in evaluation mode.

        `student` and `teacher` (B, N, D) over `student_grid` and `teacher_grid` (2,) int64, `similarity` (B, N) their
        cosine where they have one dimension, `weight` (B, N) 1 where a patch is active.
        """
        compared = self._compared(batch)
        grid = torch.tensor(compared.grid)
        return {
            "student": compared.student[-1].float(),
            "student_grid": grid,
            "teacher": compared.teacher[-1],
            "teacher_grid": grid,
            "similarity": functional.cosine_similarity(compared.student[-1].float(), compared.teacher[-1], dim=2),
            "weight": compared.active.float(),
        }

    def active(self, batch: Batch, grid: Grid) -> Tensor:
        """Return which patches count, (B, N) bool, over the student's `grid`.

        Raises:
            ValueError: The batch does not say, or over another grid.
        """
        if self.mask == "none":
            return torch.ones(len(batch["input"]), grid[0] * grid[1], dtype=torch.bool, device=batch["input"].device)
        key = "active" if self.mask == "stored" else "activity"
        if key not in batch:
            raise ValueError(
                f"expected {key!r} in a batch for the mask by {self.mask}, got {sorted(batch)}; choose another "
                "method.mask.by: 'stored' for data that bring a mask, 'threshold' or 'share' for recordings"
            )
        found = batch[key]
        if tuple(found.shape[1:]) != grid:
            raise ValueError(f"expected {key!r} over the student's grid of {grid[0]}x{grid[1]}, got {found.shape[1:]}")
        if self.mask == "stored":
            return found.flatten(1) > 0.5
        if self.mask == "share":
            return active_share(found, self.share)
        return active_patches(found, self.threshold)

    def _compared(self, batch: Batch) -> _Compared:
        if self.layers:
            tokens, grid = self.backbone.tokens_at(batch["input"], self.layers), self._grid(batch["input"])
        else:
            features = self.backbone(batch["input"])
            tokens, grid = [features.tokens], features.grid
        taught = taught_tokens(batch, self.teacher, grid).chunk(max(1, len(self.layers)), dim=2)
        return _Compared([self.projection(t) for t in tokens], list(taught), self.active(batch, grid), grid)

    def _loss(self, student: list[Tensor], compared: _Compared) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum, and the mean of each term over layers."""
        each = [
            structure_terms(own, taught, compared.active, self.form, terms=tuple(self.weights))._asdict()
            for own, taught in zip(student, compared.teacher, strict=True)
        ]
        terms = {name: torch.stack([layer[name] for layer in each]).mean() for name in self.weights}
        total = torch.stack([weight * terms[name] for name, weight in self.weights.items()]).sum()
        return total, {name: value.detach() for name, value in terms.items()}

    def _grid(self, x: Tensor) -> Grid:
        return x.shape[2] // self.backbone.stride, x.shape[3] // self.backbone.stride


def build(
    config: Mapping[str, Any] | DistillationConfig, in_channels: int, image_size: Grid, teacher: Teacher | None = None
) -> StructureDistillation:
    """Return `StructureDistillation` as `config` says, for inputs (B, in_channels, H, W) of `image_size` (H, W).

    Raises:
        ConfigError: An unknown key or a value out of range; no teacher; no term with a weight.
        ValueError: Sizes, dimensions or layers that do not fit together.
    """
    if not isinstance(config, DistillationConfig):
        config = DistillationConfig.parse(config, under="method")
    if teacher is None:
        raise ConfigError("this method learns from an image teacher, and none is given: say teacher.name=NAME")
    weights = config.weights.model_dump()
    if not any(weights.values()):
        raise ConfigError("expected a weight above 0 for at least one of token, intra and cross in method.weights")
    chosen = without_fusion(config.backbone)
    backbone = build_backbone(chosen.name, in_channels, image_size, **chosen.arguments)
    if config.layers and not hasattr(backbone, "tokens_at"):
        raise ConfigError(f"method.layers needs a DINOv2 or DINOv3 backbone, and {chosen.name} is none; leave it out")
    return StructureDistillation(
        backbone,
        teacher,
        _projection(config, backbone.embed_dim, teacher.dim),
        form=config.form,
        weights=weights,
        mask=config.mask.by,
        threshold=config.mask.threshold,
        share=config.mask.share,
        layers=config.layers,
        train_backbone=config.train,
        first_layer_rate=config.first_layer_rate,
    )


def _needs_activity(config: Mapping[str, Any]) -> bool:
    return DistillationConfig.parse(config, under="method").mask.by != "none"


build.needs_activity = _needs_activity  # type: ignore[attr-defined]


def _projection(config: DistillationConfig, dim: int, teacher_dim: int) -> nn.Module:
    """Return what takes tokens of the student, `dim` numbers, to those of the teacher."""
    num_layers = max(1, len(config.layers))
    if teacher_dim % num_layers:
        raise ValueError(
            f"method.layers names {num_layers} blocks and the teacher's tokens of {teacher_dim} numbers are not of as "
            "many layers; give teacher.layers as many"
        )
    wanted = teacher_dim // num_layers
    if config.projection == "linear":
        return nn.Linear(dim, wanted)
    if dim != wanted:
        raise ValueError(
            f"expected a student whose tokens have {wanted} numbers, as the teacher's, got {dim}; choose a backbone of "
            "the teacher's size, or method.projection=linear"
        )
    return nn.Identity()


def _mean(tokens: Tensor, active: Tensor) -> Tensor:
    """Return the mean of the active `tokens` (B, N, D), over the whole batch, in every place."""
    weight = active[:, :, None].to(tokens.dtype)
    mean = (tokens * weight).sum(dim=(0, 1)) / weight.sum().clamp(min=1)
    return mean.expand_as(tokens)
