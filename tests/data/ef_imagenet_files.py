"""A small set of files laid out as EF-ImageNet is."""

from __future__ import annotations

from pathlib import Path

import torch

BINS = 5


def tensor_of(image: int, window: int, size: tuple[int, int], kind: int = 0) -> torch.Tensor:
    """Return events (BINS, h, w) that tell image, window and place."""
    generator = torch.Generator().manual_seed(1000 * image + 10 * window + kind)
    return torch.randn((BINS, *size), generator=generator)


def write_image(
    folder: Path,
    number: int,
    size: tuple[int, int] = (12, 16),
    windows: int = 3,
    noises: tuple[str, ...] = ("noisy", "clean"),
    targets: bool = True,
    tokens: int | None = 9,
) -> Path:
    """Write one image; its sub_frames are the sums of its clean events over the bins."""
    name = folder.name
    for noise in noises:
        (folder / "events" / noise).mkdir(parents=True)
    if targets:
        (folder / "sub_frames").mkdir(exist_ok=True)
    for window in range(windows):
        for kind, noise in enumerate(noises):
            events = tensor_of(number, window, size, kind)
            torch.save(events, folder / "events" / noise / f"{name}_{window:02d}_{noise}_events_voxel_grid.pt")
        if targets:
            target = tensor_of(number, window, size).sum(0, keepdim=True)
            torch.save(target, folder / "sub_frames" / f"{name}_{window:02d}_sub_frame.pt")
    if tokens is not None:
        torch.save(torch.full((1, 1 + tokens, 4), float(number)), folder / f"{name}_clip_emb.pt")
    return folder


def write_set(root: Path, num_images: int = 4, **settings: object) -> Path:
    """Write images of two classes by turns."""
    for number in range(num_images):
        wnid = ("n01", "n02")[number % 2]
        write_image(root / wnid / f"{wnid}_{number}", number, **settings)  # type: ignore[arg-type]
    return root
