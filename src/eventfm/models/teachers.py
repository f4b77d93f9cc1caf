"""Teachers: frozen networks for pictures whose patch tokens a student learns from, and tokens they have left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from eventfm.models.importers import CheckpointError
from eventfm.models.importers.dino import import_dino
from eventfm.models.teacher_files import label, load_network, weights_sha256
from eventfm.models.teachers_families import Family, Size, TeacherError, Triple, own_size, pair, patch_tokens
from eventfm.protocols import Teacher

__all__ = ["PictureTeacher", "StoredTeacher", "TeacherError", "load_teacher"]


def load_teacher(
    name: str,
    *,
    input_size: int | tuple[int, int] | None = None,
    layers: Sequence[int] = (),
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Teacher:
    """Return the teacher called `name`: a model of the Hugging Face hub, or a folder that transformers has saved.

    CLIP gives every patch token in the space that it shares with text; DINOv2, DINOv3, SigLIP, SigLIP 2, ViT and any
    other network of transformers give the patch tokens of their last hidden state, SAM the map of its encoder.

    Args:
        name: Name or folder.
        input_size: Side or (height, width) of its pictures, pixels, multiples of its patches; the network's own size
            if not given. Networks with learned positions interpolate them, where they can.
        layers: Blocks of a DINOv2 or DINOv3, counted from 1, whose final-normed tokens are given side by side; those of
            the last one if not given.
        revision: Branch, tag or commit on the hub.
        trust_remote_code: Run code that comes with the model.

    Raises:
        TeacherError: There is no such teacher, or it has no patch tokens, or not of pictures of this size.
        MissingExtraError: transformers is not installed.
    """
    model, family, (mean, std) = load_network(name, revision, trust_remote_code)
    if (channels := getattr(model.config, "num_channels", 3)) != 3:
        raise TeacherError(f"expected a teacher of pictures with 3 channels, and {name!r} takes {channels}")
    size = own_size(model.config) if input_size is None else pair(input_size)
    config, kind, weights = model.config, type(model).__name__, weights_sha256(model)
    if layers:
        model, family = _of_layers(name, model, tuple(layers))
    dim, grid, dropped = _probe(name, family, model, size)
    if input_size is not None:  # a network's own size may leave a margin, as it was published
        _check_tiling(name, size, grid, pair(getattr(config, "patch_size", 1)))
    identity = {
        "name": label(name),
        "revision": revision,
        "class": kind,
        "weights_sha256": weights,
        "tokens": family.tokens + (f", {dropped} before the patches dropped" if dropped else ""),
        "input_size": list(size),
        "mean": list(mean),
        "std": list(std),
        "dtype": "float32",
    }
    return PictureTeacher(model, family, mean, std, dim, grid, size, identity)


class PictureTeacher:
    """A network that is only ever asked (`protocols.Teacher`).

    Its tokens do not depend on what surrounds it: it is in eval mode, makes no gradient, computes in float32 under
    any autocast, and is no `nn.Module`, so that no training mode, optimiser or state dict reaches it. A copy of what
    holds it holds the same teacher.
    """

    def __init__(
        self,
        model: nn.Module,
        family: Family,
        mean: Triple,
        std: Triple,
        dim: int,
        grid: Size,
        input_size: Size,
        identity: Mapping[str, Any],
    ) -> None:
        self.dim = dim
        self.grid = grid
        self.input_size = input_size
        self.identity = identity
        self._family = family
        self._model = model
        self._mean = torch.tensor(mean)[:, None, None]
        self._std = torch.tensor(std)[:, None, None]

    def __call__(self, pictures: Tensor) -> Tensor:
        """Return the patch tokens (B, rows * cols, dim) of `pictures` (B, 3, H, W), sRGB in [0, 1], float32.

        The network moves to the device of the pictures and stays there.

        Raises:
            ValueError: The pictures are not of `input_size`.
        """
        if pictures.ndim != 4 or tuple(pictures.shape[1:]) != (3, *self.input_size):
            height, width = self.input_size
            raise ValueError(
                f"expected pictures (B, 3, {height}, {width}) for the teacher {self.identity['name']!r}, "
                f"got {tuple(pictures.shape)}; resize them to its input_size"
            )
        if self._mean.device != pictures.device:
            self._model.to(pictures.device)
            self._mean, self._std = self._mean.to(pictures.device), self._std.to(pictures.device)
        # Not inference mode: a student's head could not keep such tensors for its backward pass.
        with torch.no_grad(), torch.autocast(pictures.device.type, enabled=False):
            pixels = (pictures.float() - self._mean) / self._std
            return patch_tokens(self._family, self._model, pixels)[0]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


@dataclass(frozen=True)
class StoredTeacher:
    """A teacher of which only its tokens are here, in a cache (`protocols.Teacher`)."""

    dim: int
    grid: Size
    identity: Mapping[str, Any]

    @property
    def input_size(self) -> Size:
        """Height and width of its pictures, pixels."""
        return pair(self.identity["input_size"])

    def __call__(self, pictures: Tensor) -> Tensor:
        """Raise: there is no network to ask.

        Raises:
            TeacherError: Always.
        """
        raise TeacherError(
            f"the teacher {self.identity.get('name')!r} was asked for tokens of {len(pictures)} pictures, and only the "
            "tokens in its cache are here; train on batches with teacher_tokens, or name the teacher without a cache"
        )


def _of_layers(name: str, model: nn.Module, layers: tuple[int, ...]) -> tuple[nn.Module, Family]:
    """Return the same network, and the family that asks it for the tokens of several blocks.

    Raises:
        TeacherError: It is no DINOv2 or DINOv3, or has no such blocks.
    """
    try:
        network = import_dino(model.state_dict()).build("backbone")
    except CheckpointError as error:
        raise TeacherError(
            f"teacher.layers needs a DINOv2 or DINOv3, and {name!r} is a {type(model).__name__}: {error}"
        ) from error
    if max(layers) > (depth := len(network.shard_units())) or min(layers) < 1:
        raise TeacherError(f"expected layers between 1 and {depth} of the teacher {name!r}, got {list(layers)}")

    def ask(network: Any, pixels: Tensor) -> Tensor:
        """Return a map (B, D * len(layers), rows, columns)."""
        rows, columns = (side // network.stride for side in pixels.shape[2:])
        tokens = torch.cat(network.tokens_at(pixels, layers), dim=2)
        return tokens.transpose(1, 2).unflatten(2, (rows, columns))

    said = f"norm of the tokens after blocks {', '.join(map(str, layers))}, side by side"
    return network.eval().requires_grad_(False), Family(type(network).__name__, None, ask, said)


def _probe(name: str, family: Family, model: nn.Module, size: Size) -> tuple[int, Size, int]:
    """Return dimension and grid of the tokens and the number of those dropped, as found by asking.

    Raises:
        TeacherError: The network does not take such pictures, or says two things of two equal ones.
    """
    height, width = size
    # Every patch differs from the others: what shuffles or hides them must not go unseen.
    picture = torch.linspace(-1, 1, 3 * height * width).reshape(1, 3, height, width).expand(2, -1, -1, -1)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            tokens, grid, dropped = patch_tokens(family, model, picture)
    except TeacherError:
        raise
    except Exception as error:
        # Any network may be asked here, and each fails in its own way.
        raise TeacherError(
            f"the teacher {name!r} ({type(model).__name__}) does not answer to pictures of {height}x{width} pixels "
            f"alone: {' '.join(str(error).split())}; choose another input_size, or a network for pictures"
        ) from error
    if (tokens[0] - tokens[1]).abs().max() > 1e-3 * tokens.abs().max():
        raise TeacherError(
            f"the teacher {name!r} ({type(model).__name__}) gives two equal pictures different tokens: it draws at "
            "random and teaches nothing; choose another network"
        )
    return tokens.shape[2], grid, dropped


def _check_tiling(name: str, size: Size, grid: Size, patch: Size) -> None:
    if any(side % step or side % count for side, step, count in zip(size, patch, grid, strict=True)):
        raise TeacherError(
            f"expected an input_size in multiples of the patches of the teacher {name!r}, {patch[0]}x{patch[1]} "
            f"pixels, got {size[0]}x{size[1]}"
        )
