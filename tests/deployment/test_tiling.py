from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from eventfm.deployment.tiling import tiled


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    tile=st.tuples(st.integers(1, 16), st.integers(1, 16)),
    share=st.floats(0, 0.99),
)
@settings(deadline=None, max_examples=60)
def test_a_pointwise_function_is_itself(size: tuple[int, int], tile: tuple[int, int], share: float) -> None:
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(size[0] * 41 + size[1]))
    overlap = tuple(int(share * side) for side in tile)
    seen = []

    def function(part: Tensor) -> Tensor:
        assert part.shape == (2, 3, *tile)
        seen.append(part)
        return torch.cat([part.sum(1, keepdim=True).sin(), part], 1)

    out = tiled(function, x, tile, overlap)
    expected = torch.cat([x.sum(1, keepdim=True).sin(), x], 1)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=0)
    # No more tiles than the overlap asks for: the last one of a row reaches its end, and one less would not.
    least = [-(-max(n - t, 0) // (t - o)) + 1 for n, t, o in zip(size, tile, overlap, strict=True)]
    assert len(seen) == least[0] * least[1]


def test_neighbours_share_what_was_asked_for() -> None:
    starts = []
    x = torch.arange(100.0).repeat(1, 1, 5, 1)

    def function(part: Tensor) -> Tensor:
        starts.append(int(part[0, 0, 0, 0]))
        return part

    tiled(function, x, (5, 32), (0, 10))
    assert starts[0] == 0
    assert starts[-1] == 68
    assert all(0 < after - before <= 22 for before, after in pairwise(starts))


def test_tiles_that_disagree_are_blended_without_a_seam() -> None:
    """Each tile answers with a number of its own: from one to the next there is a slope, and no step."""
    number = iter(range(100))
    out = tiled(lambda part: torch.full_like(part, float(next(number))), torch.zeros(1, 1, 16, 100), (16, 40), (0, 20))
    line = out[0, 0, 3]
    assert (out[0, 0] - line).abs().max() < 1e-6
    assert line[0] == 0
    assert line[-1] == 3
    steps = line.diff()
    assert (steps >= -1e-6).all()
    assert steps.max() < 0.15, "20 pixels for a step of 1"
    assert (line[:20].abs() < 1e-6).all(), "where there is one tile, there is its answer"


def test_a_convolution_is_itself_where_tiles_know_enough() -> None:
    """The border of a tile weighs little: a network that sees around is itself but for the borders."""
    torch.manual_seed(0)
    network = nn.Conv2d(2, 1, 5, padding=2)
    x = torch.randn(1, 2, 64, 64)
    whole = network(x).detach()
    apart, overlapping = (float((tiled(network, x, (32, 32), o) - whole).abs().mean()) for o in (0, 16))
    assert apart > 20 * overlapping


def test_a_constant_has_no_seams_and_no_gradients() -> None:
    weight = torch.ones((), requires_grad=True)
    out = tiled(lambda part: (part * 0 + 7) * weight, torch.rand(1, 1, 37, 53), (16, 16), 5)
    assert float((out - 7).abs().max()) < 1e-6
    assert not out.requires_grad


def test_half_precision_is_averaged_in_full() -> None:
    x = torch.rand(1, 1, 37, 53).half()
    out = tiled(lambda part: part, x, (16, 16), 9)
    assert out.dtype == torch.float16
    assert torch.equal(out, x)


def test_small_inputs_are_padded_with_nothing() -> None:
    x = torch.rand(1, 2, 5, 7)
    seen: list[Tensor] = []

    def function(part: Tensor) -> Tensor:
        seen.append(part)
        return part.half()

    out = tiled(function, x, (8, 16), 4)
    assert out.shape == x.shape
    assert out.dtype == torch.float16
    (part,) = seen
    assert part.shape == (1, 2, 8, 16)
    torch.testing.assert_close(part[:, :, :5, :7], x)
    assert part.sum() == part[:, :, :5, :7].sum()


def test_what_does_not_fit_is_refused() -> None:
    x = torch.zeros(1, 1, 20, 20)
    with pytest.raises(ValueError, match="less than the tile's 8 pixels, got 8"):
        tiled(lambda part: part, x, (16, 8), 8)
    with pytest.raises(ValueError, match="overlap from 0"):
        tiled(lambda part: part, x, (8, 8), -1)
    with pytest.raises(ValueError, match="not empty"):
        tiled(lambda part: part, torch.zeros(0, 1, 4, 4), (8, 8), 1)
    with pytest.raises(ValueError, match=r"\(B, K, 8, 8\).*\(1, 1, 4, 8\)"):
        tiled(lambda part: part[:, :, ::2], x, (8, 8), 2)
    with pytest.raises(ValueError, match="floats"):
        tiled(lambda part: part.long(), x, (8, 8), 2)
