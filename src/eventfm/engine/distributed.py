"""The ranks of a run: started by torchrun, agreeing with each other, silent when there is only one."""

from __future__ import annotations

import atexit
import gc
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

TIMEOUT = timedelta(minutes=30)
"""How long a rank waits for the others: validation on one rank may take its time, a lost rank must not hang a run."""

T = TypeVar("T")


class RankError(RuntimeError):
    """Raised on every rank that did not fail itself when another one did."""


class World(NamedTuple):
    """Where this process stands among the ranks of a run."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Number of this process on its own machine: the CUDA device it takes."""


def world() -> World:
    """Return this process's place, from a running process group or from what torchrun has set; alone otherwise.

    Raises:
        ValueError: The environment holds a rank that is not a number below the world size.
    """
    try:
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        if dist.is_available() and dist.is_initialized():
            return World(dist.get_rank(), dist.get_world_size(), local_rank)
        rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    except ValueError as error:
        raise ValueError(f"expected whole numbers in RANK, WORLD_SIZE and LOCAL_RANK: {error}") from error
    if not 0 <= rank < size:
        raise ValueError(f"expected 0 <= RANK < WORLD_SIZE, got RANK={rank} and WORLD_SIZE={size}")
    return World(rank, size, local_rank)


@contextmanager
def session(place: World, device: torch.device) -> Iterator[None]:
    """Hold a process group for the block: NCCL between CUDA devices, gloo otherwise, none for a single rank.

    The group is started once and serves all later sessions of the process, such as the stages of a recipe; it is
    shut down when the process ends. One that the caller has started is used and left alone. Where the block fails,
    NCCL is not shut down, for that would wait for ranks that may never come: the process is to end, and torchrun ends
    the others.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if place.size > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
        atexit.register(_shut_down)
    try:
        yield
    except BaseException:
        if device.type == "cuda":
            atexit.unregister(_shut_down)
        raise


def _shut_down() -> None:
    # A gloo thread that is letting go of a finished exchange needs the interpreter. The group's destructor does not
    # give it up while it waits for that thread, and an interpreter that has ended aborts it: let such threads finish.
    gc.collect()
    time.sleep(0.1)
    if dist.is_initialized():
        dist.destroy_process_group()


def is_main() -> bool:
    """Return whether this is rank 0, the one that writes files and speaks."""
    return not _several() or dist.get_rank() == 0


def barrier() -> None:
    """Wait until every rank is here."""
    if _several():
        dist.barrier()


def any_rank(*flags: Tensor | bool, device: torch.device) -> list[bool]:
    """Return, the same on every rank, whether each of `flags` holds on any rank.

    One small reduction and one wait for the device, however many flags there are.
    """
    stacked = torch.stack([torch.as_tensor(flag, device=device).to(torch.int32) for flag in flags])
    if _several():
        dist.all_reduce(stacked, dist.ReduceOp.MAX)
    return [bool(flag) for flag in stacked.tolist()]


def rank_mean(values: Tensor) -> Tensor:
    """Return the mean of `values` over the ranks."""
    if not _several():
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def from_main(value: T) -> T:
    """Return rank 0's `value` on every rank."""
    if not _several():
        return value
    box: list[Any] = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]  # type: ignore[no-any-return]


def same_start(state: Mapping[str, Tensor]) -> None:
    """Overwrite the tensors of `state` with rank 0's, so that every rank starts from the same weights."""
    if _several():
        for tensor in state.values():
            dist.broadcast(tensor, src=0)


@contextmanager
def together() -> Iterator[None]:
    """Raise on every rank when the block fails on any: the own error where it happened, `RankError` elsewhere.

    Every rank must enter, and must not wait for the others inside without being sure that they come.
    """
    error: Exception | None = None
    try:
        yield
    except Exception as caught:
        error = caught
    if _several():
        messages: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(messages, None if error is None else f"{type(error).__name__}: {error}")
        failed = {rank: message for rank, message in enumerate(messages) if message is not None}
        if failed and error is None:
            rank, message = next(iter(failed.items()))
            raise RankError(f"rank {rank} failed: {message}")
    if error is not None:
        raise error


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
