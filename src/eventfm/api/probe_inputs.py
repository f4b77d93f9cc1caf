"""What probes of frozen features are given: labelled recordings, encoders, and the same networks untrained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eventfm.api.pretraining import untrained
from eventfm.config import Config, ConfigError
from eventfm.data.collection import Collection
from eventfm.deployment.predict import LoadedEncoder, assemble, load
from eventfm.evaluation.leakage import leakage
from eventfm.evaluation.protocol import Part, ProtocolError
from eventfm.events import OnError


class ProbeData(Config):
    """Labelled recordings to probe on."""

    path: str
    """A folder or store of recordings."""
    labels: str
    """CSV with the column path and, for every recording, a fold, or the splits train and test; for the task recognition
    with the column label."""
    format: str | None = None
    sensor: tuple[int, int] | None = None
    on_error: OnError = "raise"


def encoder_names(encoders: str | list[str]) -> dict[str, str]:
    """Return the row name of each encoder: its run's folder, or all of its path where that would come twice.

    Raises:
        ConfigError: There is none, or an empty name among them.
    """
    paths = [path.strip() for path in (encoders.split(",") if isinstance(encoders, str) else encoders)]
    if not all(paths):
        raise ConfigError(f"expected encoders=FOLDER[,FOLDER ...], got {encoders!r}")
    labels = [_label(path) for path in paths]
    return {
        path: path if labels.count(label) > 1 or label == "counts" else label
        for path, label in zip(paths, labels, strict=True)
    }


def encoders_of_parts(name: str, protocol: Sequence[Part], device: str = "cpu") -> list[LoadedEncoder]:
    """Return the encoder of each part: one for all, or with `{fold}` in its name one for each fold.

    Raises:
        ProtocolError: An encoder for each fold is asked for, and there are no folds.
        ValueError: There is no encoder, or a damaged one.
    """
    if "{fold}" not in name:
        encoder = load(name, device)
        return [encoder] * len(protocol)
    if any(part.fold is None for part in protocol):
        raise ProtocolError(f"{name!r} asks for an encoder per fold, but the table of recordings has no folds")
    return [load(name.replace("{fold}", str(part.fold)), device) for part in protocol]


def untrained_twins(encoders: Sequence[LoadedEncoder]) -> list[LoadedEncoder]:
    """Return the same networks with the weights that their pretraining started from, each once, where they are."""
    twins: dict[int, LoadedEncoder] = {}
    for encoder in encoders:
        if id(encoder) not in twins:
            seed = int(encoder.card.recipe.get("train", {}).get("seed", 0))
            device = next(encoder.backbone.parameters()).device
            twins[id(encoder)] = assemble(untrained(encoder.card, seed), encoder.card).to(device)
    return [twins[id(encoder)] for encoder in encoders]


def sees_tests(
    collection: Collection, encoders: Sequence[LoadedEncoder], protocol: Sequence[Part], allowed: bool
) -> bool:
    """Return whether one of the encoders, one for each part, was pretrained on a recording that it is scored on.

    Raises:
        ProtocolError: It was, and that is not `allowed`.
    """
    for encoder, part in zip(encoders, protocol, strict=True):
        tests = [collection.entries[i] for i in part.test]
        found = leakage(encoder.card.trained_on, {entry.name: entry.fingerprint for entry in tests})
        shared = [item.name for item in found.seen]
        if shared and not allowed:
            where = "" if part.fold is None else f" of fold {part.fold}"
            raise ProtocolError(
                f"the encoder was pretrained on {len(shared)} of the {len(part.test)} recordings{where} that it would "
                f"be scored on, e.g. {shared[0]!r}; pretrain with data.split=train or data.exclude_fold=FOLD (one run "
                "per fold, then encoders='runs/fold{fold}'), or say allow_overlap=true, which the table will name"
            )
        if shared:
            return True
    return False


def _label(name: str) -> str:
    path = Path(name)
    path = path.parent if path.name == "encoder" else path
    return f"{path.parent.name}/{path.name}" if "{fold}" in path.name and path.parent.name else path.name
