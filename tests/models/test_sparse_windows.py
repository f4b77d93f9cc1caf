"""Windows against a count of cells one by one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.models.masking import cells_of_units
from eventfm.models.sparse_windows import arrange_windows
from eventfm.models.window_attention import WindowAttention


def who_sees_whom(cells, grid, window, shift):
    """Return, for each slot pair that may meet, (token or None for padding) of each, and the offset of their cells.

    Cut lines of the original: the padded grid is rolled, cut from the top left, and a pair meets only if both or none
    was rolled round the lower border, and the right one.
    """
    sides = [min(window, side) for side in grid]
    full = [-(-side // step) * step for side, step in zip(grid, sides, strict=True)]
    token = {cell: number for number, cell in enumerate(cells)}
    everyone = [
        (r, c)
        for r in range(full[0])
        for c in range(full[1])
        if r >= grid[0] or c >= grid[1] or r * grid[1] + c in token
    ]

    def name(place):
        r, c = place
        return None if r >= grid[0] or c >= grid[1] else token[r * grid[1] + c]

    def home(place):
        rolled = [(at - shift) % side for at, side in zip(place, full, strict=True)]
        return [(at // step, at >= side - shift) for at, step, side in zip(rolled, sides, full, strict=True)]

    pairs = [(p, q) for p in everyone for q in everyone if home(p) == home(q)]
    return sorted(
        (str(name(p)), str(name(q)), p[0] - q[0], p[1] - q[1]) for p, q in pairs if (name(p), name(q)) != (None, None)
    )


def pairs_of(windows, sample, num_tokens, window):
    """Return the same, read off the windows that were arranged."""
    batch, count, size = windows.source.shape
    hidden = torch.zeros(1, 1, 1, 1, dtype=torch.bool) if windows.hidden is None else windows.hidden
    hidden = hidden.expand(batch, count, size, size)[sample]
    place = windows.place.view(batch, num_tokens) - sample * count * size
    filled = {slot: token for token, slot in enumerate(place[sample].tolist())}
    found = []
    for w in range(count):
        names = {}
        for s, row in enumerate(windows.source[sample, w].tolist()):
            if row == batch * num_tokens:
                names[s] = None
            elif w * size + s in filled:
                names[s] = filled[w * size + s]
                assert row == sample * num_tokens + names[s]
            else:
                assert hidden[w, :, s].all()
                assert row // num_tokens == sample
        for i, query in names.items():
            for j, key in names.items():
                if not hidden[w, i, j] and (query, key) != (None, None):
                    rows, cols = divmod(int(windows.relative[i, j]), 2 * window - 1)
                    found.append((str(query), str(key), rows - window + 1, cols - window + 1))
    return sorted(found)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_pairs_that_meet_and_their_offsets(data):
    window = data.draw(st.integers(2, 4))
    grid = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    shift = data.draw(st.sampled_from([0, window // 2])) if min(grid) > window else 0
    num_cells = grid[0] * grid[1]
    num_tokens = data.draw(st.integers(1, num_cells))
    orders = st.permutations(range(num_cells))
    cells = torch.tensor([data.draw(orders)[:num_tokens] for _ in range(2)])
    windows = arrange_windows(cells, grid, window, shift)
    for sample in range(2):
        expected = who_sees_whom(cells[sample].tolist(), grid, window, shift)
        assert pairs_of(windows, sample, num_tokens, window) == expected


def test_whole_windows_without_a_shift_need_no_mask():
    cells = torch.arange(16).expand(2, -1)
    assert arrange_windows(cells, (4, 4), 2, 0).hidden is None
    assert arrange_windows(cells, (4, 4), 2, 1).hidden.shape[0] == 1  # one for all samples
    assert arrange_windows(cells[:, 1:], (4, 4), 2, 0).hidden.shape == (2, 4, 4, 4)


def test_cells_of_units_come_in_the_order_of_keep_then_raster():
    cells = cells_of_units(torch.tensor([[3, 0], [1, 2]]), (4, 4), 2)
    assert cells.tolist() == [[10, 11, 14, 15, 0, 1, 4, 5], [2, 3, 6, 7, 8, 9, 12, 13]]
    assert cells_of_units(torch.tensor([[4]]), (2, 3), 1).tolist() == [[4]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_hidden_keys_out_and_empty_windows_harmless(dtype):
    attention = WindowAttention(8, 2, 4)
    windows = arrange_windows(torch.tensor([[0, 10, 17]]), (8, 8), 4, 0)  # all in one of four windows
    x = torch.randn(1, 3, 8)
    with torch.autocast("cpu", dtype):
        half = attention(x, windows)
    assert half.dtype == dtype
    torch.testing.assert_close(half.float(), attention(x, windows), rtol=0.05, atol=0.05)
    half.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in attention.parameters())


def test_the_bias_table_is_read_by_query_less_key():
    attention = WindowAttention(2, 1, 3)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.zero_()
        attention.qkv.weight[4:] = torch.eye(2)  # values are the tokens, queries and keys nothing
        attention.proj.weight.copy_(torch.eye(2))
        attention.position_bias[(0 - 1 + 2) * 5 + (0 - 2 + 2)] = 50.0  # from cell (0, 0) to cell (1, 2)
    windows = arrange_windows(torch.tensor([[5, 0, 8]]), (3, 3), 3, 0)
    x = torch.tensor([[[1.0, 2], [3, 4], [5, 6]]])
    with torch.no_grad():
        found = attention(x, windows)[0]
    assert found[1].tolist() == pytest.approx([1, 2])  # token 1 stands at (0, 0), token 0 at (1, 2)
    assert found[0].tolist() == pytest.approx([3, 4])  # all three alike
