from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.evaluation import collapse
from eventfm.evaluation.collapse import (
    collapse_at_densities,
    collapse_figures,
    linear_cka,
    neighbour_overlap,
    upsampled,
)
from eventfm.protocols import Features


def tokens(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def everywhere(x: torch.Tensor) -> torch.Tensor:
    return torch.ones(x.shape[:2], dtype=torch.bool)


def nearest_by_numpy(x: np.ndarray, k: int) -> list[set[int]]:
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    found = []
    for i in range(len(x)):
        cosines = [(unit[i] @ unit[j], j) for j in range(len(x)) if j != i]
        found.append({j for _, j in sorted(cosines, reverse=True)[:k]})
    return found


def criterion_by_numpy(x: np.ndarray, y: np.ndarray) -> float:
    """Song et al.'s unbiased estimate, written out with both kernels."""
    n = len(x)
    k, m = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    total = np.trace(k @ m) + k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k @ m).sum()
    return total / (n * (n - 3))


def rank_by_numpy(rows: np.ndarray) -> float:
    values = np.linalg.svd(rows, compute_uv=False)
    share = values[values > 1e-9 * values.max()] / values.sum()
    return math.exp(-(share * np.log(share)).sum())


def test_every_figure_equals_its_plain_formula() -> None:
    student, teacher = tokens(0, 3, 40, 6), tokens(1, 3, 40, 9)
    teacher[..., :6] += student
    active = torch.rand(3, 40, generator=torch.Generator().manual_seed(2)) < 0.6
    found = collapse_figures(student, teacher, active, neighbours=5)

    own = [student[i][active[i]].numpy() for i in range(3)]
    taught = [teacher[i][active[i]].numpy() for i in range(3)]
    for prefix, samples in (("", own), ("teacher_", taught)):
        want = rank_by_numpy(np.concatenate([x - x.mean(0) for x in samples]))
        assert found[f"{prefix}effective_rank"] == pytest.approx(want, rel=1e-9)
        cosines = []
        for x in samples:
            unit = x / np.linalg.norm(x, axis=1, keepdims=True)
            cosines.append((unit @ unit.T)[~np.eye(len(x), dtype=bool)].mean())
        assert found[f"{prefix}mean_cosine"] == pytest.approx(np.mean(cosines), abs=1e-12)
    overlaps = [
        np.mean([len(p & q) / 5 for p, q in zip(nearest_by_numpy(a, 5), nearest_by_numpy(b, 5), strict=True)])
        for a, b in zip(own, taught, strict=True)
    ]
    assert found["neighbour_overlap"] == pytest.approx(np.mean(overlaps), abs=1e-12)
    assert found["neighbour_chance"] == pytest.approx(np.mean([5 / (len(x) - 1) for x in own]))
    sums = [
        sum(criterion_by_numpy(x, y) for x, y in zip(first, second, strict=True))
        for first, second in ((own, taught), (own, own), (taught, taught))
    ]
    assert found["cka"] == pytest.approx(sums[0] / math.sqrt(sums[1] * sums[2]), abs=1e-10)
    assert found["num_tokens"] == int(active.sum())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(5, 30), st.integers(1, 12))
def test_alignment_knows_no_rotation_scale_or_shift(seed: int, n: int, d: int) -> None:
    x, y = tokens(seed, n, d), tokens(seed + 1, n, 4)
    rotation = torch.linalg.qr(tokens(seed + 2, d, d))[0]
    moved = 3.5 * x @ rotation + 20 * tokens(seed + 3, d)
    assert linear_cka([x], [x]) == pytest.approx(1)
    assert linear_cka([moved], [x]) == pytest.approx(1)
    assert linear_cka([moved], [y]) == pytest.approx(linear_cka([x], [y]), abs=1e-9)
    assert linear_cka([y], [x]) == pytest.approx(linear_cka([x], [y]), abs=1e-12)


def test_unrelated_tokens_are_not_aligned_however_few_they_are() -> None:
    x, y = tokens(0, 60, 384), tokens(1, 60, 384)
    plain = [(a - a.mean(0)) @ (a - a.mean(0)).T for a in (x, y)]
    biased = (plain[0] * plain[1]).sum() / (plain[0].norm() * plain[1].norm())
    assert biased > 0.8, "what this estimate is taken instead of"
    assert abs(linear_cka([x], [y])) < 0.1
    assert linear_cka([x], [x + 0.5 * y]) > 0.5


