"""Means of what the steps since the last line of metrics have reported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from eventfm.engine.distributed import rank_mean


class Window:
    """Sums on the device, read only when a line is written; a checkpoint keeps them, so that lines do not change."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add the values of one step."""
        for name, value in values.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1

    def flush(self) -> dict[str, float]:
        """Return the mean of each value over steps and ranks, and start anew."""
        sums = self._read()
        means = {name: total / self._counts[name] for name, total in sums.items()}
        self._sums, self._counts = {}, {}
        return means

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, as JSON values; called on every rank."""
        return {"sums": self._read(), "counts": dict(self._counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a checkpoint's values."""
        self._sums = {name: torch.tensor(total, device=self._device) for name, total in state["sums"].items()}
        self._counts = {name: int(count) for name, count in state["counts"].items()}

    def _read(self) -> dict[str, float]:
        if not self._sums:
            return {}
        totals = rank_mean(torch.stack(list(self._sums.values())))
        return dict(zip(self._sums, totals.tolist(), strict=True))
