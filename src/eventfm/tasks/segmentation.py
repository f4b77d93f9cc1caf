"""Semantic segmentation: a class for every pixel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from eventfm.config import ConfigError
from eventfm.models.decoders.eomt import EoMTDecoder
from eventfm.protocols import Batch
from eventfm.tasks.dense import DenseHead, at_input, build_auxiliary, build_dense_head, checked, padded
from eventfm.tasks.losses import cross_entropy_dice, known_classes, unlabelled
from eventfm.tasks.metric_checks import entry
from eventfm.tasks.objective import TaskObjective
from eventfm.tasks.set_loss import SetLoss
from eventfm.tasks.starting import Start, TaskConfig, assemble, new_backbone

Form = Literal["ce_dice", "ce"]


class HeadConfig(DenseHead):
    """What stands on the backbone."""

    name: Literal["linear", "upernet", "eomt"] = "upernet"
    """`eomt` puts queries into the last blocks of a plain transformer and has a loss of its own."""


class SegmentationConfig(TaskConfig):
    """The whole task; defaults are EventPretrain's."""

    name: Literal["segmentation"] = "segmentation"
    head: HeadConfig = HeadConfig()
    loss: Form = "ce_dice"
    """Cross-entropy with Dice or alone; of eomt it is always the set loss of Mask2Former."""
    auxiliary: float = Field(default=0.4, ge=0)
    """Weight of a second, shallow head on the third map, which learns along with upernet; 0 for none."""


@dataclass(frozen=True)
class Segmentation:
    """Cross-entropy, with Dice, of every pixel (`tasks.objective.Goal`); a batch has `semantic` (B, H, W) int64."""

    num_classes: int
    form: Form = "ce_dice"
    auxiliary: float = 0.4
    task: str = "segmentation"

    def loss(self, networks: TaskObjective, batch: Batch) -> dict[str, Tensor]:
        """Return `loss`, `ce`, `dice` where it counts, `auxiliary` where there is one, and `unlabelled`."""
        labels = entry(batch, "semantic", "batch", 3)
        x, size = batch["input"], (batch["input"].shape[2], batch["input"].shape[3])
        x = padded(x, networks.backbone.stride)
        pyramid = networks.backbone.pyramid(x)
        ce, dice = cross_entropy_dice(at_input(networks.head(pyramid), x, size), labels)
        terms = {"ce": ce, "dice": dice} if self.form == "ce_dice" else {"ce": ce}
        total = torch.stack(list(terms.values())).sum()
        if networks.auxiliary is not None:
            beside = cross_entropy_dice(at_input(networks.auxiliary(pyramid), x, size), labels)
            terms["auxiliary"] = torch.stack(beside[: len(terms)]).sum()
            total = total + self.auxiliary * terms["auxiliary"]
        logged = {name: value.detach() for name, value in terms.items()}
        return {"loss": total, **logged, "unlabelled": unlabelled(known_classes(labels, self.num_classes))}

    def predict(self, networks: TaskObjective, batch: Batch) -> dict[str, Tensor]:
        """Return `logits` (B, K, H, W)."""
        x = padded(batch["input"], networks.backbone.stride)
        logits = networks.head(networks.backbone.pyramid(x))
        return {"logits": at_input(logits, x, (batch["input"].shape[2], batch["input"].shape[3]))}


@dataclass(frozen=True)
class QuerySegmentation:
    """The set loss of queries, each a class and a mask (`tasks.objective.Goal`); `semantic` as above."""

    criterion: SetLoss
    task: str = "segmentation"

    def loss(self, networks: TaskObjective, batch: Batch) -> dict[str, Tensor]:
        """Return `loss`, its terms `classes`, `masks` and `dice`, and `unlabelled`."""
        labels = entry(batch, "semantic", "batch", 3)
        x = padded(batch["input"], networks.backbone.stride)
        class_logits, mask_logits = networks.head(networks.backbone, x)
        known = known_classes(labels, self.criterion.num_classes)
        labels = torch.where(known, labels, -1)
        rows, cols = x.shape[2] - labels.shape[1], x.shape[3] - labels.shape[2]
        labels = torch.nn.functional.pad(labels, (0, cols, 0, rows), value=-1)
        return {**self.criterion(class_logits, mask_logits, labels), "unlabelled": unlabelled(known)}

    def predict(self, networks: TaskObjective, batch: Batch) -> dict[str, Tensor]:
        """Return `logits` (B, K, H, W), the scores of the classes: between 0 and the number of queries.

        Masks are resized before they are added up, as published; sample by sample, for there are many.
        """
        x = padded(batch["input"], networks.backbone.stride)
        size = (batch["input"].shape[2], batch["input"].shape[3])
        class_logits, mask_logits = networks.head(networks.backbone, x)
        scores = [
            networks.head.semantic(classes[None].float(), at_input(masks[None], x, size))
            for classes, masks in zip(class_logits, mask_logits, strict=True)
        ]
        return {"logits": torch.cat(scores)}


def build(
    config: Mapping[str, Any] | SegmentationConfig,
    in_channels: int,
    image_size: tuple[int, int],
    num_classes: int | None,
    start: Start | None = None,
) -> TaskObjective:
    """Return segmentation as `config` says, for inputs (B, in_channels, H, W) of `image_size` (H, W).

    Raises:
        ConfigError: An unknown key, a value out of range, fewer than two classes, or queries that do not fit.
    """
    if not isinstance(config, SegmentationConfig):
        config = SegmentationConfig.parse(config, under="task")
    if num_classes is None or num_classes < 2:
        raise ConfigError(f"segmentation needs at least 2 classes, got {num_classes}")
    backbone = new_backbone(config, in_channels, image_size, start)
    head = config.head
    if head.name == "eomt":
        return _with_queries(config, backbone, num_classes)
    decoder = build_dense_head(head.name, backbone, num_classes, head.dim, head.arguments)
    auxiliary = build_auxiliary(head.name, config.auxiliary, backbone, num_classes)
    goal = Segmentation(num_classes, config.loss, config.auxiliary)
    return assemble(config, goal, backbone, decoder, backbone.pyramid, auxiliary)


def _with_queries(config: SegmentationConfig, backbone: Any, num_classes: int) -> TaskObjective:
    if not hasattr(backbone, "with_queries"):
        raise ConfigError(
            f"the head eomt needs a plain transformer (vit, convvit, dinov2, dinov3), and {config.backbone.name} is "
            "none; choose upernet for it"
        )
    # One block at least goes without queries; small backbones have fewer than the usual four for them.
    usual = {"last": min(4, len(backbone.blocks) - 1)} if len(backbone.blocks) > 1 else {"last": 1}
    arguments = {**usual, **config.head.arguments}
    if config.head.dim is not None:
        arguments["dim"] = config.head.dim
    decoder = checked(EoMTDecoder, arguments)(backbone.embed_dim, num_classes, **arguments)
    if len(decoder.query_tokens) < num_classes:
        raise ConfigError(
            f"expected at least as many queries as there are classes, {num_classes}, got {len(decoder.query_tokens)}; "
            "change task.head.arguments.num_queries"
        )
    goal = QuerySegmentation(SetLoss(num_classes))
    return assemble(config, goal, backbone, decoder, lambda x: decoder(backbone, x))


def wanted(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys of a batch that it learns from."""
    SegmentationConfig.parse(config, under="task")
    return ("semantic",)


build.wanted = wanted  # type: ignore[attr-defined]
