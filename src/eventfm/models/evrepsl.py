"""EvRepSL (Qu et al., TIP 2024): the network RepGen, which turns EvRep into a five-channel input, and its weights.

A U-Net of inverted bottlenecks with squeeze-and-excitation, one way down and two ways up. EventPretrain compares with
what it makes: EvRep itself, the clean intensity change and the map of its scale. The weights are a file of its
authors, `RepGen.pth`; the layout here is that of their published network.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from eventfm.models.importers import CheckpointError


class _Level(NamedTuple):
    pool: int
    """Pixels a side that become one on the way down."""
    expansion: int
    depthwise: bool
    num_down: int
    """Bottlenecks on the way down."""
    num_up: int


_WIDTHS = (12, 24, 48, 96, 96)
_LEVELS = (_Level(3, 1, False, 2, 2), _Level(3, 2, False, 2, 4), _Level(2, 4, True, 4, 4), _Level(2, 4, True, 4, 6))
_SMALLEST = 36
"""Product of the pools: pixels a side that leave one at the bottom."""

_OFFICIAL_NAMES = (
    (r"^stem\.", "inc.double_conv."),
    (r"^change_ups\.", "ups."),
    (r"^change\.", "out_clean_ie.double_conv."),
    (r"^scale_ups\.", "c_ups."),
    (r"^scale\.(\d)\.", r"c_out.matrix_c_conv.\1.convna."),
    (r"\.blocks\.(\d)\.layers\.(\d)\.layers\.", r".mbd.mbconv_\1.mbconv.\2.excitation."),
    (r"\.blocks\.(\d)\.layers\.(\d)\.", r".mbd.mbconv_\1.mbconv.\2.convna."),
)
_UNUSED = "ce_to_f1.k"
"""A number of the training objective, which predicts a second frame from a first."""


class RepGen(nn.Module):
    """EvRep (B, 3, H, W) to the clean intensity change and its scale, each (B, 1, H, W).

    The change may have either sign, the scale is not negative. No layer behaves otherwise in training.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_plain_conv(3, _WIDTHS[0]), *_plain_conv(_WIDTHS[0], _WIDTHS[0]))
        self.downs = nn.ModuleList(_Down(number) for number in range(len(_LEVELS)))
        self.change_ups = _ways_up()
        self.change = nn.Sequential(
            *_plain_conv(_WIDTHS[0], _WIDTHS[0]),
            *_plain_conv(_WIDTHS[0], _WIDTHS[0]),
            nn.Conv2d(_WIDTHS[0], 1, 1, bias=False),
        )
        self.scale_ups = _ways_up()
        half = _WIDTHS[0] // 2
        self.scale = nn.Sequential(_conv(_WIDTHS[0], half, 1), _conv(half, 1, 1, activation=False), nn.ReLU())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (change, scale).

        Raises:
            ValueError: Not three channels, or a side of fewer than 36 pixels.
        """
        if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[2:]) < _SMALLEST:
            raise ValueError(f"expected EvRep (B, 3, H, W) of at least {_SMALLEST} pixels a side, got {tuple(x.shape)}")
        levels = [self.stem(x)]
        for down in self.downs:
            levels.append(down(levels[-1]))
        change, scale = levels[-1], levels[-1]
        for up_change, up_scale, skip in zip(self.change_ups, self.scale_ups, levels[-2::-1], strict=True):
            change, scale = up_change(change, skip), up_scale(scale, skip)
        return self.change(change), self.scale(scale)


def load_evrepsl(source: str | Path | Mapping[str, Tensor]) -> RepGen:
    """Return RepGen with the weights of `RepGen.pth` (a path, or its state dict), in eval mode and frozen.

    Raises:
        CheckpointError: The file cannot be read, or its keys or shapes are not exactly those of RepGen.
    """
    official = source if isinstance(source, Mapping) else _read(source)
    network = RepGen()
    expected = {_official_name(key): key for key in network.state_dict()}
    if missing := sorted({*expected, _UNUSED} - official.keys()):
        raise CheckpointError(f"the checkpoint lacks {len(missing)} keys of RepGen: {', '.join(missing[:8])}")
    if unknown := sorted(map(str, official.keys() - {*expected, _UNUSED})):
        raise CheckpointError(f"{len(unknown)} keys have no place in RepGen: {', '.join(unknown[:8])}")
    own = network.state_dict()
    for name, key in expected.items():
        if official[name].shape != own[key].shape:
            raise CheckpointError(
                f"{name!r}: expected shape {tuple(own[key].shape)}, got {tuple(official[name].shape)}"
            )
    network.load_state_dict({key: official[name] for name, key in expected.items()})
    return network.eval().requires_grad_(False)


@torch.no_grad()
def apply_evrepsl(network: RepGen, evrep: Tensor) -> Tensor:
    """Return EvRepSL (B, 5, H, W): `evrep` (B, 3, H, W), the clean intensity change and its scale; no gradient."""
    return torch.cat([evrep, *network(evrep)], dim=1)


class _Gate(nn.Module):
    """Squeeze and excitation (Hu et al., CVPR 2018), a twelfth of the width in between."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim, dim // 12, bias=False), nn.ReLU(), nn.Linear(dim // 12, dim, bias=False), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.layers(x.mean(dim=(2, 3)))[:, :, None, None]


