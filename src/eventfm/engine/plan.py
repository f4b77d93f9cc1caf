"""Every `auto` value settled once, before anything expensive, with the reason for each."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import NamedTuple

import torch

from eventfm.engine.devices import find_device
from eventfm.engine.distributed import World
from eventfm.engine.optim import decayed, schedule
from eventfm.engine.settings import TrainSettings

log = logging.getLogger(__name__)
DEFAULT_WARMUP = 0.05


class Decision(NamedTuple):
    """One value that was left open, and why it became what it is."""

    name: str
    value: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """What a run does, with nothing left open."""

    num_steps: int
    steps_per_epoch: float
    lr: float
    min_lr: float
    warmup_steps: int
    epoch_decay: float | None
    precision: str
    device: torch.device
    decisions: tuple[Decision, ...]

    def lr_at(self, step: int) -> float:
        """Return the learning rate of `step`."""
        if self.epoch_decay is None:
            return schedule(step, self.num_steps, self.warmup_steps, self.lr, self.min_lr)
        return decayed(step, self.steps_per_epoch, self.warmup_steps, self.lr, self.epoch_decay, self.min_lr)


def resolve(settings: TrainSettings, batches_per_epoch: int, world: World) -> Plan:
    """Return the plan of a run whose source has `batches_per_epoch` micro-batches for this rank.

    Raises:
        ValueError: The data holds no batch, the batch does not divide over the ranks, the warm-up never ends, the
            minimum is above the peak learning rate, or the device is not there.
    """
    per_rank = settings.per_rank(world.size)
    if batches_per_epoch < 1:
        raise ValueError(
            f"expected at least one batch per rank and epoch, got none: the data has fewer than batch_size / accumulate"
            f" = {settings.batch_size // settings.accumulate} samples; lower batch_size"
        )
    steps_per_epoch = batches_per_epoch / settings.accumulate
    num_steps, steps_reason = _num_steps(settings, steps_per_epoch)
    lr, lr_reason = _lr(settings)
    if settings.min_lr > lr:
        raise ValueError(f"expected min_lr to be at most the peak learning rate {lr:g}, got {settings.min_lr:g}")
    warmup_steps, warmup_reason = _warmup(settings, num_steps)
    device, device_reason = _device(settings.device, world)
    precision, precision_reason = _precision(settings.precision, device)
    decisions = (
        Decision("device", str(device), device_reason),
        Decision("precision", precision, precision_reason),
        Decision("num_steps", str(num_steps), steps_reason),
        Decision("lr", f"{lr:g}", lr_reason),
        Decision("warmup_steps", str(warmup_steps), warmup_reason),
        Decision("micro-batch", str(per_rank), f"{settings.batch_size} / {world.size} ranks / {settings.accumulate}"),
    )
    if world.rank == 0:
        for decision in decisions:
            log.info("%s = %s (%s)", *decision)
    decay, low = settings.epoch_decay, settings.min_lr
    return Plan(num_steps, steps_per_epoch, lr, low, warmup_steps, decay, precision, device, decisions)


def _num_steps(settings: TrainSettings, steps_per_epoch: float) -> tuple[int, str]:
    if settings.num_steps is not None:
        return settings.num_steps, "as given"
    assert settings.epochs is not None
    steps = max(1, int(settings.epochs * steps_per_epoch))
    return steps, f"{settings.epochs} epochs of {steps_per_epoch:g} steps"


def _lr(settings: TrainSettings) -> tuple[float, str]:
    if settings.lr != "auto":
        return settings.lr, "as given"
    return settings.base_lr * settings.batch_size / 256, f"base_lr {settings.base_lr:g} x {settings.batch_size} / 256"


def _warmup(settings: TrainSettings, num_steps: int) -> tuple[int, str]:
    if settings.warmup_steps is not None:
        if settings.warmup_steps >= max(1, num_steps):
            raise ValueError(
                f"expected warmup_steps below the {num_steps} steps of the run, got {settings.warmup_steps}: "
                "the peak learning rate would never be reached"
            )
        return settings.warmup_steps, "as given"
    fraction = DEFAULT_WARMUP if settings.warmup_fraction is None else settings.warmup_fraction
    return int(fraction * num_steps), f"{fraction:g} of {num_steps} steps"


def _device(name: str, world: World) -> tuple[torch.device, str]:
    device, reason = find_device(name)
    if device.type != "cuda":
        return device, reason
    index = world.local_rank if world.size > 1 or device.index is None else device.index
    if index >= torch.cuda.device_count():
        raise ValueError(f"expected at most {torch.cuda.device_count()} ranks on this machine, one per CUDA device")
    return torch.device("cuda", index), reason


def _precision(name: str, device: torch.device) -> tuple[str, str]:
    if name != "auto":
        return name, "as given"
    if device.type != "cuda":
        return "fp32", f"half precision rarely pays on {device.type}"
    with torch.cuda.device(device):
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", "the device computes in bfloat16"
    return "fp16", "the device has no bfloat16"
