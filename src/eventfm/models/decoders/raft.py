"""A flow decoder of the RAFT family: compare two windows everywhere, then improve the flow step by step."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from eventfm.models.decoders.correlation import CorrelationPyramid


class RAFTDecoder(nn.Module):
    """From features of two windows to flow, iteratively (RAFT: Teed and Deng, ECCV 2020).

    As in SEA-RAFT (Wang et al., ECCV 2024) the flow starts from a guess that is made of the context, so that few
    iterations do; the unit that improves it is RAFT's separable recurrent one, which needs fewer weights.

    Flow is worked out in cells of the features and brought to pixels by a learned convex blend of nine neighbours,
    `upscale` times as fine, and bilinearly from there on where the input is finer or coarser still.
    """

    def __init__(
        self, dim: int, hidden: int = 96, levels: int = 4, radius: int = 4, iterations: int = 4, upscale: int = 8
    ) -> None:
        super().__init__()
        if hidden < 3 or min(levels, radius, iterations, upscale) < 1:
            raise ValueError(
                "expected hidden of at least 3, and levels, radius, iterations and upscale of at least 1, got "
                f"{(hidden, levels, radius, iterations, upscale)}"
            )
        self.levels, self.radius, self.iterations, self.upscale = levels, radius, iterations, upscale
        self.begin = nn.Conv2d(dim, 2 * hidden, 3, padding=1)
        self.motion = _MotionEncoder(levels * (2 * radius + 1) ** 2, hidden)
        self.unit = _SeparableGRU(hidden, 2 * hidden)
        self.to_flow = nn.Sequential(_conv3(hidden, hidden), nn.ReLU(), _conv3(hidden, 2))
        self.to_blend = nn.Sequential(_conv3(hidden, hidden), nn.ReLU(), nn.Conv2d(hidden, 9 * upscale**2, 1))

    def forward(self, first: Tensor, second: Tensor, context: Tensor, size: tuple[int, int]) -> list[Tensor]:
        """Return the flow (B, 2, H, W) after the first guess and after each iteration, pixels, u right and v down.

        `first`, `second` and `context` are (B, dim, h, w) and cover inputs of `size` (H, W) pixels.
        """
        correlation = CorrelationPyramid(first, second, self.levels)
        state, told = self.begin(context).chunk(2, dim=1)
        state, told = torch.tanh(state), torch.relu(told)
        flow = self.to_flow(state).float()
        flows = [self._in_pixels(flow, state, size)]
        rest = _places(first)
        for _ in range(self.iterations):
            flow = flow.detach()  # each step learns to improve what it is given
            seen = self.motion(correlation.around(rest + flow, self.radius).to(state.dtype), flow.to(state.dtype))
            state = self.unit(state, torch.cat([told, seen], dim=1))
            flow = flow + self.to_flow(state).float()
            flows.append(self._in_pixels(flow, state, size))
        return flows

    def _in_pixels(self, flow: Tensor, state: Tensor, size: tuple[int, int]) -> Tensor:
        """Return `flow` (B, 2, h, w) in cells as pixels of an input of `size`."""
        batch, _, height, width = flow.shape
        times = self.upscale
        blend = self.to_blend(state).float().view(batch, 1, 9, times, times, height, width).softmax(dim=2)
        # Beyond the edge there is no flow to blend: the nearest is repeated.
        around = functional.unfold(functional.pad(flow, (1, 1, 1, 1), mode="replicate"), 3)
        fine = (blend * around.view(batch, 2, 9, 1, 1, height, width)).sum(dim=2)
        fine = fine.permute(0, 1, 4, 2, 5, 3).reshape(batch, 2, height * times, width * times)
        if fine.shape[2:] != size:
            fine = functional.interpolate(fine, size, mode="bilinear", align_corners=False)
        return fine * fine.new_tensor([size[1] / width, size[0] / height]).view(1, 2, 1, 1)


class _MotionEncoder(nn.Module):
    """Correlations and flow to `hidden` channels, the flow itself the last two."""

    def __init__(self, num_scores: int, hidden: int) -> None:
        super().__init__()
        self.scores = nn.Sequential(nn.Conv2d(num_scores, hidden, 1), nn.ReLU(), _conv3(hidden, hidden), nn.ReLU())
        self.flow = nn.Sequential(nn.Conv2d(2, hidden // 2, 7, padding=3), nn.ReLU())
        self.joined = nn.Sequential(_conv3(hidden + hidden // 2, hidden - 2), nn.ReLU())

    def forward(self, scores: Tensor, flow: Tensor) -> Tensor:
        joined = self.joined(torch.cat([self.scores(scores), self.flow(flow)], dim=1))
        return torch.cat([joined, flow], dim=1)


class _SeparableGRU(nn.Module):
    """A recurrent unit of convolutions, along rows and then along columns (RAFT, section 3.3)."""

    def __init__(self, hidden: int, in_dim: int) -> None:
        super().__init__()
        self.gates = nn.ModuleList(_along(hidden + in_dim, 2 * hidden, rows) for rows in (True, False))
        self.proposals = nn.ModuleList(_along(hidden + in_dim, hidden, rows) for rows in (True, False))

    def forward(self, state: Tensor, x: Tensor) -> Tensor:
        """Return the next state (B, hidden, h, w)."""
        for gates, proposal in zip(self.gates, self.proposals, strict=True):
            update, reset = torch.sigmoid(gates(torch.cat([state, x], dim=1))).chunk(2, dim=1)
            proposed = torch.tanh(proposal(torch.cat([reset * state, x], dim=1)))
            state = (1 - update) * state + update * proposed
        return state


def _conv3(in_dim: int, out_dim: int) -> nn.Conv2d:
    return nn.Conv2d(in_dim, out_dim, 3, padding=1)


def _along(in_dim: int, out_dim: int, rows: bool) -> nn.Conv2d:
    kernel, padding = ((1, 5), (0, 2)) if rows else ((5, 1), (2, 0))
    return nn.Conv2d(in_dim, out_dim, kernel, padding=padding)


def _places(maps: Tensor) -> Tensor:
    """Return x and y of every cell of `maps` (B, D, h, w), (1, 2, h, w)."""
    rows, columns = (torch.arange(side, device=maps.device, dtype=torch.float32) for side in maps.shape[2:])
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"))[None]
