"""Looks at held-out samples while a run goes on: the loss, and whether features are about to collapse."""

from __future__ import annotations

from typing import Any

import torch

from eventfm.api.collapse_looks import collapse_look
from eventfm.api.run_config import RunConfig
from eventfm.data.loader import SampleSet, evaluation_batches
from eventfm.engine.feed import to_device
from eventfm.engine.monitor import dead_share, effective_rank, mean_cosine
from eventfm.protocols import Progress

MAX_VALIDATION = 512
"""Held-out samples that a look at the loss uses, evenly chosen: from this many on, less than twice as many."""
COLLAPSE_SAMPLES = 8
"""Held-out samples on which collapse is measured."""
LOOKS = 10
"""Looks at the held-out data in a run, where `validate_every` is not given."""


def look_every(config: RunConfig, num_samples: int) -> int:
    """Return the number of steps between two looks."""
    if config.validate_every is not None:
        return config.validate_every
    steps = config.train.num_steps or (config.train.epochs or 1) * max(1, num_samples // config.train.batch_size)
    return max(1, steps // LOOKS)


@torch.no_grad()
def look(objective: Any, step: int, held_out: SampleSet, batch_size: int) -> dict[str, float]:
    """Return the means of what `objective` says of `held_out`, and figures of the spread of its encoder's features.

    Raises:
        ValueError: The features are not finite.
    """
    device = next(objective.parameters()).device
    indices = list(range(len(held_out)))[:: max(1, len(held_out) // MAX_VALIDATION)]
    totals: dict[str, float] = {}
    features, seen = [], 0
    figures: dict[str, float] = {}
    for batch in evaluation_batches(held_out, min(64, batch_size), indices):
        batch = to_device(batch, device)
        size = len(batch["key"])
        outputs = objective(batch, Progress(step, step))
        for name, value in outputs.items():
            totals[name] = totals.get(name, 0.0) + float(value) * size
        if not seen:
            figures |= collapse_look(objective, {name: value[:COLLAPSE_SAMPLES] for name, value in batch.items()})
        features.append(objective.encoder()(batch["input"]).tokens.mean(1).float())
        seen += size
    figures |= {f"held_out/{name}": total / seen for name, total in totals.items()}
    joined = torch.cat(features)
    if not joined.isfinite().all():
        raise ValueError(
            f"the features of held-out samples are NaN or infinite after step {step}: the weights have grown beyond "
            "bounds. Lower the learning rate, set clip_norm or lengthen the warm-up, in another out="
        )
    if len(joined) > 1:
        figures["features/effective_rank"] = float(effective_rank(joined))
        figures["features/mean_cosine"] = float(mean_cosine(joined))
        figures["features/dead_share"] = float(dead_share(joined))
    return figures
