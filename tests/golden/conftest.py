"""The rule that makes the weights and inputs of the golden runs (see README.md)."""

from __future__ import annotations

import ast
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

HERE = Path(__file__).parent
SALT = 20251027
QUEUE_LENGTH = 16


class Golden:
    """Golden arrays, inputs and official state dicts."""

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        with np.load(HERE / f"{name}.npz") as file:
            return dict(file)

    def normal(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        rng = np.random.Generator(np.random.Philox(key=[SALT, zlib.crc32(name.encode())]))
        return rng.standard_normal(size=shape).astype(np.float32)

    def input(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.from_numpy(self.normal(name, shape))

    def shapes(self, name: str) -> dict[str, tuple[int, ...]]:
        lines = (HERE / "keys" / f"{name}.txt").read_text().splitlines()
        parts = [line.partition(" ") for line in lines]
        return {
            key: ast.literal_eval(rest.removesuffix("torch.float32").removesuffix("torch.int64").strip())
            for key, _, rest in parts
        }

    def state(self, name: str, *more: str) -> dict[str, torch.Tensor]:
        """Return the official state dict of the key list `name`, and of `more` beside it."""
        shapes = {key: shape for part in (name, *more) for key, shape in self.shapes(part).items()}
        return {key: self._weight(key, shape) for key, shape in shapes.items()}

    def layout(self, name: str, *more: str) -> dict[str, torch.Tensor]:
        """Return the same without values, but for the fixed ones."""
        shapes = {key: shape for part in (name, *more) for key, shape in self.shapes(part).items()}
        fixed = ("pos_embed", "relative_position_index", "queue_ptr", "num_batches_tracked")
        return {
            key: self._weight(key, shape) if key.endswith(fixed) else torch.empty(shape, device="meta")
            for key, shape in shapes.items()
        }

    def _weight(self, key: str, shape: tuple[int, ...]) -> torch.Tensor:
        if key.endswith("pos_embed"):
            return _sincos(int(shape[1] ** 0.5), shape[2])
        if key.endswith("relative_position_index"):
            return _relative_positions()
        if key.endswith(("queue_ptr", "num_batches_tracked")):
            return torch.zeros(shape, dtype=torch.int64)
        if key == "queue":
            queue = self.normal(key, (*shape[:2], QUEUE_LENGTH)) / np.sqrt(shape[1] * QUEUE_LENGTH)
            return torch.from_numpy(queue / np.linalg.norm(queue, axis=0, keepdims=True))
        v = self.normal(key, shape)
        if key.endswith("running_var"):
            v = np.abs(v) * 0.1 + 1
        elif key.endswith("running_mean"):
            v = v * 0.1
        elif len(shape) == 1 and key.endswith("weight"):
            v = 1 + 0.1 * v
        elif len(shape) <= 1:
            v = 0.02 * v
        else:
            v = v / np.sqrt(np.prod(shape[1:]))
        return torch.from_numpy(v.astype(np.float32))


def _sincos(side: int, dim: int) -> torch.Tensor:
    """Columns in the first half of the channels, rows in the second; in each, sines, then cosines."""
    frequencies = 10000.0 ** -(np.arange(dim // 4) / (dim // 4))
    rows, cols = np.divmod(np.arange(side * side), side)
    waves = [wave(axis[:, None] * frequencies) for axis in (cols, rows) for wave in (np.sin, np.cos)]
    return torch.from_numpy(np.concatenate(waves, axis=1)[None].astype(np.float32))


def _relative_positions() -> torch.Tensor:
    cells = [(row, col) for row in range(7) for col in range(7)]
    return torch.tensor([[(r - s + 6) * 13 + c - d + 6 for s, d in cells] for r, c in cells])


@pytest.fixture(scope="session")
def golden() -> Golden:
    return Golden()
