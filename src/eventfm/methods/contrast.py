"""Learning from an image teacher, position by position: stages 2 and 3 of EventPretrain (Zhu et al., ACM MM 2025).

Tokens of events are to name the teacher's token of the same place among those of other pictures at that place. The
transition (stage 2) trains the heads and the backbone's last norm only; the focus-aimed contrast (stage 3) trains all.
The two have the same loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from typing import Any, Literal, NamedTuple, Self

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from eventfm.config import Config, ConfigError
from eventfm.methods.contrast_loss import Contrast, batch_contrast, image_cosine, queue_contrast
from eventfm.methods.focus import attention_weights, density_weights
from eventfm.methods.pairing import Grid, auto_patch, check_published, taught_tokens, teacher_tokens
from eventfm.models import build_backbone
from eventfm.models.configs import BackboneConfig
from eventfm.models.contrast_heads import Predictor, Projector, TeacherProjection
from eventfm.models.encoder import without_fusion
from eventfm.models.layer_rates import layer_decay, layer_grafted
from eventfm.models.layers import NO_DECAY
from eventfm.models.position_queue import PositionQueue
from eventfm.models.ranks import gather, rank
from eventfm.protocols import Backbone, Batch, ParameterRule, Progress, Teacher

Focus = Literal["none", "density", "attention"]


class ContrastTerm(Config):
    """The heads and the loss that the methods with a teacher share; defaults as published."""

    hidden_dim: PositiveInt = 4096
    """Width inside the projector and the predictor."""
    queue_length: int = Field(default=1024, ge=0)
    """Negatives per position, from earlier steps; the batch must divide it. 0 = the other samples of the batch."""
    temperature: PositiveFloat = 0.07
    """What cosines are divided by."""
    focus: Focus = "none"
    """Which positions count more: none, those with many events, or those the teacher's tokens attend to; the last two
    are not in the official code (see `methods.focus`)."""
    teacher_patch: Literal["auto"] | PositiveInt = "auto"
    """Teacher tokens a side that become one key; `auto` is the ratio of the teacher's grid to the student's, rounded:
    1 for 14x14 tokens beside a ViT's 14x14, 2 beside a Swin's 7x7."""
    as_published: bool = False
    """Pair tokens by number, though events are cropped and flipped and the teacher's picture is not."""


class TransitionConfig(Config):
    """Stage 2: from the pixels of stage 1 to the teacher's features, the backbone fixed."""

    name: Literal["transition"] = "transition"
    backbone: BackboneConfig = BackboneConfig()
    """The network that is pretrained; it is built without its fusion of earlier levels."""
    contrast: ContrastTerm = ContrastTerm()
    """Heads and loss."""
    train: Literal["norm", "all"] = "norm"
    """What of the backbone learns: its final norm, or everything (the ablation without a fixed backbone)."""


class ContrastConfig(Config):
    """Stage 3: the contrast with the whole backbone."""

    name: Literal["contrast"] = "contrast"
    backbone: BackboneConfig = BackboneConfig()
    """The network that is pretrained; it is built without its fusion of earlier levels."""
    contrast: ContrastTerm = ContrastTerm()
    """Heads and loss."""
    rates: Literal["same", "decay", "grafted"] = "same"
    """Learning rates of the layers: one for all, falling towards the input, or in three groups (layer-grafted)."""
    layer_decay: float = Field(default=0.75, gt=0, le=1)
    """Factor from a layer to the one before it, where `rates` is decay."""


class _Pairs(NamedTuple):
    """What is compared in a batch."""

    query: Tensor
    """(B, L, D) float32 of length 1, as the keys."""
    key: Tensor
    weight: Tensor
    """(B, L), or () where all count the same."""
    student: Tensor
    """(B, L, D), the backbone's tokens."""
    student_grid: Grid
    teacher: Tensor
    """(B, L', D'), the teacher's tokens of what the student sees."""
    teacher_grid: Grid


