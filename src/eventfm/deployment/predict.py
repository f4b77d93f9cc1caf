"""A loaded encoder: events or a recording in, features out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eventfm.data.pairs import write_grid
from eventfm.data.transforms import whole
from eventfm.data.windows import WindowConfig, cut, read
from eventfm.events import Events
from eventfm.models.encoder import EncoderCard, load_encoder
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
        """Return the same encoder with its weights moved to `device`."""
        self.backbone.to(device)
        return self

    def tensors(self, windows: Sequence[Events]) -> Tensor:
        """Return the network's input (B, C, H, W) for windows of events, one sample each."""
        batch = torch.empty((len(windows), self.representation.channels, *self.input_size))
        for events, out in zip(windows, batch.numpy(), strict=True):
            geometry = whole(events.sensor, self.input_size)
            write_grid(self.representation, geometry.events(events), geometry, out)
        return batch

    def embed(
        self, source: Events | Recording, window: WindowConfig | None = None, batch_size: int = 64
    ) -> list[Embedding]:
        """Return one embedding per window: of `source` as it is where it is `Events`, else cut as in training.

        `window` cuts a recording otherwise. Of a recording without events there are none.
        """
        if isinstance(source, Events):
            last = source.window[1] if source.window else (int(source.t[-1]) + 1 if len(source) else 0)
            return self.embed_windows([source], [last], batch_size)
        windows = [read(source, part) for part in cut(source, window or self.window)]
        return self.embed_windows(windows, [events.window[1] if events.window else 0 for events in windows], batch_size)

    def embed_windows(self, windows: Sequence[Events], ends_us: Sequence[int], batch_size: int = 64) -> list[Embedding]:
        """Return one embedding for each of `windows`; `ends_us` are the times they are filed under."""
        return [
            Embedding(int(end), summary, tokens, grid)
            for end, (summary, tokens, grid) in zip(ends_us, self._features(windows, batch_size), strict=True)
        ]

    def _features(
        self, windows: Sequence[Events], batch_size: int
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32], tuple[int, int]]]:
        device = next(self.backbone.parameters()).device
        for start in range(0, len(windows), batch_size):
            with torch.inference_mode():
                features = self.backbone(self.tensors(windows[start : start + batch_size]).to(device))
            # Without a class token the mean over patches stands for the window (EventPretrain, classification).
            summary = features.cls if features.cls is not None else features.tokens.mean(1)
            summaries, tokens = summary.float().cpu().numpy(), features.tokens.float().cpu().numpy()
            for row in range(len(tokens)):
                yield summaries[row], tokens[row], features.grid


def load(path: str | Path, device: str = "cpu") -> LoadedEncoder:
    """Return the encoder kept in the folder `path` (`out/encoder` of a run, or the run's folder itself).

    Raises:
        ValueError: The folder holds no encoder, or a damaged one.
    """
    folder = Path(path)
    if not (folder / "config.json").exists() and (folder / "encoder").is_dir():
        folder = folder / "encoder"
    backbone, card = load_encoder(folder)
    return assemble(backbone, card).to(device)


def assemble(backbone: nn.Module, card: EncoderCard) -> LoadedEncoder:
    """Return `backbone` as an encoder that follows `card`."""
    return LoadedEncoder(
        backbone.eval(),
        build_representation(card.representation),
        WindowConfig.parse(card.window, "window"),
        (card.input_size[0], card.input_size[1]),
        card,
    )


def save_embeddings(path: str | Path, embeddings: Sequence[Embedding]) -> None:
    """Write embeddings to an `.npz` with `t_us` (W,), `cls` (W, D), `tokens` (W, N, D) and `grid` (2,)."""
    target = Path(path)
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
