"""What is asked of each row: the segmentation probe, digits, and how far its tokens have collapsed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from quality import rows as quality_rows
from torch import Tensor, nn

from distilled.segmentation import Labelled, probe
from distilled.settings import Settings
from distilled.streets import Filmed
from eventfm.data.windows import WindowConfig
from eventfm.deployment.predict import LoadedEncoder
from eventfm.evaluation.collapse import collapse_at_densities
from eventfm.methods.activation import active_share
from eventfm.models.teachers import load_teacher
from eventfm.protocols import Features, Teacher

DENSITIES = (1, 2, 4)
AT_ONCE = 64
GROUP = 2
"""Pictures that figures of collapse are worked out from, a group at a time: what groups differ by is the interval."""


class Pooled(nn.Module):
    """A backbone without its class token, which distillation does not train: the mean over patches stands for all."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Tensor) -> Features:
        """Return the features of `x` (B, C, H, W) less their class token."""
        found: Features = self.backbone(x)
        return found._replace(cls=None)


def teachers(out: Path, settings: Settings) -> list[Teacher]:
    """Return the teacher for pictures of each density."""
    height, width = settings.size
    return [load_teacher(str(out / "teacher"), input_size=(factor * height, factor * width)) for factor in DENSITIES]


def segment(network: Callable[[Tensor], Tensor], shown: str, parts: Mapping[str, Filmed], settings: Settings) -> Any:
    """Return the probe of `network`, which is given `inputs` or `pictures` and returns tokens."""
    known = {
        name: Labelled(tokens_of(network, getattr(part, shown)), part.labels, part.picture)
        for name, part in parts.items()
    }
    return probe(known, settings.patch, settings.penalties)


@torch.inference_mode()
def tokens_of(network: Callable[[Tensor], Tensor], shown: Tensor) -> Tensor:
    """Return the tokens (N, rows * cols, D) of all that is `shown`."""
    return torch.cat([network(part) for part in shown.split(AT_ONCE)]).clone()


def digits(data: quality_rows.Data, encoder: LoadedEncoder, settings: Settings) -> dict[str, Any]:
    """Return the linear probe of the mean tokens of three windows of each recording."""
    side = settings.digits_size
    asked = replace(
        encoder,
        backbone=Pooled(encoder.backbone).eval(),
        input_size=(side, side),
        window=WindowConfig(by="time", duration_us=settings.digits_window_us),
    )
    return quality_rows.probe(data, asked)


def collapse(encoder: LoadedEncoder, taught: list[Teacher], test: Filmed, settings: Settings) -> dict[str, Any]:
    """Return the figures of collapse of each group of test pictures at each density, a view of each."""
    first = [int((test.picture == number).nonzero()[0]) for number in test.picture.unique().tolist()]
    groups = []
    for start in range(0, min(len(first), settings.collapse_pictures) - GROUP + 1, GROUP):
        chosen = first[start : start + GROUP]
        batch = {
            "input": test.inputs[chosen],
            "teacher_picture": test.pictures[chosen],
            "view": torch.tensor([[0.0, 0.0, 1.0, 1.0, 0.0]]).expand(len(chosen), -1),
        }
        active = active_share(test.activity[chosen], settings.mask_share)
        groups.append(collapse_at_densities(encoder.backbone, taught, batch, DENSITIES, active))
    return {"groups": groups}
