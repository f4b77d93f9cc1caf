"""A loaded encoder: events or a recording in, features out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eventfm.data.pairs import write_grid
from eventfm.data.transforms import whole
from eventfm.data.windows import WindowConfig, cut, read
from eventfm.engine.devices import find_device
from eventfm.events import Events
from eventfm.io import ArrayRecording
from eventfm.models.encoder import CARD, EncoderCard, check_representation, load_encoder, read_card
from eventfm.protocols import Embedding, Recording, Representation
from eventfm.representations import build as build_representation


@dataclass(frozen=True)
class LoadedEncoder:
    """A backbone in evaluation mode with the representation, window and input size that it was trained on."""

    backbone: nn.Module
    representation: Representation
    window: WindowConfig
    input_size: tuple[int, int]
    """Height and width of the input, pixels; other sensors are cropped at the centre and resized."""
    card: EncoderCard

    def to(self, device: str | torch.device) -> LoadedEncoder:
        """Return the same encoder with its weights moved to `device`, `auto` or as torch names them.

        Raises:
            ValueError: This machine has no such device.
        """
        self.backbone.to(find_device(device)[0])
        return self

    def tensors(self, windows: Sequence[Events]) -> Tensor:
        """Return the network's input (B, C, H, W) for windows of events, one sample each."""
        batch = torch.empty((len(windows), self.representation.channels, *self.input_size))
        for events, out in zip(windows, batch.numpy(), strict=True):
            events = replace(events, window=_span(events))
            geometry = whole(events.sensor, self.input_size)
            write_grid(self.representation, geometry.events(events), geometry, out)
        return batch

    def embed(
        self, source: Events | Recording, window: WindowConfig | None = None, batch_size: int = 64
    ) -> list[Embedding]:
        """Return one embedding per window of `source`, cut by `window` or else as in training.

        Where `source` is `Events` and no `window` is given, they are one window as they are. Of a recording without
        events there are none.
        """
        if isinstance(source, Events):
            if window is None:
                return self.embed_windows([source], batch_size)
            source = ArrayRecording(source)
        parts = cut(source, window or self.window)
        return self.embed_windows((read(source, part) for part in parts), batch_size)

    def embed_windows(self, windows: Iterable[Events], batch_size: int = 64) -> list[Embedding]:
        """Return one embedding for each of `windows`, which are read as they are needed."""
        return [
            Embedding(_span(events)[1], summary, tokens, grid)
            for part, summaries, batch, grid in self._features(windows, batch_size)
            for events, summary, tokens in zip(part, summaries, batch, strict=True)
        ]

    def summaries(self, windows: Iterable[Events], batch_size: int = 64) -> NDArray[np.float32]:
        """Return (W, D), the `cls` of each of `windows`, without keeping their tokens."""
        rows = [summaries for _, summaries, _, _ in self._features(windows, batch_size)]
        return np.concatenate(rows) if rows else np.empty((0, self.backbone.embed_dim), np.float32)

    def _features(
        self, windows: Iterable[Events], batch_size: int
    ) -> Iterator[tuple[list[Events], NDArray[np.float32], NDArray[np.float32], tuple[int, int]]]:
        device = next(self.backbone.parameters()).device
        rest = iter(windows)
        while part := list(islice(rest, batch_size)):
            with torch.inference_mode():
                features = self.backbone(self.tensors(part).to(device))
            # Without a class token the mean over patches stands for the window (EventPretrain, classification).
            summary = features.cls if features.cls is not None else features.tokens.mean(1)
            yield part, summary.float().cpu().numpy(), features.tokens.float().cpu().numpy(), features.grid


def load(
    path: str | Path, device: str = "cpu", representation: Representation | Mapping[str, Any] | None = None
) -> LoadedEncoder:
    """Return the encoder kept in the folder `path` (`out/encoder` of a run, or the run's folder itself).

    A caller that feeds a certain `representation`, or a config of one, names it, and an encoder of another is refused.

    Raises:
        ValueError: The folder holds no encoder, or a damaged one, or one of another representation.
    """
    folder = Path(path)
    if not (folder / CARD).exists() and (folder / "encoder").is_dir():
        folder = folder / "encoder"
    if representation is not None:
        wanted = build_representation(representation) if isinstance(representation, Mapping) else representation
        check_representation(read_card(folder), wanted)
    backbone, card = load_encoder(folder)
    return assemble(backbone, card).to(device)


def assemble(backbone: nn.Module, card: EncoderCard) -> LoadedEncoder:
    """Return `backbone` as an encoder that follows `card`."""
    return LoadedEncoder(
        backbone.eval(),
        build_representation(card.representation),
        WindowConfig.parse(card.window, under="window"),
        (card.input_size[0], card.input_size[1]),
        card,
    )


def save_embeddings(path: str | Path, embeddings: Sequence[Embedding]) -> None:
    """Write embeddings to an `.npz` with `t_us` (W,), `cls` (W, D), `tokens` (W, N, D) and `grid` (2,).

    Raises:
        ValueError: There is none to write.
    """
    if not embeddings:
        raise ValueError(f"expected at least one embedding to write to {path}, got none")
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name}.tmp.npz")
    try:
        np.savez_compressed(
            temporary,
            t_us=np.array([e.t_us for e in embeddings], np.int64),
            cls=np.stack([e.cls for e in embeddings]),
            tokens=np.stack([e.tokens for e in embeddings]),
            grid=np.array(embeddings[0].grid, np.int64),
        )
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _span(events: Events) -> tuple[int, int]:
    """Return the window of `events`, `[t0, t1)`; of events without one, the time that they span."""
    if events.window is not None:
        return events.window
    return (int(events.t[0]), int(events.t[-1]) + 1) if len(events) else (0, 1)
