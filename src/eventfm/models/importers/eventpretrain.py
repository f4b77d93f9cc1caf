"""EventPretrain's checkpoints under this project's names, and back.

Strict both ways: each official key is used once, checked against a table, or refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from eventfm.models.importers.files import CheckpointError, read_state
from eventfm.models.importers.layout import (
    PARTS,
    SIZE_NAMES,
    Part,
    Shapes,
    StateDict,
    backbone_arguments,
    backbone_name,
    build_part,
    expected_weights,
    fixed_tables,
    part_arguments,
)
from eventfm.models.importers.names import FAMILIES, current_names, official_name
from eventfm.models.importers.recognition import STAGE_PREFIXES, STAGES, Kind, Stage, few, recognise


@dataclass(frozen=True)
class ImportedCheckpoint:
    """Weights of all parts of one checkpoint, and the arguments of the modules that they fit."""

    backbone: str
    """Registered name of the backbone, such as `convvit_small`."""
    stage: Stage
    """`rec`, `con`, `classification`, `dense` or `encoder`."""
    parts: dict[str, Part]
    """`backbone`; with `rec` also `decoder`; with `con` `projector`, `predictor`, `teacher_projection`, `queue`; with
    `classification` `classifier`; with `dense` `segmentation_head`, `auxiliary_head` and, of Swin, `unused_level`."""

    def build(self, part: str) -> nn.Module:
        """Return a new module on the CPU with the weights of `part`."""
        with torch.random.fork_rng(devices=[]):  # initial weights are drawn and thrown away
            module = build_part(part, self.backbone, self.parts[part].arguments)
        module.load_state_dict(self.parts[part].state)
        return module

    def states(self) -> dict[str, StateDict]:
        """Return the state dict of each part, as `export_eventpretrain` takes them."""
        return {name: part.state for name, part in self.parts.items()}


def import_eventpretrain(
    source: str | Path | Mapping[str, Tensor],
    *,
    backbone: str | None = None,
    stage: Stage | None = None,
    in_channels: int | None = None,
) -> ImportedCheckpoint:
    """Return the parts of an official EventPretrain checkpoint, whichever backbone and stage it is of.

    `source` is the `.pth` file or its state dict; tensors are not copied. `backbone` (a family such as `vit`, or a
    name such as `vit_small`), `stage` and `in_channels` are what the caller expects, if anything.

    Raises:
        CheckpointError: The file cannot be read, is of another project, not what was expected, or has a key too many,
            too few, or of another shape; the message names the keys.
    """
    official = source if isinstance(source, Mapping) else read_state(source)
    names = current_names(official)
    state = {name: official[key] for name, key in names.items()}
    kind, shapes = recognise(state), Shapes(state)
    _check_stage(kind, state, stage)
    name = backbone_name(kind.family, shapes)
    with torch.device("meta"):
        arguments = {"backbone": backbone_arguments(kind, shapes)}
        _check_backbone(kind, name, arguments["backbone"], state, backbone)
        modules = {"backbone": build_part("backbone", name, arguments["backbone"])}
        arguments |= part_arguments(kind, modules["backbone"], shapes)
        modules |= {part: build_part(part, name, arguments[part]) for part in arguments if part != "backbone"}
    _check_channels(arguments["backbone"]["in_channels"], shapes, in_channels)
    expected = expected_weights(kind.family, modules)
    weights = {key: tensor for key, (_, _, tensor) in expected.items()}
    tables = fixed_tables(kind.family, weights)
    if differences := _differences(state, {**weights, **tables}, names):
        read = ", ".join(f"{key!r} {shape}" for key, shape in shapes.read.items())
        raise CheckpointError(
            f"not quite a {name} of stage {kind.stage}: {'; '.join(differences)}; sizes were read from {read}"
        )
    for key, table in tables.items():
        _check_table(key, state[key], table)
    parts = {part: Part({}, arguments[part]) for part in modules}
    for key, (part, our_key, _) in expected.items():
        parts[part].state[our_key] = state[key]
    if kind.stage == "con":
        _check_pointer(state["queue_ptr"], parts["queue"].arguments["length"])
    return ImportedCheckpoint(name, kind.stage, parts)


def export_eventpretrain(backbone: str, parts: Mapping[str, Mapping[str, Tensor] | nn.Module]) -> StateDict:
    """Return `parts` under their official names, with the fixed tables that official checkpoints hold.

    `backbone` is the registered name, such as `swin_tiny`; the parts are named as in `ImportedCheckpoint.parts`, and
    those of one stage must be there. Tensors are not copied.

    Raises:
        CheckpointError: There is no official checkpoint of these parts or sizes.
    """
    family = backbone.split("_")[0]
    if family not in FAMILIES:
        raise CheckpointError(f"expected a backbone of {list(FAMILIES)}, got {backbone!r}; the official code has these")
    if unknown := sorted(parts.keys() - set(PARTS)):
        raise CheckpointError(f"unknown parts {unknown}; known: {list(PARTS)}")
    states = {name: part.state_dict() if isinstance(part, nn.Module) else part for name, part in parts.items()}
    official = {
        official_name(family, name, key): value.detach()
        for name, state in states.items()
        for key, value in state.items()
    }
    official |= fixed_tables(family, official)
    import_eventpretrain(official, backbone=backbone)
    return official


def _check_stage(kind: Kind, state: StateDict, stage: Stage | None) -> None:
    if stage is None or stage == kind.stage:
        return
    if stage not in STAGES:
        raise CheckpointError(f"expected one of the stages {list(STAGES)}, got {stage!r}")
    found = [key for key in state if key.startswith(STAGE_PREFIXES[kind.stage] or "backbone.")]
    wanted = " or ".join(map(repr, STAGE_PREFIXES[stage] or ("backbone.",)))
    raise CheckpointError(
        f"expected stage {stage}, with keys that begin with {wanted}; the checkpoint is a {kind.family} of stage "
        f"{kind.stage}, by its {few(found)}"
    )


def _check_backbone(kind: Kind, name: str, arguments: dict[str, object], state: StateDict, wanted: str | None) -> None:
    """Refuse a backbone that is not the wanted one, with the keys that tell them apart."""
    if wanted is None or wanted in (kind.family, name):
        return
    if wanted not in (*FAMILIES, *SIZE_NAMES):
        raise CheckpointError(f"expected a backbone of {[*FAMILIES, *SIZE_NAMES]}, got {wanted!r}")
    family = wanted.split("_")[0]
    size = next(size for size in SIZE_NAMES if size.startswith(wanted))
    plain = {key: value for key, value in arguments.items() if key != "extra_level"}
    expected = {
        key: item[2]
        for key, item in expected_weights(family, {"backbone": build_part("backbone", size, plain)}).items()
    }
    found = {key: value for key, value in state.items() if key.startswith("backbone.")}
    tables = ("pos_embed", "relative_position_index")
    found = {key: value for key, value in found.items() if not key.endswith(tables)}
    raise CheckpointError(
        f"expected a {wanted}, but the checkpoint is a {name} of stage {kind.stage}: "
        + "; ".join(_differences(found, expected, {}))
    )


def _check_channels(found: int, shapes: Shapes, wanted: int | None) -> None:
    if wanted is not None and wanted != found:
        key, shape = next(iter(shapes.read.items()))
        raise CheckpointError(
            f"expected a backbone for {wanted} input channels (bins), but {key!r} of shape {shape} takes {found}"
        )


def _differences(state: StateDict, expected: StateDict, names: Mapping[str, str]) -> list[str]:
    """Return what keeps `state` from being `expected`, in words; `names` are those in the file."""
    told = []
    if missing := [key for key in expected if key not in state]:
        told.append(f"{len(missing)} keys missing: {few(missing)}")
    if unknown := [names.get(key, key) for key in state if key not in expected]:
        told.append(f"{len(unknown)} keys too many: {few(unknown)}")
    both = [(key, state[key], expected[key]) for key in expected if key in state]
    shapes = [(key, found.shape, right.shape) for key, found, right in both if found.shape != right.shape]
    told += [f"expected {key!r} of shape {tuple(right)}, got {tuple(found)}" for key, found, right in shapes[:8]]
    if len(shapes) > 8:
        told.append(f"and {len(shapes) - 8} more of other shapes")
    kinds = [item for item in both if item[1].is_floating_point() != item[2].is_floating_point()]
    told += [f"expected {key!r} in {right.dtype}, got {found.dtype}" for key, found, right in kinds[:8]]
    return told


def _check_table(key: str, found: Tensor, ours: Tensor) -> None:
    """Refuse another table than the fixed one, which would be dropped unseen."""
    found = found.cpu()
    same = torch.allclose(found.float(), ours, atol=1e-4) if ours.is_floating_point() else torch.equal(found, ours)
    if not same:
        what = "sine-cosine table; learned positions" if key.endswith("pos_embed") else "index table; other windows"
        raise CheckpointError(f"{key!r} is not the fixed {what} are not supported")


def _check_pointer(pointer: Tensor, length: int) -> None:
    if not 0 <= int(pointer) < length:
        raise CheckpointError(f"expected 'queue_ptr' between 0 and {length - 1}, got {int(pointer)}")
