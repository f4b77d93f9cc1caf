"""From a module to one that trains on a device and over ranks: recompute, compile, replicate or shard."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from eventfm.engine.distributed import World, same_start
from eventfm.engine.settings import TrainSettings
from eventfm.protocols import Batch, Objective, Progress

COMPILED_FORMS = 64
"""Forms of one block's code that the compiler may keep; a Swin needs 23, and beyond its own 8 it would give up."""

Forward = Callable[[Batch, Progress], dict[str, Tensor]]


class Prepared(NamedTuple):
    """An objective that is ready to train."""

    objective: nn.Module
    """The module itself: its parameters are what the optimiser updates; sharded under FSDP2."""
    forward: Forward
    """How a training step calls it."""
    twin: nn.Module | None
    """An unsharded copy for the hooks to look at, on the CPU; none where the objective itself is whole."""


def prepare(objective: nn.Module, settings: TrainSettings, device: torch.device, world: World) -> Prepared:
    """Move `objective` to `device` and make it train over the ranks of `world`.

    The order is that of the blocks' life: recompute inside, compile around it, shard outermost. The wrappers change
    no parameter name. All ranks start from rank 0's weights. Buffers are not exchanged in the steps: what an
    objective keeps in them has to be computed from all ranks' data alike.
    """
    objective.to(device)
    objective.train()
    units = cast(Objective, objective).shard_units()
    shard = settings.parallel == "fsdp2" and world.size > 1
    twin = copy.deepcopy(objective).cpu() if shard else None
    same_start(objective.state_dict())
    if settings.activation_checkpointing:
        for unit in units:
            recompute(unit)
    if settings.compile:
        # Blocks of all widths share one forward, which is compiled for each width, for training and for evaluation.
        torch._dynamo.config.cache_size_limit = max(torch._dynamo.config.cache_size_limit, COMPILED_FORMS)
        for unit in units:
            unit.compile()
    if shard:
        mesh = init_device_mesh(device.type, (world.size,))
        for unit in units:
            fully_shard(unit, mesh=mesh, reshard_after_forward=True)
        # The root too: parameters left whole after a validation would miss the next update.
        fully_shard(objective, mesh=mesh, reshard_after_forward=True)
        return Prepared(objective, cast(Forward, objective), twin)
    if world.size == 1:
        return Prepared(objective, cast(Forward, objective), None)
    with warnings.catch_warnings():
        # PyTorch 2.13 wants another name for `broadcast_buffers`, which 2.6 does not know yet.
        warnings.simplefilter("ignore", FutureWarning)
        replicated = DistributedDataParallel(
            objective, broadcast_buffers=False, init_sync=False, gradient_as_bucket_view=True
        )
    return Prepared(objective, cast(Forward, replicated), None)


def recompute(unit: nn.Module) -> None:
    """Make `unit` forget its activations and compute them again in the backward pass, with the same random draws.

    Its class becomes a subclass with another `forward`, so that names, attributes and copies stay what they were.
    """
    plain = type(unit)

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return plain.forward(self, *args, **kwargs)
        return checkpoint(plain.forward, self, *args, use_reentrant=False, **kwargs)

    unit.__class__ = type(f"Recomputed{plain.__name__}", (plain,), {"forward": forward})


@contextmanager
def gradient_exchange(forward: Forward, needed: bool) -> Iterator[None]:
    """Exchange gradients between ranks in the backward passes of the block only where `needed`.

    All but the last of a step's micro-batches can do without.
    """
    if isinstance(forward, FSDPModule):
        forward.set_requires_gradient_sync(needed)
    no_sync = isinstance(forward, DistributedDataParallel) and not needed
    with cast(Any, forward).no_sync() if no_sync else nullcontext():
        yield


@contextmanager
def whole(prepared: Prepared, device: torch.device) -> Iterator[nn.Module]:
    """Lend the objective in evaluation mode, with whole parameters on `device`, to code that knows of no ranks."""
    model = prepared.objective
    if prepared.twin is not None:
        state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
        prepared.twin.load_state_dict(state)
        del state
        model = prepared.twin.to(device)
    was_training = prepared.objective.training
    model.eval()
    try:
        yield model
    finally:
        prepared.objective.train(was_training)
        if prepared.twin is not None:
            prepared.twin.cpu()