class FeatureContrast(nn.Module):
    """Contrast of a backbone's tokens with a teacher's, one problem per position.

    A batch has `input` (B, C, H, W) and either `teacher_tokens` (B, N, D) or `teacher_picture` (B, 3, h, w), and
    `view` (B, 5) by which the teacher's tokens are cropped and flipped as the events were.

    The keys of a step, of all its micro-batches and ranks, enter the queue once it has been taken; those of a skipped
    step never do. In the same order they make the same queue on any number of ranks. What depends on how a step is
    split: batch normalisation joins the ranks of one micro-batch but not several micro-batches, and so does the
    contrast within the batch.

    With `train_backbone="norm"` the backbone is fixed but for its final norm, and in evaluation mode, so that it
    keeps no activations and drops nothing.
    """

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        predictor: nn.Module,
        teacher_projection: TeacherProjection,
        queue: PositionQueue | None,
        teacher: Teacher,
        *,
        temperature: float = 0.07,
        focus: Focus = "none",
        as_published: bool = False,
        train_backbone: Literal["norm", "all"] = "all",
        rules: Sequence[ParameterRule] = (),
    ) -> None:
        super().__init__()
        assert not isinstance(teacher, nn.Module), "a module would be trained and saved"
        self.backbone = backbone
        self.projector = projector
        self.predictor = predictor
        self.teacher_projection = teacher_projection
        self.queue = queue
        self.teacher = teacher
        self.temperature = temperature
        self.focus = focus
        self.as_published = as_published
        self.train_backbone = train_backbone
        self.rules = tuple(rules)
        self._step = -1
        self._keys: list[Tensor] = []
        if train_backbone == "norm":
            for name, parameter in backbone.named_parameters():
                parameter.requires_grad_(name.startswith("norm."))

    def train(self, mode: bool = True) -> Self:
        """Set the training mode; a fixed backbone stays in evaluation mode."""
        super().train(mode)
        if self.train_backbone == "norm":
            self.backbone.eval()
        return self

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return `loss`, and what tells whether it is learnt or has collapsed.

        `accuracy` is how often a query is nearest to its own key; `chance` and `chance_loss` are what guessing would
        give; `positive_cosine` is between a query and its key, `image_cosine` between two samples' queries at the same
        position, of this rank.
        """
        pairs = self._pairs(batch)
        contrast, chance = self._compare(pairs.query, pairs.key)
        if self.training and self.queue is not None:
            self._remember(pairs.key.detach(), progress)
        return {
            "loss": (contrast.loss * pairs.weight).mean(),
            "positive_cosine": contrast.cosine.mean(),
            "accuracy": contrast.picked.mean(),
            "chance": pairs.query.new_full((), chance),
            "chance_loss": pairs.query.new_full((), -log(chance)),
            "image_cosine": image_cosine(pairs.query),
        }

    def after_step(self, progress: Progress) -> None:
        """Let the keys of the step that was taken into the queue, in the order of samples: micro-batches, then ranks.

        Raises:
            ValueError: The samples of a step do not divide the queue's length.
        """
        if self.queue is not None and self._keys and self._step == progress.step:
            parts = gather(torch.stack(self._keys)[None])  # (ranks, micro-batches, B, L, D)
            self.queue.enqueue(parts.transpose(0, 1).flatten(0, 2))
        self._keys = []

    def encoder(self) -> nn.Module:
        """Return the backbone."""
        return self.backbone

    def parameter_rules(self) -> list[ParameterRule]:
        """Return the rates of the layers, and the rule that keeps biases and norms from decaying."""
        return [*self.rules, ParameterRule(NO_DECAY, weight_decay=0.0)]

    def shard_units(self) -> list[nn.Module]:
        """Return the blocks of the backbone and the linear layers of the heads."""
        return [*self.backbone.shard_units(), *self.projector.shard_units(), *self.predictor.shard_units()]

    @torch.no_grad()
    def inspect(self, batch: Batch) -> dict[str, Tensor]:
        """Return what is compared, for pictures; called in evaluation mode.

        `student` (B, L, D) are the backbone's tokens over `student_grid` (2,) int64, `teacher` (B, L', D') the
        teacher's, cropped and flipped, over `teacher_grid` (2,); `similarity` (B, L) is the cosine of query and key,
        `weight` (B, L) what each position counts.
        """
        pairs = self._pairs(batch)
        return {
            "student": pairs.student.float(),
            "student_grid": torch.tensor(pairs.student_grid),
            "teacher": pairs.teacher,
            "teacher_grid": torch.tensor(pairs.teacher_grid),
            "similarity": (pairs.query * pairs.key).sum(dim=2),
            "weight": pairs.weight.expand(pairs.query.shape[:2]),
        }

    def _pairs(self, batch: Batch) -> _Pairs:
        features = self.backbone(batch["input"])
        taught, taught_grid = self._taught(batch, features.grid)
        query = self.predictor(self.projector(features.tokens))
        key = self.teacher_projection(taught, taught_grid)
        return _Pairs(
            query=functional.normalize(query.float(), dim=2),
            key=functional.normalize(key.float(), dim=2),
            weight=self._weights(batch, taught, taught_grid),
            student=features.tokens,
            student_grid=features.grid,
            teacher=taught,
            teacher_grid=taught_grid,
        )

    def _compare(self, query: Tensor, key: Tensor) -> tuple[Contrast, float]:
        """Return the contrast and the chance of guessing right."""
        if self.queue is not None:
            if query.shape[1] != self.queue.num_positions:
                raise ValueError(
                    f"expected inputs of {self.queue.num_positions} positions, as the queue has, got {query.shape[1]}"
                )
            contrast = queue_contrast(query, key, self.queue.entries, self.temperature)
            return contrast, 1 / (1 + self.queue.length)
        # An evaluation may run on one rank alone.
        keys, offset = (gather(key), rank() * len(key)) if self.training else (key, 0)
        return batch_contrast(query, keys, offset, self.temperature), 1 / len(keys)

    def _remember(self, key: Tensor, progress: Progress) -> None:
        if progress.step != self._step:  # what a skipped step has left is forgotten
            self._step, self._keys = progress.step, []
        self._keys.append(key)

    def _taught(self, batch: Batch, grid: Grid) -> tuple[Tensor, Grid]:
        """Return the teacher's tokens of what the student sees over `grid`, (B, L', D') float32, and their grid."""
        patch = self.teacher_projection.patch
        fine = (grid[0] * patch, grid[1] * patch)
        if self.as_published:
            check_published(self.teacher.grid, grid, patch)
            return teacher_tokens(batch, self.teacher), fine
        return taught_tokens(batch, self.teacher, fine), fine

    def _weights(self, batch: Batch, taught: Tensor, taught_grid: Grid) -> Tensor:
        """Return what each position counts, (B, L)."""
        if self.focus == "density":
            return density_weights(batch["input"], self.backbone.stride)
        if self.focus == "attention":
            maps = taught.transpose(1, 2).unflatten(2, taught_grid)
            coarse = functional.avg_pool2d(maps, self.teacher_projection.patch)
            return attention_weights(coarse.flatten(2).transpose(1, 2))
        return taught.new_ones(())


