from __future__ import annotations

from itertools import islice
from typing import ClassVar

import numpy as np
import pytest
import torch

from eventfm.data.loader import Loader, evaluation_batches
from eventfm.data.transforms import AugmentConfig, draw
from eventfm.events import Sensor

SENSOR = Sensor(128, 96)


class Places:
    """Samples that write their geometry."""

    shapes: ClassVar = {"view": (5,)}
    problems: ClassVar = {}

    def __len__(self) -> int:
        return 50

    def fill(self, index: int, rng: np.random.Generator | None, out: dict) -> None:
        assert rng is not None
        out["view"][...] = draw(SENSOR, (64, 64), AugmentConfig(crop_min=0.5), rng).view(SENSOR)


class Noisy:
    """Samples that write their number and one augmentation draw."""

    shapes: ClassVar = {"input": (2,), "label": ()}
    problems: ClassVar = {}

    def __len__(self) -> int:
        return 11

    def fill(self, index: int, rng: np.random.Generator | None, out: dict) -> None:
        out["input"][0] = index
        out["input"][1] = -1 if rng is None else rng.random()
        out["label"][...] = index % 3


def batches(start: int, count: int, **settings: int) -> list[dict]:
    source = Loader(Noisy(), **{"batch_size": 4, "seed": 5, **settings})(start)
    found = list(islice(source, count))
    source.close()
    return found


def joined(found: list[dict], name: str) -> torch.Tensor:
    return torch.cat([batch[name] for batch in found])


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_workers_and_start_change_nothing(num_workers: int) -> None:
    reference = batches(0, 6)
    for start in (0, 1, 4):
        for expected, got in zip(reference[start:], batches(start, 6 - start, num_workers=num_workers), strict=True):
            assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_ranks_share_one_stream() -> None:
    alone = batches(0, 3)
    pair = [batches(0, 3, batch_size=2, rank=rank, world_size=2) for rank in (0, 1)]
    for step in range(3):
        for name in alone[step]:
            torch.testing.assert_close(joined([pair[0][step], pair[1][step]], name), alone[step][name])


def test_augmentation_depends_on_seed_pass_and_sample_only() -> None:
    found = batches(0, 11)  # 44 draws: every sample in 4 passes
    draws = joined(found, "input")
    assert len(torch.unique(draws[:, 1])) == 44
    assert len(torch.unique(joined(found, "key"))) == 44
    torch.testing.assert_close(joined(found, "label"), joined(found, "index") % 3)
    other = batches(0, 11, batch_size=2)
    torch.testing.assert_close(joined(other, "input"), draws[:22])
    assert not torch.equal(joined(batches(0, 2, seed=6), "input"), draws[:8])


def test_evaluation_sees_everything_once_without_augmentation() -> None:
    found = list(evaluation_batches(Noisy(), 4))
    assert [len(batch["key"]) for batch in found] == [4, 4, 3]
    assert joined(found, "index").tolist() == list(range(11))
    assert (joined(found, "input")[:, 1] == -1).all()
    again = list(evaluation_batches(Noisy(), 3, [10, 2]))
    assert joined(again, "index").tolist() == [10, 2]
    assert joined(again, "key")[0] == joined(found, "key")[10]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_draws_never_run_in_a_cycle(num_workers: int) -> None:
    """Crops, flips and places are drawn anew for every sample of every pass: as many differ as chance allows.

    A seed that is drawn from the generator that it then seeds has at most 1000 successors, and soon a few dozen.
    """
    samples = Places()
    source = Loader(samples, 50, seed=1, num_workers=num_workers)(0)
    drawn = torch.cat([batch["view"] for batch in islice(source, 60)]).numpy()
    source.close()
    assert len(drawn) == 3000
    assert abs(drawn[:, 4].mean() - 0.5) < 5 * 0.5 / np.sqrt(3000)
    assert len(np.unique(drawn, axis=0)) > 0.97 * chance(3000)
    of_one = drawn[torch.cat([b["index"] for b in islice(Loader(samples, 50, seed=1)(0), 60)]).numpy() == 3]
    assert len(of_one) == 60
    assert len(np.unique(of_one, axis=0)) >= 57
    other = torch.cat([batch["view"] for batch in islice(Loader(samples, 50, seed=2)(0), 60)]).numpy()
    assert len(np.unique(np.concatenate([drawn, other]), axis=0)) > 0.97 * chance(6000)


def chance(count: int) -> int:
    """Return how many of `count` independent draws differ."""
    rng = np.random.default_rng(0)
    draws = [draw(SENSOR, (64, 64), AugmentConfig(crop_min=0.5), rng).view(SENSOR) for _ in range(count)]
    return len(np.unique(draws, axis=0))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_errors_of_samples_arrive(num_workers: int) -> None:
    class Broken(Noisy):
        def fill(self, index: int, rng: np.random.Generator | None, out: dict) -> None:
            raise ValueError("a damaged file")

    with pytest.raises(ValueError, match="a damaged file"):
        next(Loader(Broken(), 4, 0, num_workers=num_workers)(0))
