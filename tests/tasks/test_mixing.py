"""Blended samples: both halves of a pair in inputs and targets alike."""

from __future__ import annotations

import pytest
import torch

from eventfm.tasks.mixing import mixup


def test_inputs_and_targets_are_blended_alike() -> None:
    torch.manual_seed(0)
    size = 64
    x = torch.eye(size).view(size, 1, 8, 8)
    mixed, targets = mixup(x, torch.eye(size), torch.ones(size, dtype=torch.bool), 0.8)
    torch.testing.assert_close(mixed.view(size, size), targets)
    torch.testing.assert_close(targets.sum(1), torch.ones(size))
    assert ((targets > 0).sum(1) <= 2).all()
    assert ((targets > 0).sum(1) == 2).float().mean() > 0.5
    own = targets.diagonal()
    assert own.std() > 0.1, "every sample has a share of its own"


def test_alpha_says_how_often_parts_are_about_equal() -> None:
    torch.manual_seed(0)
    x, targets = torch.zeros(4000, 1), torch.nn.functional.one_hot(torch.arange(4000) % 2000).float()

    def middle(alpha: float) -> float:
        _, mixed = mixup(x, targets, torch.ones(4000, dtype=torch.bool), alpha)
        return (mixed.max(1).values < 0.75).float().mean().item()

    assert middle(0.1) < 0.25 < 0.4 < middle(1.0) < 0.6 < middle(8.0)


@pytest.mark.parametrize("num_known", [0, 1, 2, 20, 40])
def test_samples_without_a_label_take_no_part(num_known: int) -> None:
    torch.manual_seed(2)
    size = 40
    known = torch.zeros(size, dtype=torch.bool)
    known[torch.randperm(size)[:num_known]] = True
    x, targets = torch.eye(size), torch.eye(size) * known[:, None]
    mixed, blended = mixup(x, targets, known, 1.0)
    torch.testing.assert_close(blended.sum(1), known.float(), msg="a label stays a whole one")
    torch.testing.assert_close(mixed[~known], x[~known])
    torch.testing.assert_close(mixed[known], blended[known], msg="no part of an input that has no label")
    used = (blended > 0).float()
    assert used.sum(1).max() <= 2
    if num_known >= 20:
        assert (used.sum(1) == 2).sum() > num_known / 2
        # A permutation: each sample is in its own blend, and in that of one partner at most.
        assert used.sum(0)[known].max() <= 2


def test_every_partner_comes_equally_often() -> None:
    torch.manual_seed(0)
    known = torch.tensor([True, False, True, True])
    counts = torch.zeros(4, 4)
    for _ in range(600):
        counts += mixup(torch.zeros(4, 1), torch.eye(4), known, 1.0)[1] > 0
    others = counts[known][:, known].masked_select(~torch.eye(3, dtype=torch.bool)) / 600
    torch.testing.assert_close(others, torch.full((6,), 1 / 3), rtol=0, atol=0.08)


def test_the_generator_of_the_run_decides() -> None:
    def drawn(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return mixup(torch.arange(16.0)[:, None], torch.eye(16), torch.ones(16, dtype=torch.bool), 1.0)[0]

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
