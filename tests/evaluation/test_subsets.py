from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.evaluation.subsets import digest, k_shot, share_of, stride_of

NAMES = [f"sequence_{i // 50}/{i % 50:06d}" for i in range(1000)]


def test_shares_have_their_size_and_are_nested() -> None:
    lists = [share_of(NAMES, share) for share in (0.01, 0.05, 0.1, 0.2, 1.0)]
    assert [len(positions) for positions in lists] == [10, 50, 100, 200, 1000]
    for small, large in itertools.pairwise(lists):
        assert set(small) < set(large)
        assert small == sorted(small)


def test_the_list_is_fixed() -> None:
    """The same on any machine and in any version: these lists are published."""
    order = sorted(range(1000), key=lambda i: hashlib.sha256(f"0/{NAMES[i]}".encode()).hexdigest())
    assert share_of(NAMES, 0.01) == sorted(order[:10])
    assert digest(NAMES[i] for i in share_of(NAMES, 0.01)) == "51855700fe39a098"


@settings(max_examples=30, deadline=None)
@given(
    names=st.sets(st.integers(0, 999), min_size=1, max_size=40),
    share=st.floats(0.001, 1),
    larger=st.floats(0.001, 1),
    seed=st.integers(0, 5),
)
def test_order_does_not_matter(names: set[int], share: float, larger: float, seed: int) -> None:
    first = [str(name) for name in sorted(names)]
    second = sorted(first, key=lambda name: name[::-1])
    chosen = {first[i] for i in share_of(first, share, seed)}
    assert chosen == {second[i] for i in share_of(second, share, seed)}
    assert len(chosen) == max(1, int(np.floor(share * len(names) + 0.5)))
    if larger >= share:
        assert chosen <= {first[i] for i in share_of(first, larger, seed)}


def test_seeds_differ_and_samples_are_chosen_evenly() -> None:
    """Every name is in about a fifth of the lists of 100 seeds; one sequence is not preferred."""
    times = np.zeros(1000)
    for seed in range(100):
        times[share_of(NAMES, 0.2, seed)] += 1
    assert abs(times.std() - (100 * 0.2 * 0.8) ** 0.5) < 0.4
    assert times.reshape(20, 50).mean(1) == pytest.approx(20, abs=2.5)


@pytest.mark.parametrize("share", [0, -0.1, 5, float("nan")])
def test_shares_that_are_none(share: float) -> None:
    with pytest.raises(ValueError, match=r"such as 0.05 for 5 %, got"):
        share_of(NAMES, share)


def test_names_must_tell_samples_apart() -> None:
    with pytest.raises(ValueError, match="'b' comes twice"):
        share_of(["a", "b", "c", "b"], 0.5)
    with pytest.raises(ValueError, match="'b' comes twice"):
        k_shot([0, 0, 0, 0], ["a", "b", "c", "b"], 1)
    with pytest.raises(ValueError, match="got none"):
        share_of([], 0.5)


def test_shots() -> None:
    labels = [i % 7 for i in range(1000)]
    few, more = k_shot(labels, NAMES, 2), k_shot(labels, NAMES, 5)
    assert sorted(labels[i] for i in few) == sorted(list(range(7)) * 2)
    assert sorted(labels[i] for i in more) == sorted(list(range(7)) * 5)
    assert set(few) < set(more)
    assert few == sorted(few)
    assert few != k_shot(labels, NAMES, 2, seed=1)
    back = k_shot(labels[::-1], NAMES[::-1], 2)
    assert {NAMES[::-1][i] for i in back} == {NAMES[i] for i in few}


def test_too_few_for_the_shots_names_the_classes() -> None:
    labels = ["cat", "dog", "dog", "owl", "dog"]
    with pytest.raises(
        ValueError, match="expected 2 or more samples of each class, but class cat has 1, class owl has 1"
    ):
        k_shot(labels, list("abcde"), 2)
    with pytest.raises(ValueError, match="one shot or more, got 0"):
        k_shot(labels, list("abcde"), 0)
    with pytest.raises(ValueError, match="got 5 for 4"):
        k_shot(labels, list("abcd"), 1)
    with pytest.raises(ValueError, match="got 0 for 0"):
        k_shot([], [], 1)


def test_strides() -> None:
    assert stride_of(45, 20) == [0, 20, 40]
    assert stride_of(3, 1) == [0, 1, 2]
    assert stride_of(0, 5) == []
    assert len(stride_of(7945, 100)) == 80
    with pytest.raises(ValueError, match="stride of 1 or more"):
        stride_of(5, 0)


def test_digests_tell_lists_apart_but_not_orders() -> None:
    assert digest(["a", "b"]) == digest(["b", "a"])
    assert len({digest(names) for names in (["a", "b"], ["ab"], ["a"], [], ["a", "b", "b"], ["", "ab"])}) == 6
