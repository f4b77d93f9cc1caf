"""What a user may set about training, grouped by consequence."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from eventfm.config import Config, Several

MAY_DIFFER = frozenset(
    {
        "accumulate",
        "activation_checkpointing",
        "compile",
        "device",
        "keep_last",
        "log_every",
        "max_nonfinite",
        "num_workers",
        "out",
        "parallel",
        "save_every",
        "tensorboard",
        "trackers",
    }
)
"""Keys of a run's config that a resumed run may change: they alter no result beyond the order of additions.

Of a method with statistics over the batch, `accumulate` does: these are then of one micro-batch. It is here all the
same, for a run that has outgrown its memory."""


class TrainSettings(Config):
    """Settings of one run of the training loop."""

    # What is learnt.
    num_steps: NonNegativeInt | None = None
    """Optimiser steps of the whole run; give this or `epochs`. With 0 the encoder is kept as it is at the start."""
    epochs: PositiveInt | None = None
    """Passes over the data; give this or `num_steps`."""
    batch_size: PositiveInt = 256
    """Samples per optimiser step, over all ranks and micro-batches together."""
    lr: Literal["auto"] | PositiveFloat = "auto"
    """Peak learning rate; `auto` is `base_lr * batch_size / 256`."""
    base_lr: PositiveFloat = 1e-3
    """Peak learning rate for 256 samples per step, used where `lr` is `auto`."""
    min_lr: float = Field(default=0.0, ge=0.0)
    """Learning rate that the run ends at, or never falls below with `epoch_decay`."""
    epoch_decay: float | None = Field(default=None, gt=0.0, le=1.0)
    """Factor of the learning rate from one epoch to the next, in place of half a cosine over the run."""
    warmup_steps: int | None = Field(default=None, ge=0)
    """Steps of linear warm-up; give this or `warmup_fraction`."""
    warmup_fraction: float | None = Field(default=None, ge=0.0, lt=1.0)
    """Share of the run that warms up; 0.05 where neither this nor `warmup_steps` is given."""
    weight_decay: float = Field(default=0.05, ge=0.0)
    """Decoupled weight decay; 0 for biases and other parameters of one dimension unless a rule says otherwise."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay rates of AdamW's moments."""
    clip_norm: PositiveFloat | None = None
    """Largest global gradient norm; null switches clipping off."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of forward passes; parameters stay float32."""
    seed: int = 0
    """Seed of whatever the run draws."""

    # What it runs on: no result depends on these beyond the order of additions.
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, ..."""
    parallel: Literal["ddp", "fsdp2"] = "ddp"
    """Copies of the model on every rank, or one model in shards."""
    accumulate: PositiveInt = 1
    """Micro-batches per optimiser step and rank."""
    compile: bool = False
    """Compile the model block by block."""
    activation_checkpointing: bool = False
    """Recompute the blocks' activations in the backward pass: less memory, about a third more time."""

    # What is written.
    log_every: PositiveInt = 20
    """Steps between two lines of metrics."""
    save_every: PositiveInt = 1000
    """Steps between two checkpoints."""
    keep_last: PositiveInt = 2
    """Checkpoints that are kept, besides the best."""
    max_nonfinite: int = Field(default=10, ge=0)
    """Steps in a row with a loss or gradient that is not finite; each is skipped, and one more ends the run."""
    tensorboard: bool = False
    """Write TensorBoard files besides `metrics.jsonl`."""
    trackers: Several[Literal["wandb", "trackio"]] = ()
    """Trackers that are sent the metrics as well."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.num_steps is None) == (self.epochs is None):
            raise ValueError(f"expected one of num_steps and epochs, got {self.num_steps} and {self.epochs}")
        if self.warmup_steps is not None and self.warmup_fraction is not None:
            raise ValueError("expected one of warmup_steps and warmup_fraction, got both")
        if not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise ValueError(f"expected betas in [0, 1), got {self.betas}")
        if self.batch_size % self.accumulate:
            raise ValueError(f"expected batch_size to be a multiple of accumulate={self.accumulate}")
        return self

    def per_rank(self, world_size: int) -> int:
        """Return the samples of one micro-batch of one rank: what a batch source is to yield.

        Raises:
            ValueError: `batch_size` does not divide into ranks and micro-batches.
        """
        parts = world_size * self.accumulate
        if self.batch_size % parts:
            raise ValueError(
                f"expected batch_size to be a multiple of ranks x accumulate = {world_size} x {self.accumulate}, "
                f"got {self.batch_size}; {max(1, self.batch_size // parts) * parts} would do"
            )
        return self.batch_size // parts
