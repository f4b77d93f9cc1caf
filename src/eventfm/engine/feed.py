"""Batches on the device, the next one on its way while the device computes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from eventfm.protocols import Batch, BatchSource


class Feed:
    """Micro-batches `start` to `stop` (exclusive) of a source, on `device`."""

    def __init__(self, source: BatchSource, start: int, stop: int, device: torch.device) -> None:
        self._batches: Iterator[Batch] = source(start) if start < stop else iter(())
        self._next, self._stop, self._device = start, stop, device
        self._ahead: Batch | None = None

    def take(self) -> Batch:
        """Return the next micro-batch.

        Raises:
            ValueError: The source has ended.
        """
        self.prefetch()
        if self._ahead is None:
            raise ValueError(f"expected a batch source without end, and it had no batch {self._next}")
        batch, self._ahead = self._ahead, None
        return batch

    def prefetch(self) -> None:
        """Fetch the next micro-batch and start its way to the device, unless that has been done or none is left.

        Called when the device has been given work and the host would wait for it anyway.
        """
        if self._ahead is None and self._next < self._stop:
            # Starting a loader draws from PyTorch's default generator; the step under way must not notice.
            with torch.random.fork_rng(devices=[]):
                batch = next(self._batches, None)
            if batch is not None:
                self._ahead = to_device(batch, self._device)
                self._next += 1


def to_device(value: Any, device: torch.device) -> Any:
    """Return `value` with every tensor in it on `device`, through pinned memory where the device is CUDA."""
    if isinstance(value, Tensor):
        if device.type == "cuda" and value.device.type == "cpu":
            value = value if value.is_pinned() else value.pin_memory()
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {key: to_device(item, device) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(to_device(item, device) for item in value))
    if isinstance(value, (list, tuple)):
        return type(value)(to_device(item, device) for item in value)
    return value