def test_neighbours_shared_by_equal_and_by_unrelated_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = tokens(0, 500, 16), tokens(1, 500, 16)
    assert neighbour_overlap(x, 7 * x, 10) == 1
    chance = neighbour_overlap(x, y, 10)
    assert chance == pytest.approx(10 / 499, abs=0.006)
    mixed = neighbour_overlap(x, x + y, 10)
    assert 0.05 < mixed < 0.9
    monkeypatch.setattr(collapse, "CELLS", 7 * 500)
    assert (neighbour_overlap(x, y, 10), neighbour_overlap(x, x + y, 10)) == (chance, mixed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_collapsed_student_is_seen_even_if_samples_differ(dtype: torch.dtype) -> None:
    teacher = tokens(0, 8, 49, 32).to(dtype)
    student = tokens(1, 8, 1, 32).to(dtype).expand(8, 49, 32).contiguous()
    found = collapse_figures(student, teacher, everywhere(teacher))
    assert found["effective_rank"] == 0
    assert found["mean_cosine"] == pytest.approx(1)
    assert found["cka"] == 0
    assert found["neighbour_overlap"] < 2 * found["neighbour_chance"]
    assert found["teacher_effective_rank"] > 25
    assert abs(found["teacher_mean_cosine"]) < 0.05

    noise = 1e-7 if dtype == torch.float32 else 1e-16
    shaken = student * (1 + noise * tokens(2, 8, 49, 32).to(dtype))
    assert collapse_figures(shaken, teacher, everywhere(teacher))["effective_rank"] == 0

    line = student + torch.linspace(-1, 1, 49, dtype=dtype)[:, None]
    found = collapse_figures(line, teacher, everywhere(teacher))
    assert found["effective_rank"] == pytest.approx(1, abs=1e-3)

    found = collapse_figures(teacher, teacher, everywhere(teacher))
    assert found["neighbour_overlap"] == found["cka"] == pytest.approx(1)
    assert found["effective_rank"] == found["teacher_effective_rank"]


def test_only_active_tokens_of_samples_with_enough_count() -> None:
    student, teacher = tokens(0, 4, 30, 5), tokens(1, 4, 30, 5)
    active = everywhere(student)
    active[0, 20:] = False
    active[2, 11:] = False
    active[3] = False
    found = collapse_figures(student, teacher, active)
    student[~active], teacher[~active] = math.nan, math.inf
    student[2], teacher[2] = 1e6 * student[2], teacher[2]
    assert collapse_figures(student, teacher, active) == found
    assert found["num_tokens"] == 50
    assert found["neighbour_chance"] == pytest.approx((10 / 19 + 10 / 29) / 2)
    assert collapse_figures(student, teacher, active & False) == {}
    assert collapse_figures(student[2:], teacher[2:], active[2:]) == {}


def test_mistakes_are_named() -> None:
    student = tokens(0, 2, 30, 5)
    with pytest.raises(ValueError, match=r"active \(B, N\), got \[\(2, 30, 5\), \(2, 29, 5\), \(2, 30\)\]"):
        collapse_figures(student, student[:, 1:], everywhere(student))
    broken = student.clone()
    broken[1, 3, 2] = math.nan
    with pytest.raises(ValueError, match="finite tokens of the teacher"):
        collapse_figures(student, broken, everywhere(student))
    with pytest.raises(ValueError, match="factor of at least 1, got 0"):
        upsampled(torch.zeros(1, 1, 4, 4), 0)


def patches(x: torch.Tensor) -> Features:
    """Return the pixels of every 4x4 patch as its token."""
    batch, channels, height, width = x.shape
    cut = x.reshape(batch, channels, height // 4, 4, width // 4, 4).permute(0, 2, 4, 1, 3, 5)
    return Features(cut.flatten(3).flatten(1, 2), None, (height // 4, width // 4))


class PatchTeacher:
    """Says the mean colours of the four quarters of every 8x8 patch."""

    dim = 12

    def __init__(self, rows: int, cols: int) -> None:
        self.grid = (rows, cols)
        self.input_size = (8 * rows, 8 * cols)
        self.identity: dict[str, str] = {"name": "patches"}

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        assert tuple(pictures.shape[2:]) == self.input_size
        quarters = torch.nn.functional.avg_pool2d(pictures, 4)
        return patches(quarters.repeat_interleave(2, 2).repeat_interleave(2, 3)).tokens[..., [0, 2, 8, 10, *range(8)]]


def batch_of(rows: int, cols: int) -> dict[str, torch.Tensor]:
    return {
        "input": tokens(0, 2, 3, 4 * rows, 4 * cols).float(),
        "teacher_picture": tokens(1, 2, 3, 8 * rows, 8 * cols).sigmoid().float(),
        "view": torch.tensor([[0.0, 0, 1, 1, 0]] * 2),
    }


def test_densities_up_sample_the_input_and_the_mask() -> None:
    batch = batch_of(4, 6)
    active = torch.rand(2, 24, generator=torch.Generator().manual_seed(3)) < 0.7
    teachers = [PatchTeacher(4 * f, 6 * f) for f in (1, 2, 3)]
    found = collapse_at_densities(patches, teachers, batch, (1, 2, 3), active)
    assert [record["density"] for record in found] == [1, 2, 3]
    for factor, record in zip((1, 2, 3), found, strict=True):

        def larger(name: str, factor: int = factor) -> torch.Tensor:
            images = batch[name].permute(0, 2, 3, 1).numpy()
            size = (images.shape[2] * factor, images.shape[1] * factor)
            return torch.from_numpy(np.stack([cv2.resize(i, size) for i in images])).permute(0, 3, 1, 2)

        mask = np.stack([np.kron(a.reshape(4, 6), np.ones((factor, factor))) > 0 for a in active.numpy()])
        want = collapse_figures(
            patches(larger("input")).tokens,
            teachers[factor - 1](larger("teacher_picture")),
            torch.from_numpy(mask).flatten(1),
        )
        assert record == {"density": factor, **{name: pytest.approx(value, rel=1e-3) for name, value in want.items()}}
    assert [record["num_tokens"] for record in found] == [int(active.sum()) * f * f for f in (1, 2, 3)]


def test_one_teacher_serves_all_densities() -> None:
    batch = batch_of(4, 6)
    found = collapse_at_densities(patches, PatchTeacher(4, 6), batch)
    assert [record["num_tokens"] for record in found] == [48, 192, 768]
    alone = collapse_figures(
        patches(batch["input"]).tokens, PatchTeacher(4, 6)(batch["teacher_picture"]), torch.ones(2, 24).bool()
    )
    assert found[0]["cka"] == pytest.approx(alone["cka"], abs=1e-5)
    with pytest.raises(ValueError, match=r"each of the factors \(1, 2, 4\), got 1"):
        collapse_at_densities(patches, [PatchTeacher(4, 6)], batch)
    with pytest.raises(ValueError, match=r"active patches \(2, 24\) for a grid of 4x6, got \(2, 96\)"):
        collapse_at_densities(patches, PatchTeacher(4, 6), batch, (2,), torch.ones(2, 96).bool())
