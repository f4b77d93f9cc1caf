"""The set loss of EoMT: queries are matched to classes, then learn the class and the mask of their match."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from eventfm.models.ranks import add_up, num_ranks
from eventfm.registry import require
from eventfm.tasks.losses import known_classes

CLASS_WEIGHT, MASK_WEIGHT, DICE_WEIGHT = 2.0, 5.0, 5.0
"""Of the costs by which queries are matched, and of the losses (Mask2Former; ScaleEvent)."""
NO_OBJECT_WEIGHT = 0.1
OUTSIDE = -10.0
"""Mask logit of pixels without a label: as good as sure that they are in no mask, which is what their target says."""


class SetLoss:
    """Mask2Former's loss as transformers computes it for EoMT, for classes as a segmentation labels them.

    Every class is a target in every labelled sample, absent ones with an empty mask, as ScaleEvent has it. There the
    pixels without a label count as outside all masks; here they count for nothing: `OUTSIDE` takes the place of what is
    predicted, without gradient. Samples without any label are left out; on several ranks, every other sample counts
    alike, whichever rank it is on. Points are drawn by each rank, so a run on two ranks is not quite that on one.

    Not an `nn.Module`: it has no weights, and a model file should hold nothing of it. Matching happens on the host, so
    this loss waits for the device.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes

    @cached_property
    def criterion(self) -> Any:
        """What computes it; only made to learn, since answers need no transformers."""
        require("transformers", "teachers")
        from transformers import EomtConfig
        from transformers.models.eomt.modeling_eomt import EomtLoss

        config = EomtConfig(
            num_labels=self.num_classes,
            class_weight=CLASS_WEIGHT,
            mask_weight=MASK_WEIGHT,
            dice_weight=DICE_WEIGHT,
            no_object_weight=NO_OBJECT_WEIGHT,
            train_num_points=12544,
            oversample_ratio=3.0,
            importance_sample_ratio=0.75,
        )
        return EomtLoss(config, weight_dict={})

    def __call__(self, class_logits: Tensor, mask_logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return `loss`, and its terms `classes`, `masks` and `dice` before they are weighted, 0-d each.

        Logits are those of `EoMTDecoder`, (B, Q, K + 1) and (B, Q, h, w); `labels` are (B, H, W) int64.
        """
        with torch.autocast(mask_logits.device.type, enabled=False):
            class_logits, mask_logits = class_logits.float(), mask_logits.float()
            known = known_classes(labels, self.num_classes)
            samples = known.flatten(1).any(dim=1)
            part = num_ranks() * samples.sum() / add_up(samples.sum()).clamp(min=1)  # this rank's, in the mean of all
            chosen = samples.nonzero()[:, 0]
            if not len(chosen):
                nothing = 0.0 * (class_logits.mean() + mask_logits.mean())
                return {"loss": nothing, **dict.fromkeys(("classes", "masks", "dice"), nothing.detach())}
            class_logits, mask_logits, labels, known = (
                each[chosen] for each in (class_logits, mask_logits, labels, known)
            )
            size = mask_logits.shape[2:]
            labelled = functional.interpolate(known[:, None].float(), size, mode="area") > 0.5
            mask_logits = torch.where(labelled, mask_logits, OUTSIDE)
            numbers = torch.arange(self.num_classes, device=labels.device)
            masks = ((labels[:, None] == numbers.view(1, -1, 1, 1)) & known[:, None]).float()
            self.criterion.to(labels.device)
            terms = self.criterion(mask_logits, class_logits, list(masks), [numbers] * len(masks))
        classes, mask, dice = (part * terms[f"loss_{name}"] for name in ("cross_entropy", "mask", "dice"))
        loss = CLASS_WEIGHT * classes + MASK_WEIGHT * mask + DICE_WEIGHT * dice
        return {"loss": loss, "classes": classes.detach(), "masks": mask.detach(), "dice": dice.detach()}
