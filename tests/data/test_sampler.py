from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from eventfm.data.sampler import Draw, rank_slice, stream


@given(st.integers(1, 30), st.integers(0, 2**40), st.integers(0, 200), st.integers(0, 60))
def test_any_stretch_is_the_same_stream(num_samples: int, seed: int, start: int, length: int) -> None:
    whole = stream(seed, num_samples, 0, start + length)
    assert stream(seed, num_samples, start, start + length) == whole[start:]


@given(st.integers(1, 30), st.integers(0, 2**40))
def test_each_pass_holds_every_sample_once(num_samples: int, seed: int) -> None:
    draws = stream(seed, num_samples, 0, 3 * num_samples)
    for epoch in range(3):
        part = draws[epoch * num_samples : (epoch + 1) * num_samples]
        assert sorted(part) == [Draw(epoch, index) for index in range(num_samples)]


def test_passes_and_seeds_differ() -> None:
    one = [draw.index for draw in stream(0, 50, 0, 100)]
    assert one[:50] != one[50:]
    assert one[:50] != [draw.index for draw in stream(1, 50, 0, 50)]


@given(st.integers(0, 50), st.integers(1, 8), st.sampled_from([1, 2, 4]))
def test_ranks_together_read_what_one_rank_reads(batch: int, size: int, world: int) -> None:
    joined = [rank_slice(batch, size, rank, world) for rank in range(world)]
    assert joined[0][0] == rank_slice(batch, size * world, 0, 1)[0]
    assert joined[-1][1] == rank_slice(batch, size * world, 0, 1)[1]
    assert all(a[1] == b[0] for a, b in pairwise(joined))
