"""Blended samples: both halves of a pair in inputs and targets alike."""

from __future__ import annotations

import torch

from eventfm.tasks.mixing import mixup


def test_inputs_and_targets_are_blended_alike() -> None:
    torch.manual_seed(0)
    size = 64
    x = torch.eye(size).view(size, 1, 8, 8)
    mixed, targets = mixup(x, torch.eye(size), 0.8)
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
        _, mixed = mixup(x, targets, alpha)
        return (mixed.max(1).values < 0.75).float().mean().item()

    assert middle(0.1) < 0.25 < 0.4 < middle(1.0) < 0.6 < middle(8.0)


def test_the_generator_of_the_run_decides() -> None:
    def drawn(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return mixup(torch.arange(16.0)[:, None], torch.eye(16), 1.0)[0]

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
