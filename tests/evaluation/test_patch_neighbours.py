"""Classes of pixels by the nearest patches, against the same in plain numpy, sample by sample."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from eventfm.evaluation import patch_neighbours
from eventfm.evaluation.patch_neighbours import Bank, PatchNeighbours, class_shares, fill_bank
from eventfm.evaluation.probes import ProbeError
from eventfm.evaluation.scoring import score_task
from eventfm.protocols import Features

PATCH = 4
CLASSES = 3


@dataclass
class Samples:
    """Samples whose arrays are given."""

    arrays: dict[str, np.ndarray]
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: values.shape[1:] for name, values in self.arrays.items()}

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def fill(self, index: int, rng: Any, out: Any) -> None:
        for name, values in self.arrays.items():
            out[name][...] = values[index]


class Means(nn.Module):
    """A network whose tokens are the mean of each channel over a patch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Features:
        maps = functional.avg_pool2d(x, PATCH) * self.weight
        return Features(maps.flatten(2).transpose(1, 2), None, (maps.shape[2], maps.shape[3]))


def samples(count: int = 5, seed: int = 0, size: tuple[int, int] = (12, 8)) -> Samples:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, (count, *size))
    labels[rng.random(labels.shape) < 0.3] = 255
    labels[0, :PATCH, :PATCH] = 255  # a patch of which nothing is known
    return Samples({"input": rng.normal(size=(count, 6, *size)).astype(np.float32), "semantic": labels})


def names(of: Samples, first: int = 0) -> list[str]:
    return [f"recording@{first + n}" for n in range(len(of))]


def by_hand(of: Samples) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return token of unit length and shares of classes of each labelled patch, in order."""
    found = []
    for image, labels in zip(of.arrays["input"], of.arrays["semantic"], strict=True):
        for top in range(0, labels.shape[0], PATCH):
            for left in range(0, labels.shape[1], PATCH):
                part = (slice(top, top + PATCH), slice(left, left + PATCH))
                known = labels[part][labels[part] != 255]
                token = image[:, *part].mean((1, 2))
                if len(known):
                    shares = np.array([(known == k).mean() for k in range(CLASSES)])
                    found.append((token / np.linalg.norm(token), shares))
    return found


def test_shares_are_of_the_labelled_pixels_of_each_patch() -> None:
    labels = torch.tensor([[[0, 0, 1, 255], [0, 2, 255, 255], [255, 255, 2, 2], [255, 255, 2, 2]]])
    shares = class_shares(labels, (2, 2), 3)
    torch.testing.assert_close(
        shares, torch.tensor([[[0.75, 0.0, 0.25], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
    )


def test_the_bank_holds_every_labelled_patch() -> None:
    training = samples()
    bank = fill_bank(Means(), training, names(training), CLASSES, 1000, batch_size=2)
    expected = by_hand(training)
    assert len(bank.tokens) == len(expected) == 5 * 6 - 1
    order = np.lexsort(bank.tokens.numpy().T)
    place = np.lexsort(np.array([token for token, _ in expected]).T)
    np.testing.assert_allclose(bank.tokens.numpy()[order], np.array([t for t, _ in expected])[place], atol=1e-6)
    np.testing.assert_allclose(bank.shares.numpy()[order], np.array([s for _, s in expected])[place], atol=1e-6)


def test_a_small_bank_is_a_part_of_a_large_one_whatever_the_batches_and_the_order() -> None:
    training = samples()
    whole = fill_bank(Means(), training, names(training), CLASSES, 1000)
    few = fill_bank(Means(), training, names(training), CLASSES, 7, batch_size=1)
    for small, large in zip(few, whole, strict=True):
        assert torch.equal(small, large[:7])
    turned = Samples({name: values[::-1] for name, values in training.arrays.items()})
    again = fill_bank(Means(), turned, names(training)[::-1], CLASSES, 7, batch_size=3)
    assert all(torch.equal(a, b) for a, b in zip(few, again, strict=True))
    other = fill_bank(Means(), training, names(training, 100), CLASSES, 7)
    assert not torch.equal(few.tokens, other.tokens)


@pytest.mark.parametrize(("neighbours", "temperature"), [(1, 0.02), (4, 0.1), (30, 0.5), (1000, 1.0)])
def test_votes_are_those_of_a_search_by_hand(
    neighbours: int, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, test = samples(), samples(2, seed=1)
    known = by_hand(training)
    bank = fill_bank(Means(), training, names(training), CLASSES, 1000)
    predict = PatchNeighbours(Means(), bank, neighbours, temperature)
    monkeypatch.setattr(patch_neighbours, "_SIMILARITIES", 100)  # so that queries come in parts
    answer = predict({"input": torch.from_numpy(test.arrays["input"])})["logits"]
    assert answer.shape == (2, CLASSES, 3, 2)
    for n, image in enumerate(test.arrays["input"]):
        for row in range(3):
            for column in range(2):
                part = (slice(row * PATCH, (row + 1) * PATCH), slice(column * PATCH, (column + 1) * PATCH))
                token = image[:, *part].mean((1, 2))
                near = [(float(token @ other) / np.linalg.norm(token), shares) for other, shares in known]
                near = sorted(near, key=lambda pair: -pair[0])[:neighbours]
                weights = np.exp([cosine / temperature for cosine, _ in near])
                said = sum(w * shares for w, (_, shares) in zip(weights / weights.sum(), near, strict=True))
                np.testing.assert_allclose(answer[n, :, row, column], said, atol=1e-5)


def test_patches_that_show_their_class_are_told_apart_at_the_size_of_the_labels() -> None:
    """Each class has a direction of its own, and large parts; labels have twice the pixels of the input a side."""
    rng = np.random.default_rng(2)

    def made(count: int) -> tuple[Samples, np.ndarray]:
        patches = np.zeros((count, 6, 8), np.int64)
        patches[:, :, 4:] = rng.integers(1, CLASSES, count)[:, None, None]
        labels = patches.repeat(PATCH, 1).repeat(PATCH, 2)
        images = np.eye(6)[labels].transpose(0, 3, 1, 2) + rng.normal(0, 0.1, (count, 6, *labels.shape[1:]))
        return Samples({"input": images.astype(np.float32), "semantic": labels}), labels

    training, _ = made(20)
    test, labels = made(6)
    test.arrays["semantic"] = labels.repeat(2, 1).repeat(2, 2)
    bank = fill_bank(Means(), training, names(training), CLASSES, 300)
    found = score_task(PatchNeighbours(Means(), bank), "segmentation", test, CLASSES)
    assert found.figures["miou"] == 1.0
    assert found.by_class == (1.0, 1.0, 1.0)


def test_what_cannot_be_asked_is_refused() -> None:
    training = samples()
    training.arrays["semantic"][...] = 255
    with pytest.raises(ProbeError, match="no pixel of the training windows is labelled"):
        fill_bank(Means(), training, names(training), CLASSES, 10)
    training = samples()
    training.arrays["input"][1] = np.nan
    with pytest.raises(ProbeError, match="expected finite tokens"):
        fill_bank(Means(), training, names(training), CLASSES, 10)


def test_a_bank_smaller_than_the_number_of_neighbours_is_asked_whole() -> None:
    bank = Bank(torch.eye(2), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    votes = PatchNeighbours(Means(), bank, 30, 1.0).votes(torch.tensor([[[3.0, 0.0]]]))
    torch.testing.assert_close(votes, torch.tensor([[[1.0, 0.0]]]).softmax(-1))