class _Bottleneck(nn.Module):
    """Inverted bottleneck; a 3 x 3 convolution in place of the first two where it is not depthwise."""

    def __init__(self, in_dim: int, out_dim: int, level: _Level) -> None:
        super().__init__()
        wide = in_dim * level.expansion
        widening = (
            [_conv(in_dim, wide, 1), _conv(wide, wide, 3, groups=wide)] if level.depthwise else [_conv(in_dim, wide, 3)]
        )
        self.layers = nn.Sequential(*widening, _Gate(wide), _conv(wide, out_dim, 1, activation=False))
        self.is_residual = in_dim == out_dim

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.is_residual else self.layers(x)


class _Down(nn.Module):
    def __init__(self, number: int) -> None:
        super().__init__()
        level, in_dim, out_dim = _LEVELS[number], _WIDTHS[number], _WIDTHS[number + 1]
        self.pool = level.pool
        dims = [in_dim] + [out_dim] * (level.num_down - 1)
        self.blocks = nn.Sequential(*(_Bottleneck(dim, out_dim, level) for dim in dims))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(functional.max_pool2d(x, self.pool))


class _Up(nn.Module):
    """Enlarge, pad with zeros to the size of the level above, join with it."""

    def __init__(self, number: int) -> None:
        super().__init__()
        level, in_dim = _LEVELS[number], 2 * _WIDTHS[number]
        out_dim = _WIDTHS[number] // 2 if number else _WIDTHS[0]
        self.factor = level.pool
        dims = [in_dim] * (level.num_up - 1) + [out_dim]
        self.blocks = nn.Sequential(*(_Bottleneck(in_dim, dim, level) for dim in dims))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = functional.interpolate(x, scale_factor=self.factor, mode="bilinear", align_corners=True)
        rows, columns = skip.shape[2] - x.shape[2], skip.shape[3] - x.shape[3]
        x = functional.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        return self.blocks(torch.cat([skip, x], dim=1))


def _ways_up() -> nn.ModuleList:
    return nn.ModuleList(_Up(number) for number in reversed(range(len(_LEVELS))))


def _conv(in_dim: int, out_dim: int, size: int, groups: int = 1, activation: bool = True) -> nn.Sequential:
    layers = [nn.Conv2d(in_dim, out_dim, size, padding=size // 2, groups=groups), nn.GroupNorm(1, out_dim)]
    return nn.Sequential(*layers, nn.SiLU()) if activation else nn.Sequential(*layers)


def _plain_conv(in_dim: int, out_dim: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(in_dim, out_dim, 3, padding=1, bias=False), nn.GroupNorm(1, out_dim), nn.SiLU()


def _official_name(key: str) -> str:
    for pattern, name in _OFFICIAL_NAMES:
        key = re.sub(pattern, name, key)
    return key


def _read(path: str | Path) -> dict[str, Tensor]:
    """Return the state dict in `path`, on the CPU, without running its pickle."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} is damaged, or holds more than tensors, and was not loaded") from error
    except (OSError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"cannot read {path} as a torch checkpoint: {error}") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"expected {path} to hold a state dict of tensors; is it RepGen.pth of EvRepSL?")
    return dict(state)
