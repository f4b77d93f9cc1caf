from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfm.data.loader import evaluation_batches
from eventfm.data.mixture import MixedSamples
from eventfm.data.sampler import Draw
from eventfm.data.table import CollectionError


@dataclass(frozen=True)
class Numbers:
    """Samples that write which part they are of and which number they have."""

    part: int
    count: int
    width: int = 2
    labelled: bool = False
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"input": (self.width,)} | ({"label": ()} if self.labelled else {})

    def __len__(self) -> int:
        return self.count

    def fill(self, index: int, rng: np.random.Generator | None, out: dict) -> None:
        assert 0 <= index < self.count
        out["input"][...] = self.part, index
        if "label" in out:
            out["label"][...] = 1


def mixed(sizes: list[int], weights: list[float] | None = None) -> MixedSamples:
    parts = tuple(Numbers(number, size) for number, size in enumerate(sizes))
    return MixedSamples(parts, None if weights is None else tuple(weights))


def part_of(sizes: list[int], index: int) -> int:
    return next(number for number in range(len(sizes)) if index < sum(sizes[: number + 1]))


PART = st.tuples(st.integers(1, 40), st.floats(0.01, 100))
MIXTURES = st.lists(PART, min_size=1, max_size=6)
SEEDS = st.integers(0, 2**62)


@given(MIXTURES)
def test_quotas_are_the_shares(parts: list[tuple[int, float]]) -> None:
    sizes, weights = [list(column) for column in zip(*parts, strict=True)]
    quotas = mixed(sizes, weights).quotas
    assert sum(quotas) == sum(sizes)
    assert min(quotas) >= 1
    exact = [weight / sum(weights) * sum(sizes) for weight in weights]
    raised = sum(max(0, 1 - share) for share in exact)  # what parts of less than one draw take from the others
    assert all(abs(quota - share) < 1 + raised for quota, share in zip(quotas, exact, strict=True))


def test_quotas_by_hand() -> None:
    assert mixed([100, 50, 50], [2, 1, 1]).quotas == (100, 50, 50)
    assert mixed([100, 50, 50], [1, 1, 2]).quotas == (50, 50, 100)
    assert mixed([7, 3]).quotas == (7, 3)
    assert mixed([6, 4], [1, 1e-6]).quotas == (9, 1)
    assert mixed([1, 1, 1], [1e6, 1, 1]).quotas == (1, 1, 1)
    assert mixed([10], [0.1]).quotas == (10,)


@given(MIXTURES, SEEDS, st.integers(0, 3))
def test_every_stretch_from_the_start_of_an_epoch_has_the_shares(
    parts: list[tuple[int, float]], seed: int, epoch: int
) -> None:
    sizes, weights = [list(column) for column in zip(*parts, strict=True)]
    mixture = mixed(sizes, weights)
    total = len(mixture)
    draws = mixture.draws(seed, epoch * total, (epoch + 1) * total)
    counts = np.cumsum(np.eye(len(sizes))[[part_of(sizes, draw.index) for draw in draws]], axis=0)
    assert tuple(counts[-1]) == mixture.quotas
    shares = np.array(mixture.quotas) / total
    off = np.abs(counts - np.arange(1, total + 1)[:, None] * shares)
    assert (off < 1 + len(sizes) * shares + 1e-9).all()


@given(MIXTURES, SEEDS)
def test_no_sample_comes_again_before_all_others_of_its_part(parts: list[tuple[int, float]], seed: int) -> None:
    """Over epochs and within them: each part's draws are whole permutations, one after another."""
    sizes, weights = [list(column) for column in zip(*parts, strict=True)]
    mixture = mixed(sizes, weights)
    draws = mixture.draws(seed, 0, 3 * len(mixture))
    for number, size in enumerate(sizes):
        own = [draw for draw in draws if part_of(sizes, draw.index) == number]
        assert len(own) == 3 * mixture.quotas[number]
        for start in range(0, len(own) - size + 1, size):
            assert len({draw.index for draw in own[start : start + size]}) == size
        rest = own[len(own) // size * size :]
        assert len({draw.index for draw in rest}) == len(rest)
        assert [draw.epoch for draw in own] == [place // size for place in range(len(own))]
    assert len(set(draws)) == len(draws)  # no two draws have the same augmentation


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), SEEDS)
def test_without_weights_an_epoch_is_every_sample_once(sizes: list[int], seed: int) -> None:
    mixture = mixed(sizes)
    for epoch in range(3):
        draws = mixture.draws(seed, epoch * len(mixture), (epoch + 1) * len(mixture))
        assert sorted(draws) == [Draw(epoch, index) for index in range(sum(sizes))]


