"""A small objective with dropout and a moving-average teacher, and batches that are a function of their number."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eventfm.engine import TrainSettings
from eventfm.protocols import Batch, ParameterRule, Progress

DIM = 8


class Block(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(DIM)
        self.attention = nn.MultiheadAttention(DIM, 2, batch_first=True)
        self.linear = nn.Linear(DIM, DIM)
        self.dropout = nn.Dropout(dropout)
        self.num_calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.num_calls += 1
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.dropout(torch.tanh(self.linear(x)))


class ToyEncoder(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Linear(DIM, DIM)
        self.blocks = nn.ModuleList(Block(dropout) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return x


class ToyObjective(nn.Module):
    """Predicts the batch's targets, and the teacher's tokens a little; the teacher follows the encoder."""

    def __init__(self, dropout: float = 0.0, seed: int = 0, momentum: float = 0.9) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.student = ToyEncoder(dropout)
            self.teacher = ToyEncoder(0.0)
            self.head = nn.Linear(DIM, DIM)
        self.teacher.load_state_dict(self.student.state_dict())
        self.teacher.requires_grad_(False)
        self.momentum = momentum
        self.register_buffer("num_updates", torch.zeros((), dtype=torch.int64))

    def train(self, mode: bool = True) -> ToyObjective:
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        tokens = self.head(self.student(batch["input"]))
        with torch.no_grad():
            taught = self.teacher(batch["input"])
        error = (tokens - batch["target"]).square().mean()
        return {"loss": error + 0.1 * (tokens - taught).square().mean(), "error": error}

    @torch.no_grad()
    def after_step(self, progress: Progress) -> None:
        self.num_updates += 1
        for old, new in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            old.lerp_(new, 1.0 - self.momentum)

    def encoder(self) -> nn.Module:
        return self.student

    def parameter_rules(self) -> list[ParameterRule]:
        return [ParameterRule(r"embed", lr_scale=0.5)]

    def shard_units(self) -> list[nn.Module]:
        return list(self.student.blocks)


class ToyBatches:
    """Batch `n` of rank `r` holds samples `(n * world_size + r) * size` onwards of one endless list of samples."""

    def __init__(self, size: int, rank: int = 0, world_size: int = 1, batches_per_epoch: int = 5) -> None:
        self.size, self.rank, self.world_size = size, rank, world_size
        self.batches_per_epoch = batches_per_epoch
        self.started: list[int] = []

    def __call__(self, start: int) -> Iterator[Batch]:
        self.started.append(start)
        torch.rand(1)  # as a DataLoader does when it starts; the run must not notice
        number = start
        while True:
            first = (number * self.world_size + self.rank) * self.size
            yield batch_of(range(first, first + self.size))
            number += 1


def batch_of(indices: range) -> Batch:
    inputs = [torch.randn(3, DIM, generator=torch.Generator().manual_seed(1000 + i)) for i in indices]
    x = torch.stack(inputs)
    return {"input": x, "target": torch.sin(2 * x).flip(-1), "index": torch.tensor(list(indices))}


def settings_of(**changes: Any) -> TrainSettings:
    values = {"num_steps": 10, "batch_size": 8, "lr": 1e-2, "warmup_steps": 2, "log_every": 1, "save_every": 4}
    values |= {"device": "cpu", "seed": 3}
    return TrainSettings.parse(values | changes)


def batches_for(settings: TrainSettings) -> Any:
    return lambda rank, world_size: ToyBatches(settings.per_rank(world_size), rank, world_size)


def run(out: Path, *, dropout: float = 0.0, hooks: Any = None, **changes: Any) -> tuple[ToyObjective, Any]:
    """Train a fresh toy in `out`; return it and the result."""
    from eventfm.engine import Hooks, train

    settings = settings_of(**changes)
    objective = ToyObjective(dropout)
    return objective, train(objective, batches_for(settings), settings, out, hooks=hooks or Hooks())


def final_tensors(out: Path) -> dict[str, Tensor]:
    """Return every tensor of the last checkpoint of a run: weights, moving averages, buffers, moments, step counts."""
    from torch.distributed.checkpoint import FileSystemReader, load

    folder = sorted((out / "checkpoints").glob("step_*"))[-1]
    entries = FileSystemReader(folder).read_metadata().state_dict_metadata
    tensors = {name: torch.empty(entry.size, dtype=entry.properties.dtype) for name, entry in entries.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load(tensors, storage_reader=FileSystemReader(folder), no_dist=True)
    return tensors


def assert_same_bits(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    different = [name for name in left if not torch.equal(left[name], right[name])]
    assert not different, different


def losses(out: Path) -> list[float]:
    return [record["loss"] for record in metrics(out) if record["step"]]  # before the first step there is none


def metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
