"""The rule that makes the weights and inputs of the golden runs (see README.md)."""

from __future__ import annotations

import ast
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from eventfm.models.layers import sincos_positions

HERE = Path(__file__).parent
SALT = 20251027


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

    def state(self, name: str) -> dict[str, torch.Tensor]:
        lines = (HERE / "keys" / f"{name}.txt").read_text().splitlines()
        return {key: self._weight(key, ast.literal_eval(shape)) for key, shape in (_split(line) for line in lines)}

    def _weight(self, key: str, shape: tuple[int, ...]) -> torch.Tensor:
        if key.endswith("pos_embed"):
            side = int(shape[1] ** 0.5)
            return sincos_positions((side, side), shape[2])[None]
        v = self.normal(key, shape)
        if len(shape) == 1 and key.endswith("weight"):
            v = 1 + 0.1 * v
        elif len(shape) <= 1:
            v = 0.02 * v
        else:
            v = v / np.sqrt(np.prod(shape[1:]))
        return torch.from_numpy(v.astype(np.float32))


def _split(line: str) -> tuple[str, str]:
    key, rest = line.split(" ", 1)
    return key, rest.rsplit(" ", 1)[0]


@pytest.fixture(scope="session")
def golden() -> Golden:
    return Golden()