def build_transition(
    config: Mapping[str, Any] | TransitionConfig, in_channels: int, image_size: Grid, teacher: Teacher | None = None
) -> FeatureContrast:
    """Return stage 2 as `config` says, for inputs (B, in_channels, H, W) of `image_size` (H, W).

    Raises:
        ConfigError: An unknown key or a value out of range; no teacher.
        ValueError: Sizes that do not fit together.
    """
    if not isinstance(config, TransitionConfig):
        config = TransitionConfig.parse(config, under="method")
    backbone = _backbone(config.backbone, in_channels, image_size)
    return assemble(backbone, config.contrast, image_size, teacher, train_backbone=config.train)


def build_contrast(
    config: Mapping[str, Any] | ContrastConfig, in_channels: int, image_size: Grid, teacher: Teacher | None = None
) -> FeatureContrast:
    """Return stage 3 as `config` says, for inputs (B, in_channels, H, W) of `image_size` (H, W).

    Raises:
        ConfigError: An unknown key or a value out of range; no teacher.
        ValueError: Sizes that do not fit together.
    """
    if not isinstance(config, ContrastConfig):
        config = ContrastConfig.parse(config, under="method")
    backbone = _backbone(config.backbone, in_channels, image_size)
    rules: list[ParameterRule] = []
    if config.rates == "decay":
        rules = layer_decay(backbone, "backbone.", config.layer_decay)
    elif config.rates == "grafted":
        rules = layer_grafted(backbone, "backbone.")
    return assemble(backbone, config.contrast, image_size, teacher, rules=rules)


def assemble(
    backbone: Backbone, term: ContrastTerm, image_size: Grid, teacher: Teacher | None, **options: Any
) -> FeatureContrast:
    """Return the contrast of `backbone` with `teacher`, heads and queue as `term` says; `options` are its own.

    Raises:
        ConfigError: There is no teacher.
        ValueError: The published pairing, and grids that do not fit.
    """
    if teacher is None:
        raise ConfigError("this method learns from an image teacher, and none is given: say teacher.name=NAME")
    grid = (image_size[0] // backbone.stride, image_size[1] // backbone.stride)
    patch = auto_patch(teacher.grid, grid) if term.teacher_patch == "auto" else term.teacher_patch
    if term.as_published:
        check_published(teacher.grid, grid, patch)
    dim = backbone.embed_dim
    return FeatureContrast(
        backbone,
        Projector(dim, term.hidden_dim),
        Predictor(dim, term.hidden_dim),
        TeacherProjection(teacher.dim, dim, patch),
        PositionQueue(dim, grid[0] * grid[1], term.queue_length) if term.queue_length else None,
        teacher,
        temperature=term.temperature,
        focus=term.focus,
        as_published=term.as_published,
        **options,
    )


def _backbone(config: BackboneConfig, in_channels: int, image_size: Grid) -> Backbone:
    plain = without_fusion(config)
    return build_backbone(plain.name, in_channels, image_size, **plain.arguments)
