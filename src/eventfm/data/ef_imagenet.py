"""EF-ImageNet as published with EventPretrain: voxel grids, frame differences and CLIP tokens, stored ready-made.

    root/n01440764/n01440764_10026/events/noisy/n01440764_10026_00_noisy_events_voxel_grid.pt   (B, H, W)
                                   sub_frames/n01440764_10026_00_sub_frame.pt                   (1, H, W)
                                   n01440764_10026_clip_emb.pt                                  (1, 1 + N, D)

An image has several windows and one grid of tokens. Sizes, bins and windows are what the files say. The whole set takes
6 TB: it is listed when it is opened, and told from another by names and sizes of files, not by their content.
"""

from __future__ import annotations

import hashlib
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eventfm.data.problems import UnreadableError
from eventfm.data.table import CollectionError
from eventfm.events import Sensor

Noise = Literal["noisy", "clean"]
WINDOW_US = 33_333
"""Length of a window: its events lie between two frames of a video of 30 frames per second."""
_GRID_PATCH = 16
_LOOKED_AT = 8
VOXEL_AXES = 3


@dataclass(frozen=True, slots=True)
class Image:
    """One image with its windows; `name` is its folder relative to the root, with forward slashes."""

    name: str
    windows: tuple[str, ...]
    digest: str
    """Hash of the names and sizes of its event files."""

    @property
    def key(self) -> str:
        """What its tokens are found by."""
        return self.name

    def read(self, size: tuple[int, int]) -> NDArray[np.float32]:
        """Raise UnreadableError: the set has tokens and no pictures."""
        raise UnreadableError(self.name, "has no picture in EF-ImageNet, only the tokens of a CLIP model")

    def file(self, root: Path, kind: str, window: str = "") -> Path:
        """Return one of its files: `noisy`, `clean` or `sub_frames` of a window, or `tokens`."""
        folder = root / self.name
        if kind == "tokens":
            return folder / f"{folder.name}_clip_emb.pt"
        if kind == "sub_frames":
            return folder / "sub_frames" / f"{folder.name}_{window}_sub_frame.pt"
        return folder / "events" / kind / f"{folder.name}_{window}{_ending(kind)}"


@dataclass(frozen=True)
class StoredTokens:
    """The tokens that EF-ImageNet brings with it, without the class token (`scenes.Tokens`)."""

    root: Path
    dim: int
    grid: tuple[int, int]

    @property
    def teacher(self) -> dict[str, Any]:
        """What is known of the network that made them; plain JSON values."""
        return {
            "name": "ef-imagenet-clip",
            "class": "CLIP, as stored with EF-ImageNet",
            "tokens": "projected patch tokens, the class token left out",
            "dim": self.dim,
            "grid": list(self.grid),
            "input_size": [_GRID_PATCH * side for side in self.grid],
        }

    @property
    def failed(self) -> dict[str, str]:
        """Nothing is known of pictures that could not be read."""
        return {}

    def __contains__(self, key: str) -> bool:
        return self._file(key).is_file()

    def read(self, key: str) -> NDArray[np.float32]:
        """Return the tokens (rows * cols, dim) of the image `key`.

        Raises:
            UnreadableError: They cannot be read, or are of another shape.
        """
        tokens = load_tensor(self._file(key))
        if tokens.shape != (1, 1 + math.prod(self.grid), self.dim):
            expected = (1, 1 + math.prod(self.grid), self.dim)
            raise UnreadableError(str(self._file(key)), f"has shape {tokens.shape}; expected {expected}")
        return tokens[0, 1:]

    def check(
        self,
        identity: Mapping[str, Any] | None = None,
        field: tuple[int, int] | None = None,
        keys: Mapping[str, str] | None = None,
    ) -> None:
        """Refuse another teacher; single images without tokens are passed over when their turn comes.

        Raises:
            CollectionError: `identity` is not `teacher`, or none of `keys` is here.
        """
        if identity is not None and dict(identity) != self.teacher:
            raise CollectionError(f"EF-ImageNet brings the tokens of {self.teacher['name']}, not of {dict(identity)}")
        if keys is not None and not any(key in self for key in keys):
            raise CollectionError(f"EF-ImageNet in {self.root} has no tokens of these pictures")

    def _file(self, key: str) -> Path:
        return Image(key, (), "").file(self.root, "tokens")


@dataclass(frozen=True)
class EFImageNet:
    """All images below a root, and what one of them tells about the tensors."""

    root: Path
    noise: Noise
    images: tuple[Image, ...]
    num_bins: int
    sensor: Sensor
    """Size of the first image's tensors; others may differ."""
    has_targets: bool
    tokens: StoredTokens | None
    problems: dict[str, str]
    """Windows and images that are not whole and were left out, and why."""


def is_ef_imagenet(path: Path) -> bool:
    """Return whether a folder is laid out as EF-ImageNet is; the first few folders of each level tell."""
    return path.is_dir() and any(True for _ in _image_folders(path, _LOOKED_AT))


