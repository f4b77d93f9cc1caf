import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eventfm.engine.monitor import dead_share, effective_rank, mean_cosine


def features(seed: int, n: int = 12, d: int = 5) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@given(st.integers(0, 10_000), st.integers(2, 20), st.integers(1, 9))
def test_effective_rank_equals_the_plain_formula(seed, n, d):
    x = features(seed, n, d).double().numpy()
    values = np.linalg.svd(x - x.mean(axis=0), compute_uv=False)
    share = values / values.sum()
    want = math.exp(-sum(p * math.log(p) for p in share if p > 1e-13))
    assert effective_rank(torch.from_numpy(x)).item() == pytest.approx(want, rel=1e-6)


def test_effective_rank_of_known_cases():
    square = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    assert effective_rank(square).item() == pytest.approx(2.0)
    assert effective_rank(torch.outer(torch.arange(6.0), torch.tensor([1.0, 2, 3]))).item() == pytest.approx(1.0)
    assert effective_rank(torch.full((7, 3), 0.1)).item() == 0.0
    assert effective_rank(torch.zeros(4, 3)).item() == 0.0


@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(1, 6))
def test_mean_cosine_equals_the_mean_over_pairs(seed, n, d):
    x = features(seed, n, d).double()
    pairs = [(x[i] @ x[j] / (x[i].norm() * x[j].norm())).item() for i in range(n) for j in range(n) if i != j]
    assert mean_cosine(x).item() == pytest.approx(sum(pairs) / len(pairs), abs=1e-9)


def test_mean_cosine_of_known_cases():
    assert mean_cosine(torch.ones(5, 3)).item() == pytest.approx(1.0)
    assert mean_cosine(torch.tensor([[1.0, 0], [0, 1]])).item() == pytest.approx(0.0)
    assert mean_cosine(torch.tensor([[1.0, 0], [1, 0], [0, 0]])).item() == pytest.approx(1 / 3)


def test_dead_share_counts_dimensions_that_do_not_vary():
    x = features(0, 50, 8)
    x[:, 3] = 7.0
    x[:, 5] = 0.0
    assert dead_share(x).item() == pytest.approx(2 / 8)
    assert dead_share(1e-6 * x).item() == pytest.approx(2 / 8)
    assert dead_share(torch.zeros(3, 4)).item() == 1.0


@pytest.mark.parametrize("figure", [effective_rank, mean_cosine, dead_share])
def test_shapes_that_make_no_sense_are_refused(figure):
    with pytest.raises(ValueError, match=r"\(N, D\)"):
        figure(torch.zeros(1, 4))
    with pytest.raises(ValueError, match=r"\(2, 3, 4\)"):
        figure(torch.zeros(2, 3, 4))
