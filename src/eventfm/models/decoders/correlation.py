"""How well each place of one map fits each place of another, at several scales, looked up around a guess."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


class CorrelationPyramid:
    """All pairs of places of two maps, (B, D, h, w) each (RAFT: Teed and Deng, ECCV 2020, section 3.2).

    The finest level takes `4 * B * (h * w) ** 2` bytes in float32: 92 MB for one pair of 60x80 cells.
    """

    def __init__(self, first: Tensor, second: Tensor, num_levels: int) -> None:
        batch, dim, height, width = first.shape
        with torch.autocast(first.device.type, enabled=False):  # which would round the products to half precision
            scores = torch.einsum("bdn,bdm->bnm", first.flatten(2).float(), second.flatten(2).float()) / dim**0.5
        self.size = (batch, height, width)
        level = scores.reshape(batch * height * width, 1, height, width)
        self.levels = [level]
        for _ in range(num_levels - 1):
            level = functional.avg_pool2d(level, 2, ceil_mode=True)
            self.levels.append(level)

    def around(self, places: Tensor, radius: int) -> Tensor:
        """Return how well each place of the first map fits the second around `places`, (B, levels * k * k, h, w).

        `places` (B, 2, h, w) are x and y in cells of the second map; k = 2 * `radius` + 1 steps of one cell of each
        level, row by row. Beyond the edge nothing fits: 0.
        """
        batch, height, width = self.size
        steps = torch.arange(-radius, radius + 1, device=places.device, dtype=torch.float32)
        offsets = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1)  # (k, k, 2): x, y
        centres = places.float().permute(0, 2, 3, 1).reshape(-1, 1, 1, 2)
        found = []
        for number, level in enumerate(self.levels):
            # The middle of cell i of a level is that of 2 ** number cells of the finest.
            scaled = (centres + 0.5) / 2**number - 0.5 + offsets
            sides = torch.tensor([level.shape[3], level.shape[2]], device=places.device)
            sampled = functional.grid_sample(level, (2 * scaled + 1) / sides - 1, align_corners=False)
            found.append(sampled.view(batch, height, width, -1))
        return torch.cat(found, dim=3).permute(0, 3, 1, 2).contiguous()