@given(MIXTURES, SEEDS, st.integers(0, 300), st.integers(0, 100))
def test_any_stretch_is_the_same_stream(parts: list[tuple[int, float]], seed: int, start: int, length: int) -> None:
    sizes, weights = [list(column) for column in zip(*parts, strict=True)]
    whole = mixed(sizes, weights).draws(seed, 0, start + length)
    assert len(whole) == start + length
    assert mixed(sizes, weights).draws(seed, start, start + length) == whole[start:]


def test_seeds_epochs_and_parts_differ() -> None:
    mixture = mixed([50, 50], [1, 1])
    one, other = mixture.draws(0, 0, 200), mixture.draws(1, 0, 200)
    assert one != other
    assert [draw.index for draw in one[:100]] != [draw.index for draw in one[100:]]
    turns = [[draw.index < 50 for draw in one[start : start + 100]] for start in (0, 100)]
    assert turns[0] != turns[1]
    first, second = (
        [draw.index % 50 for draw in one[:100] if (draw.index < 50) == is_first] for is_first in (True, False)
    )
    assert first != second


def test_a_long_run_has_the_shares_and_uses_all_samples() -> None:
    mixture = mixed([1000, 10, 200], [1, 1, 2])
    draws = mixture.draws(3, 0, 10 * len(mixture))
    counts = Counter(part_of([1000, 10, 200], draw.index) for draw in draws)
    assert abs(counts[0] / len(draws) - 0.25) < 1e-3
    assert abs(counts[2] / len(draws) - 0.5) < 1e-3
    times = Counter(draw.index for draw in draws)
    assert len(times) == 1210
    for part in (range(1000), range(1000, 1010), range(1010, 1210)):
        assert max(times[index] for index in part) - min(times[index] for index in part) <= 1


@given(st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_samples_are_numbered_part_after_part(sizes: list[int]) -> None:
    mixture = mixed(sizes)
    (batch,) = evaluation_batches(mixture, len(mixture))
    expected = [(part, index) for part, size in enumerate(sizes) for index in range(size)]
    assert [tuple(row) for row in batch["input"].int().tolist()] == expected


def test_problems_name_the_part() -> None:
    parts = Numbers(0, 3), Numbers(1, 3)
    mixture = MixedSamples(parts, names=("dsec", "m3ed"))
    assert mixture.problems == {}
    parts[1].problems["frame 3"] = "is cut off"
    assert mixture.problems == {"m3ed: frame 3": "is cut off"}
    assert MixedSamples(parts).problems == {"part 1: frame 3": "is cut off"}


def test_labels_that_some_have_are_left_out() -> None:
    both = MixedSamples((Numbers(0, 2, labelled=True), Numbers(1, 2)))
    assert both.shapes == {"input": (2,)}
    assert "label" not in next(evaluation_batches(both, 4))
    assert MixedSamples((Numbers(0, 2, labelled=True), Numbers(1, 2, labelled=True))).shapes["label"] == ()


@pytest.mark.parametrize(
    ("parts", "weights", "message"),
    [
        ((), None, "expected parts with samples"),
        ((Numbers(0, 1), Numbers(1, 0)), None, r"expected parts with samples to mix, got \[1, 0\] samples"),
        ((Numbers(0, 1),), (1.0, 2.0), r"expected a weight above 0 for each of 1 parts, got \[1\.0, 2\.0\]"),
        ((Numbers(0, 1),), (0.0,), "expected a weight above 0"),
        ((Numbers(0, 1),), (float("nan"),), "expected a weight above 0"),
        ((Numbers(0, 1),), (float("inf"),), "expected a weight above 0"),
        ((Numbers(0, 1), Numbers(1, 1, width=3)), None, r"cannot mix part 0 and part 1: .*\(2,\).*\(3,\)"),
    ],
)
def test_what_cannot_be_mixed(parts: tuple, weights: tuple | None, message: str) -> None:
    with pytest.raises(CollectionError, match=message):
        MixedSamples(parts, weights)