def open_ef_imagenet(root: Path, noise: Noise = "noisy") -> EFImageNet:
    """Return the images below `root` that are whole; every folder is listed, and one image read.

    Raises:
        CollectionError: No image has events of this kind, or none that can be read.
    """
    whole_ones, bare_ones, problems = [], [], {}
    for folder in _image_folders(root):
        image, missing = _listed(root, folder, noise)
        if not image.windows and not missing:
            problems[image.name] = f"has no files events/{noise}/{folder.name}_*{_ending(noise)}"
        whole_ones += [image] if image.windows else []
        bare_ones += [replace(image, windows=missing)] if missing else []
    has_targets = bool(whole_ones)
    if has_targets:
        problems |= {f"{bare.name}_{w}": "has events and no sub_frame" for bare in bare_ones for w in bare.windows}
    images = tuple(whole_ones or bare_ones)
    if not images:
        raise CollectionError(
            f"{root} is laid out as EF-ImageNet and has no events of kind data.noise={noise}: expected "
            f"CLASS/IMAGE/events/{noise}/IMAGE_00{_ending(noise)}"
        )
    bins, height, width = _first_shape(root, images, noise)
    if problems:
        name, reason = next(iter(problems.items()))
        warnings.warn(
            f"{len(problems)} windows or images of {root} are not whole and are left out, e.g. {name} {reason}",
            stacklevel=3,
        )
    tokens = _tokens(root, images)
    return EFImageNet(
        root, noise, images, bins, Sensor(width, height, "EF-ImageNet", inferred=True), has_targets, tokens, problems
    )


def load_tensor(file: Path) -> NDArray[np.float32]:
    """Return the tensor in a file as float32.

    Raises:
        UnreadableError: The file is missing, cut off, or holds no plain tensor.
    """
    import torch

    try:
        tensor = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise almost anything
        lines = str(error).splitlines() or [type(error).__name__]
        raise UnreadableError(str(file), f"cannot be read: {lines[0]}") from error
    if not isinstance(tensor, torch.Tensor):
        raise UnreadableError(str(file), f"holds {type(tensor).__name__}; expected a tensor")
    values: NDArray[np.float32] = tensor.detach().float().numpy()
    return values


def _image_folders(root: Path, at_most: int | None = None) -> Iterator[Path]:
    """Yield folders with `events/noisy` or `events/clean`, in order of name: those in `root`, or in its folders."""
    for folder in islice(_folders(root), at_most):
        if _is_image(folder):
            yield folder
        else:
            yield from (inner for inner in islice(_folders(folder), at_most) if _is_image(inner))


def _folders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _is_image(folder: Path) -> bool:
    return any((folder / "events" / noise).is_dir() for noise in ("noisy", "clean"))


def _listed(root: Path, folder: Path, noise: Noise) -> tuple[Image, tuple[str, ...]]:
    """Return an image with the windows that have a target, and the windows that have none."""
    start, end = f"{folder.name}_", _ending(noise)
    sizes = {
        name[len(start) : -len(end)]: size
        for name, size in _files(folder / "events" / noise)
        if name.startswith(start) and name.endswith(end)
    }
    targets = {name for name, _ in _files(folder / "sub_frames")}
    windows = tuple(window for window in sorted(sizes) if f"{start}{window}_sub_frame.pt" in targets)
    digest = hashlib.sha256(repr(sorted(sizes.items())).encode()).hexdigest()[:16]
    image = Image(folder.relative_to(root).as_posix(), windows, digest)
    return image, tuple(window for window in sorted(sizes) if window not in windows)


def _files(folder: Path) -> list[tuple[str, int]]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return [(entry.name, entry.stat().st_size) for entry in entries if entry.is_file()]


def _first_shape(root: Path, images: tuple[Image, ...], noise: Noise) -> tuple[int, int, int]:
    """Return bins, height and width of the first tensor of events that can be read."""
    for image in images:
        for window in image.windows:
            try:
                voxels = load_tensor(image.file(root, noise, window))
            except UnreadableError:
                continue
            if voxels.ndim == VOXEL_AXES and voxels.size:
                bins, height, width = voxels.shape
                return bins, height, width
    raise CollectionError(f"none of the {len(images)} images in {root} has events (B, H, W) that can be read")


def _tokens(root: Path, images: tuple[Image, ...]) -> StoredTokens | None:
    """Return the tokens, told by the first file that can be read, or None where there is none."""
    for image in images:
        file = image.file(root, "tokens")
        try:
            tokens = load_tensor(file) if file.is_file() else np.empty(0)
        except UnreadableError:
            continue
        side = math.isqrt(tokens.shape[1] - 1) if tokens.ndim == VOXEL_AXES and tokens.shape[1] else 0
        if side and len(tokens) == 1 and tokens.shape[1] == 1 + side * side:
            return StoredTokens(root, tokens.shape[2], (side, side))
    return None


def _ending(noise: str) -> str:
    return f"_{noise}_events_voxel_grid.pt"
