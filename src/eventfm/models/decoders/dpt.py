"""DPT's head: maps brought to four scales, then merged from coarse to fine up to the size of the input."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

Four = tuple[int, int, int, int]


class DPTHead(nn.Module):
    """Dense prediction transformer's decoder (Ranftl et al., ICCV 2021), as Depth Anything V2 has it.

    The maps of a pyramid (B, in_dims[i], H_i, W_i), of `strides[i]` input pixels a cell, are brought to a quarter, a
    half, once and twice the stride of the third: 4, 8, 16 and 32 pixels for patches of 16. All four maps of a plain
    transformer are resampled; those of a hierarchical one have these strides already and keep them.

    `channels` are the widths of the four scales, `dim` is that of merging, `hidden` that before the last layer.
    Published are (dim, channels) of (64, (48, 96, 192, 384)) with ViT-S, (128, (96, 192, 384, 768)) with ViT-B and
    (256, (256, 512, 1024, 1024)) with ViT-L. No activation follows the last layer.

    On grids of even sides it computes what the DPT of Ranftl et al. does as well; theirs gives odd ones another size.
    """

    def __init__(
        self,
        in_dims: tuple[int, ...],
        strides: tuple[int, ...],
        num_outputs: int = 1,
        dim: int = 64,
        channels: Four = (48, 96, 192, 384),
        hidden: int = 32,
    ) -> None:
        super().__init__()
        if not len(in_dims) == len(strides) == len(channels) == 4:
            raise ValueError(f"expected four maps, got widths {in_dims}, strides {strides} and channels {channels}")
        self.in_dims = tuple(in_dims)
        self.stride = strides[2]
        factors = [strides[i] * 2 ** (2 - i) / self.stride for i in range(4)]
        self.reassemble = nn.ModuleList(
            _Reassemble(in_dim, width, factor) for in_dim, width, factor in zip(in_dims, channels, factors, strict=True)
        )
        self.convs = nn.ModuleList(nn.Conv2d(width, dim, 3, padding=1, bias=False) for width in channels)
        self.fusions = nn.ModuleList(_Fusion(dim, merges=i < 3) for i in range(4))
        self.halve = nn.Conv2d(dim, dim // 2, 3, padding=1)
        self.refine = nn.Conv2d(dim // 2, hidden, 3, padding=1)
        self.predict = nn.Conv2d(hidden, num_outputs, 1)

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        """Return (B, num_outputs, H, W) at the size of the input: the cells of the third map times its stride.

        Raises:
            ValueError: The maps are not four, or of other widths.
        """
        if tuple(level.shape[1] for level in pyramid) != self.in_dims:
            raise ValueError(
                f"expected maps of {self.in_dims} channels, got shapes {[tuple(m.shape) for m in pyramid]}"
            )
        levels = [
            conv(reassemble(level))
            for level, reassemble, conv in zip(pyramid, self.reassemble, self.convs, strict=True)
        ]
        finest = (2 * levels[0].shape[2], 2 * levels[0].shape[3])
        sizes = [finest, *((level.shape[2], level.shape[3]) for level in levels)]
        merged = None
        for i in (3, 2, 1, 0):
            merged = self.fusions[i](levels[i], merged, sizes[i])
        rows, cols = pyramid[2].shape[2:]
        full = _resize(self.halve(merged), (rows * self.stride, cols * self.stride))
        return self.predict(functional.relu(self.refine(full)))


class _Reassemble(nn.Module):
    """A 1x1 convolution, then a map with `factor` times as many cells a side; odd sides are rounded up."""

    def __init__(self, in_dim: int, dim: int, factor: float) -> None:
        super().__init__()
        self.project = nn.Conv2d(in_dim, dim, 1)
        step = round(max(factor, 1 / factor))
        if step not in (factor, 1 / factor):
            raise ValueError(f"expected strides that are whole multiples of each other, got a ratio of {factor:g}")
        if step == 1:
            self.resize: nn.Module = nn.Identity()
        elif factor > 1:
            self.resize = nn.ConvTranspose2d(dim, dim, step, stride=step)
        else:
            self.resize = nn.Conv2d(dim, dim, 3, stride=step, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.resize(self.project(x))


class _Fusion(nn.Module):
    """Adds a level to what was merged so far, if anything, refines the sum and resizes it."""

    def __init__(self, dim: int, merges: bool) -> None:
        super().__init__()
        self.lateral = _Residual(dim) if merges else None
        self.refine = _Residual(dim)
        self.project = nn.Conv2d(dim, dim, 1)

    def forward(self, level: Tensor, merged: Tensor | None, size: tuple[int, int]) -> Tensor:
        if self.lateral is not None:
            level = merged + self.lateral(level)
        return self.project(_resize(self.refine(level), size))


class _Residual(nn.Module):
    """Two 3x3 convolutions, each after a ReLU, added to the input."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(functional.relu(self.conv1(functional.relu(x))))


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Return `x` at `size` (H, W), bilinearly, corners aligned: as published weights were trained."""
    return functional.interpolate(x, size, mode="bilinear", align_corners=True)
