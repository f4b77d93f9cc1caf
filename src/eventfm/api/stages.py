"""Recipes of several stages: each a run of its own that starts from the encoder of the one before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eventfm.api.run_config import RunConfig, parse_run
from eventfm.config import ConfigError, apply_overrides
from eventfm.registry import did_you_mean

STAGES = "stages"
_SHARED = ("backbone",)
"""Keys of `method` that all stages of a recipe share, though each has a method of its own."""


def read_stages(values: Mapping[str, Any], changes: Mapping[str, Any], where: str) -> list[tuple[str, RunConfig]]:
    """Return (name, run) of each stage of a recipe, in order; runs are kept in `out/1_NAME`, `out/2_NAME`, ...

    What stands outside `stages` holds for all of them, what stands in a stage for that stage alone. The same goes for
    `changes` (dotted): `train.batch_size` is changed in every stage, `stages.contrast.train.epochs` in one. A stage
    that is set to null is left out. `init` is where the first stage starts.

    Raises:
        ConfigError: A stage or key that does not exist, or a key of one stage's method that is given for all.
    """
    recipe = values[STAGES]
    named = _leaves({key: value for key, value in changes.items() if key.split(".")[0] == STAGES})
    shared = {key: value for key, value in changes.items() if key.split(".")[0] != STAGES}
    for key in named:
        stage = key.split(".")[1]
        if stage not in recipe:
            raise ConfigError(f"unknown stage {stage!r}{did_you_mean(stage, list(recipe))}")
    if any("method" in (own or {}) for own in recipe.values()):
        _refuse_ambiguous(shared, list(recipe))
    out = Path(str(shared["out"]))
    common = {key: value for key, value in values.items() if key != STAGES}
    stages: list[tuple[str, RunConfig]] = []
    for name, own in recipe.items():
        prefix = f"{STAGES}.{name}"
        if named.get(prefix, own) is None:
            continue
        mine = {key.removeprefix(f"{prefix}."): value for key, value in named.items() if key.startswith(f"{prefix}.")}
        folder = {"out": str(out / f"{len(stages) + 1}_{name}")}
        start = {"init": str(Path(stages[-1][1].out) / "encoder")} if stages else {}
        merged = apply_overrides(common, own or {})
        stages.append((name, parse_run(merged, {**shared, **mine, **folder, **start}, f"{where}, stage {name}")))
    if not stages:
        raise ConfigError(f"expected at least one stage of {list(recipe)}, and all are set to null")
    return stages


def _leaves(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` with every inner mapping written out as dotted keys."""
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        inner = {f"{key}.{name}": item for name, item in value.items()} if isinstance(value, Mapping) else {}
        leaves |= _leaves(inner) if inner else {key: value}
    return leaves


def _refuse_ambiguous(shared: Mapping[str, Any], names: list[str]) -> None:
    for key, value in shared.items():
        parts = key.split(".")
        if parts[0] != "method":
            continue
        inner = parts[1:2] or list(value if isinstance(value, Mapping) else ())
        if other := [part for part in inner if part not in _SHARED]:
            raise ConfigError(
                f"method.{other[0]} is not the same in every stage; say stages.{names[0]}.method.{other[0]} "
                f"(stages: {', '.join(names)})"
            )
