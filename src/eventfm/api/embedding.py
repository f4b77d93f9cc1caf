"""`embed`: features of every window of a recording, or of many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eventfm.data.collection import open_collection
from eventfm.data.windows import WindowConfig
from eventfm.deployment.predict import LoadedEncoder, load, save_embeddings
from eventfm.events import Events
from eventfm.protocols import Embedding, Recording


def embed(
    encoder: str | Path | LoadedEncoder,
    data: str | Path | Events | Recording,
    out: str | Path | None = None,
    *,
    window: dict[str, Any] | None = None,
    device: str = "cpu",
) -> list[Embedding] | dict[str, list[Embedding]]:
    """Return one embedding per window of `data`; with `out`, keep them as `.npz` too.

    `data` is events, an open recording, a file, or a folder or store of recordings; of these last a mapping from
    name to embeddings comes back, and `out` is a folder. `window` cuts otherwise than in training, e.g.
    `{"by": "count", "num_events": 5000}`.

    Raises:
        ValueError: The encoder or the data cannot be read, or there is no event to embed.
    """
    loaded = encoder.to(device) if isinstance(encoder, LoadedEncoder) else load(encoder, device)
    cutting = None if window is None else WindowConfig.parse(window, "window")
    if not isinstance(data, (str, Path)):
        embeddings = loaded.embed(data, cutting)
        _keep(out, embeddings, "the recording")
        return embeddings
    collection = open_collection(data)
    found = {entry.name: loaded.embed(entry.recording, cutting) for entry in collection.entries}
    if len(found) == 1:
        (only,) = found.values()
        _keep(out, only, str(data))
        return only
    for name, embeddings in found.items():
        if out is not None:
            target = Path(out) / f"{name.removeprefix('::')}.npz"
            target.parent.mkdir(parents=True, exist_ok=True)
            _keep(target, embeddings, name)
    return found


def _keep(out: str | Path | None, embeddings: list[Embedding], what: str) -> None:
    if out is None:
        return
    if not embeddings:
        raise ValueError(f"expected events to embed, {what} has none; nothing was written to {out}")
    save_embeddings(out, embeddings)
