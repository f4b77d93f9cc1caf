"""The correlation of two maps, its look-up, and a decoder that finds how far a picture moved."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from eventfm.models.decoders.correlation import CorrelationPyramid
from eventfm.models.decoders.raft import RAFTDecoder


def looked_up(level: np.ndarray, x: float, y: float) -> float:
    """Return the bilinear value of `level` (h, w) at (x, y), zero beyond its edge: a scalar oracle."""
    total = 0.0
    for row in (int(np.floor(y)), int(np.floor(y)) + 1):
        for column in (int(np.floor(x)), int(np.floor(x)) + 1):
            if 0 <= row < level.shape[0] and 0 <= column < level.shape[1]:
                total += level[row, column] * (1 - abs(x - column)) * (1 - abs(y - row))
    return total


@pytest.mark.parametrize("size", [(4, 6), (3, 5), (2, 2), (1, 3)])
def test_the_correlation_is_looked_up_at_every_level(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    first, second = torch.randn(2, 5, *size), torch.randn(2, 5, *size)
    levels, radius = 2, 1
    places = torch.rand(2, 2, *size) * torch.tensor([size[1], size[0]]).view(1, 2, 1, 1)
    found = CorrelationPyramid(first, second, levels).around(places, radius)
    assert found.shape == (2, levels * 9, *size)
    for batch, row, column in ((0, 0, 0), (1, size[0] - 1, size[1] - 1), (1, size[0] // 2, size[1] // 2)):
        fits = (first[batch, :, row, column, None, None] * second[batch]).sum(0).numpy() / 5**0.5
        coarse = functional.avg_pool2d(torch.from_numpy(fits)[None], 2, ceil_mode=True)[0].numpy()
        x, y = places[batch, :, row, column].tolist()
        values = [
            looked_up(level, (x + 0.5) / scale - 0.5 + dx, (y + 0.5) / scale - 0.5 + dy)
            for level, scale in ((fits, 1), (coarse, 2))
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
        ]
        np.testing.assert_allclose(found[batch, :, row, column].numpy(), values, atol=1e-5)


def small(**changes: int) -> RAFTDecoder:
    torch.manual_seed(0)
    return RAFTDecoder(**{"dim": 6, "hidden": 12, "levels": 2, "radius": 2, "iterations": 3, "upscale": 4, **changes})


@pytest.mark.parametrize(("grid", "size"), [((3, 4), (12, 16)), ((2, 2), (16, 16)), ((5, 3), (11, 7))])
def test_any_grid_gives_flow_of_the_input_and_every_weight_a_gradient(
    grid: tuple[int, int], size: tuple[int, int]
) -> None:
    decoder = small()
    first, second, context = torch.randn(3, 2, 6, *grid)
    flows = decoder(first, second, context, size)
    assert [tuple(flow.shape) for flow in flows] == [(2, 2, *size)] * 4
    torch.stack([flow.abs().mean() for flow in flows]).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in decoder.parameters())


def test_samples_do_not_know_of_each_other() -> None:
    decoder = small().eval()
    first, second, context = torch.randn(3, 3, 6, 4, 4)
    whole = decoder(first, second, context, (16, 16))[-1]
    alone = decoder(first[1:2], second[1:2], context[1:2], (16, 16))[-1]
    torch.testing.assert_close(whole[1:2], alone, atol=1e-5, rtol=1e-4)


def test_flow_in_cells_becomes_flow_in_pixels() -> None:
    decoder = small(upscale=2)
    cells = torch.tensor([1.5, -0.5]).view(1, 2, 1, 1).expand(1, 2, 3, 5)
    pixels = decoder._in_pixels(cells, torch.randn(1, 12, 3, 5), (24, 80))
    torch.testing.assert_close(pixels[:, 0], torch.full((1, 24, 80), 1.5 * 16))
    torch.testing.assert_close(pixels[:, 1], torch.full((1, 24, 80), -0.5 * 8))


@pytest.mark.parametrize(("neighbour", "dy", "dx"), [(4, 0, 0), (5, 0, 1), (1, -1, 0)])
def test_every_pixel_is_blended_from_around_its_own_cell(neighbour: int, dy: int, dx: int) -> None:
    decoder, cells = small(upscale=2), torch.randn(2, 2, 3, 5)
    with torch.no_grad():
        decoder.to_blend[-1].weight.zero_()
        decoder.to_blend[-1].bias.view(9, 4)[neighbour] = 1e4  # that neighbour and no other
    pixels = decoder._in_pixels(cells, torch.randn(2, 12, 3, 5), (6, 10))
    rows, columns = (torch.arange(3) + dy).clamp(0, 2), (torch.arange(5) + dx).clamp(0, 4)
    expected = cells[:, :, rows][:, :, :, columns].repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(pixels, 2 * expected)


def test_parts_of_a_cell_are_told_apart() -> None:
    decoder, cells = small(upscale=2), torch.zeros(1, 2, 3, 3)
    cells[:, :, 1, 2] = 1.0  # to the right of the middle cell
    with torch.no_grad():
        decoder.to_blend[-1].weight.zero_()
        bias = decoder.to_blend[-1].bias.view(9, 2, 2)
        bias.zero_()
        bias[4] = 1e4
        bias[5, 0, 1] = 2e4  # the upper right part looks to the right
    pixels = decoder._in_pixels(cells, torch.randn(1, 12, 3, 3), (6, 6))
    assert pixels[0, 0, 2:4, 2:4].tolist() == [[0.0, 2.0], [0.0, 0.0]]


def test_autocast_leaves_the_correlation_exact() -> None:
    maps = torch.randn(2, 1, 64, 3, 3)
    exact = CorrelationPyramid(maps[0], maps[1], 2).levels
    with torch.autocast("cpu", torch.bfloat16):
        found = CorrelationPyramid(maps[0], maps[1], 2).levels
    assert all(torch.equal(a, b) for a, b in zip(exact, found, strict=True))


def test_it_learns_how_far_textures_moved() -> None:
    decoder = small(dim=16, hidden=16, levels=1, radius=2, iterations=2, upscale=2)
    optimizer = torch.optim.Adam(decoder.parameters(), 3e-3)

    def errors(seed: int) -> torch.Tensor:
        draw = torch.Generator().manual_seed(seed)
        texture = 2 * torch.randn(8, 16, 6, 6, generator=draw)
        shifts = torch.randint(-2, 3, (8, 2), generator=draw)  # x, y in cells of two pixels
        moved = torch.stack([t.roll((int(y), int(x)), (1, 2)) for t, (x, y) in zip(texture, shifts, strict=True)])
        flows = decoder(texture, moved, torch.zeros_like(texture), (12, 12))
        return torch.stack([(flow - 2.0 * shifts[:, :, None, None]).abs().mean() for flow in flows])

    before = errors(10_000).detach()
    for step in range(150):
        optimizer.zero_grad()
        (errors(step) * torch.tensor([0.64, 0.8, 1.0])).sum().backward()
        optimizer.step()
    after = errors(10_000).detach()
    assert after[-1] < 0.5 * before[-1], "on textures and motions that it has not seen"
    assert after[0] > after[1] > after[2], "the context knows nothing here; every look at the correlation helps"


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="upscale of at least 1"):
        RAFTDecoder(8, iterations=0)
    with pytest.raises(ValueError, match="hidden of at least 3"):
        RAFTDecoder(8, hidden=2)
