"""A fake teacher, batches that are a function of their number, and small objectives that learn from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from eventfm.methods.contrast import FeatureContrast
from eventfm.methods.difference import DifferenceModeling
from eventfm.methods.joint import JointModeling
from eventfm.models.contrast_heads import Predictor, Projector, TeacherProjection
from eventfm.models.masked_decoder import MaskedDecoder
from eventfm.models.position_queue import PositionQueue
from eventfm.models.vit import ViT
from eventfm.protocols import Batch, Progress

SIZE = (16, 24)
GRID = (4, 6)
DIM = 16
TEACHER_DIM = 6
PROGRESS = Progress(0, 10)


class FakeTeacher:
    """Says of each cell of its picture a fixed function of the mean colours."""

    def __init__(self, grid: tuple[int, int] = GRID) -> None:
        self.dim = TEACHER_DIM
        self.grid = grid
        self.input_size = (4 * grid[0], 4 * grid[1])
        self.identity = {"name": "fake"}
        self.matrix = torch.randn(3, TEACHER_DIM, generator=torch.Generator().manual_seed(4))
        self.num_calls = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> FakeTeacher:
        return self

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Tensor:
        self.num_calls += 1
        cells = nn.functional.adaptive_avg_pool2d(pictures, self.grid)
        return torch.sin(9 * cells.flatten(2).transpose(1, 2) @ self.matrix)


def sample(number: int, grid: tuple[int, int] = GRID) -> dict[str, Tensor]:
    """Return sample `number`: the same whoever asks."""
    generator = torch.Generator().manual_seed(1000 + number)
    corner, side = torch.rand(2, generator=generator) * 0.2, 0.8 + 0.2 * torch.rand(2, generator=generator)
    stop = (corner + side).clamp(max=1)
    flip = torch.tensor([float(number % 2)])
    return {
        "input": torch.randn(2, *SIZE, generator=generator),
        "target": torch.randn(1, *SIZE, generator=generator),
        "teacher_tokens": torch.randn(grid[0] * grid[1], TEACHER_DIM, generator=generator),
        "view": torch.cat([corner, stop, flip]),
        "key": torch.tensor(40 + number),
        "index": torch.tensor(number),
    }


def batch_of(numbers: range, grid: tuple[int, int] = GRID) -> Batch:
    samples = [sample(number, grid) for number in numbers]
    return {name: torch.stack([each[name] for each in samples]) for name in samples[0]}


class TaughtBatches:
    """Batch `n` of rank `r` holds samples `(n * world_size + r) * size` onwards of one endless list of samples."""

    batches_per_epoch = 5

    def __init__(self, size: int, rank: int = 0, world_size: int = 1) -> None:
        self.size, self.rank, self.world_size = size, rank, world_size

    def __call__(self, start: int) -> Iterator[Batch]:
        number = start
        while True:
            first = (number * self.world_size + self.rank) * self.size
            yield batch_of(range(first, first + self.size))
            number += 1


def contrast_of(
    queue_length: int = 32, grid: tuple[int, int] = GRID, patch: int = 1, hidden_dim: int = 32, **options: Any
) -> FeatureContrast:
    """Return a small contrast, always with the same weights."""
    backbone_options = {name: options.pop(name) for name in ("drop_path",) if name in options}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = ViT(2, SIZE, 4, DIM, depth=2, num_heads=2, **backbone_options)
        return FeatureContrast(
            backbone,
            Projector(DIM, hidden_dim),
            Predictor(DIM, hidden_dim),
            TeacherProjection(TEACHER_DIM, DIM, patch),
            PositionQueue(DIM, GRID[0] * GRID[1], queue_length) if queue_length else None,
            FakeTeacher(grid),
            **options,
        )


def joint_of(**options: Any) -> JointModeling:
    """Return a small contrast with masked modelling beside it, always with the same weights."""
    contrast = contrast_of(**options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        decoder = MaskedDecoder(DIM, 16, GRID, dim=16, depth=1, num_heads=2)
    return JointModeling(DifferenceModeling(contrast.backbone, decoder), contrast, contrast_weight=0.5)
