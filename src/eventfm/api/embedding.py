"""`embed`: features of every window of a recording, or of many."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import PositiveInt

from eventfm.config import Config
from eventfm.data.sequences import open_recordings
from eventfm.data.windows import WindowConfig
from eventfm.deployment.predict import LoadedEncoder, load, save_embeddings
from eventfm.events import Events, OnError, Sensor
from eventfm.models.encoder import check_representation
from eventfm.protocols import Embedding, Recording, Representation
from eventfm.representations import build as build_representation


class EmbedData(Config):
    """Recordings to embed."""

    path: str
    """A recording, a store of recordings, a folder of them, or sequences of DSEC or M3ED."""
    format: str | None = None
    """A hint for files whose content does not say what they are."""
    sensor: tuple[PositiveInt, PositiveInt] | None = None
    """Width and height in pixels, for files that do not say."""
    on_error: OnError = "raise"
    """What to do with time that goes backwards and events outside the sensor: raise, sort or clamp."""


class EmbedConfig(Config):
    """What the command line may say of `embed`."""

    encoder: str
    """Folder of an encoder or of a run."""
    data: EmbedData
    out: str
    """The `.npz` to write, or a folder of them for many recordings."""
    window: WindowConfig | None = None
    """How recordings are cut, where it is not as in training."""
    representation: dict[str, Any] | None = None
    """What the encoder must have been trained on; another one is refused."""
    device: str = "cpu"


def embed(
    encoder: str | Path | LoadedEncoder,
    data: str | Path | Events | Recording,
    out: str | Path | None = None,
    *,
    window: Mapping[str, Any] | WindowConfig | None = None,
    representation: Representation | Mapping[str, Any] | None = None,
    format: str | None = None,
    sensor: Sensor | tuple[int, int] | None = None,
    on_error: OnError = "raise",
    device: str | None = None,
) -> list[Embedding] | dict[str, list[Embedding]]:
    """Return one embedding per window of `data`; with `out`, keep them as `.npz` too.

    `data` is events, an open recording, a file, a folder or store of recordings, or sequences of DSEC or M3ED as they
    were published; of several a mapping from name to embeddings comes back, and `out` is a folder. `window` cuts
    otherwise than in training, e.g. `{"by": "count", "num_events": 5000}`; without it, `Events` are one window as they
    are. `format`, `sensor` and `on_error` are as for `open_recording`. An encoder that is loaded already stays on its
    device unless one is given.

    Raises:
        ValueError: The encoder or the data cannot be read, there is no event to embed, or the encoder was trained on
            another representation than `representation`.
    """
    if isinstance(encoder, LoadedEncoder):
        loaded = encoder if device is None else encoder.to(device)
        if representation is not None:
            wanted = build_representation(representation) if isinstance(representation, Mapping) else representation
            check_representation(loaded.card, wanted)
    else:
        loaded = load(encoder, device or "cpu", representation)
    cutting = WindowConfig.parse(window, under="window") if isinstance(window, Mapping) else window
    if not isinstance(data, (str, Path)):
        embeddings = loaded.embed(data, cutting)
        _keep(out, embeddings, "the recording")
        return embeddings
    entries = open_recordings(data, format=format, sensor=sensor, on_error=on_error).entries
    if len(entries) == 1:
        embeddings = loaded.embed(entries[0].recording, cutting)
        _keep(out, embeddings, str(data))
        return embeddings
    found: dict[str, list[Embedding]] = {}
    for entry in entries:
        found[entry.name] = embeddings = loaded.embed(entry.recording, cutting)
        if out is not None and not embeddings:
            warnings.warn(f"{entry.name} has no events; nothing was written for it", stacklevel=2)
        elif out is not None:
            save_embeddings(Path(out) / f"{entry.name.removeprefix('::').replace('::', '/')}.npz", embeddings)
    return found


def _keep(out: str | Path | None, embeddings: list[Embedding], what: str) -> None:
    if out is None:
        return
    if not embeddings:
        raise ValueError(f"expected events to embed, {what} has none; nothing was written to {out}")
    save_embeddings(out, embeddings)
