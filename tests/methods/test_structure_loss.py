"""The structure terms: against official values, formulas by hand and their differences, and their own bounds."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from eventfm.methods.structure_loss import TERMS, structure_terms
from eventfm.random import generator

GOLDEN = Path(__file__).parents[1] / "golden" / "scaleevent_vits16.npz"
SALT = 20260306
FORMS = ("released", "paper", "robust")
WEIGHTS = (1.0, 10.0, 4.0)
MASKS = torch.tensor([[1] * 7, [0] * 7, [0, 0, 1, 0, 0, 0, 0], [1, 0, 1, 1, 0, 0, 1]], dtype=torch.bool)
"""All patches, none, one, some."""


def official(name: str, *shape: int) -> torch.Tensor:
    rng = np.random.Generator(np.random.Philox(key=[SALT, zlib.crc32(name.encode())]))
    return torch.from_numpy(rng.standard_normal(size=shape).astype(np.float32))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(generator(seed, "tokens").standard_normal(shape))


def tokens(*shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return student and teacher tokens that resemble each other, in a few groups, float64."""
    teacher = normal(3, shape[-1], seed=seed)[torch.arange(shape[1]) % 3] + 0.7 * normal(*shape, seed=seed + 1)
    return 0.5 * teacher + 0.8 * normal(*shape, seed=seed + 2), teacher


def weighted(terms) -> torch.Tensor:
    return sum(weight * term for weight, term in zip(WEIGHTS, terms, strict=True))


def by_hand(student, teacher, active, form: str) -> np.ndarray:
    """Return the three terms, (3,) float64, pair by pair from their definitions."""
    num_samples, num_patches, dim = student.shape
    out = np.zeros(3)
    for own, taught, mask in zip(student, teacher, active, strict=True):
        places = [n for n in range(num_patches) if mask[n]]
        unit, unit_taught = (x / np.sqrt((x * x).sum(axis=1, keepdims=True)) for x in (own, taught))
        sums = np.zeros(3)
        for n in places:
            left, right = (unit, unit_taught) if form == "paper" else (own, taught)
            sums[0] += sum(abs(left[n, d] - right[n, d]) for d in range(dim))
            for m in places:
                s, x, t = unit[n] @ unit[m], unit[n] @ unit_taught[m], unit_taught[n] @ unit_taught[m]
                if form == "paper":
                    sums[1:] += abs(s - t), abs(x - t)
                elif form == "robust":
                    sums[1:] += (s - t) ** 2, (x - t) ** 2
                elif t > 0.1:
                    sums[1:] += (max(s, 0) - t) ** 2, (max(x, 0) - t) ** 2
        if form == "paper":
            out += sums / num_samples
        elif form == "released":
            out += sums / [num_samples * num_patches * size for size in (dim, num_patches, num_patches)]
        elif places:
            size = len(places)
            out += sums / [size * dim, size**2, size**2] / sum(bool(row.any()) for row in active)
    return out


@pytest.mark.parametrize(
    ("mask", "expected"),
    [([1, 1, 1, 0], (0.25, 0.07322330, 0.04197330)), ([1, 1, 1, 1], (0.625, 0.07322330, 0.10447330))],
)
def test_released_terms_of_four_tokens_equal_the_official_ones(mask, expected):
    teacher = torch.tensor([[[1.0, 0], [1, 1], [0, 1], [-1, 0]]])
    student = torch.tensor([[[1.0, 0], [0, 1], [0, 2], [1, 1]]])
    terms = structure_terms(student, teacher, torch.tensor([mask], dtype=torch.bool), "released", chunk=3)
    np.testing.assert_allclose(torch.stack(terms), expected, rtol=1e-5)
    total = {0.25: 1.15012622, 0.625: 1.77512622}[expected[0]]
    assert weighted(terms).item() == pytest.approx(total, rel=1e-5)


def test_pairs_are_related_above_a_tenth():
    student = torch.eye(2, dtype=torch.float64)[None]
    active = torch.ones(1, 2, dtype=torch.bool)
    for cosine, expected in ((0.0999, 0.0), (0.1001, 0.1001**2 / 2)):
        teacher = torch.tensor([[[1.0, 0.0], [cosine, (1 - cosine**2) ** 0.5]]], dtype=torch.float64)
        assert structure_terms(student, teacher, active, "released").intra.item() == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("chunk", [7, 60, 256])
def test_released_terms_and_gradient_equal_the_official_run(chunk):
    with np.load(GOLDEN) as file:
        golden = dict(file)
    teacher = official("loss.centres", 4, 384)[torch.arange(60) % 4] + 0.3 * official("loss.teacher", 2, 60, 384)
    student = (0.6 * teacher + 0.4 * official("loss.student", 2, 60, 384)).requires_grad_()
    active = official("loss.mask", 2, 6, 10, 1).flatten(1) > 0
    terms = structure_terms(student, teacher, active, "released", chunk=chunk)
    total = weighted(terms)
    total.backward()
    np.testing.assert_allclose(terms.token.detach(), golden["naive"], rtol=1e-5)
    np.testing.assert_allclose(torch.stack([total, *terms]).detach(), golden["cross"], rtol=1e-5)
    np.testing.assert_allclose(student.grad[:, ::4, ::4], golden["cross_grad"], rtol=1e-3, atol=1e-8)
    assert student.grad[~active].abs().max() == 0


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("chunk", [3, 7, 100])
def test_terms_equal_the_formulas_by_hand(form, chunk):
    student, teacher = tokens(4, 7, 5)
    found = structure_terms(student, teacher, MASKS, form, chunk=chunk)
    expected = by_hand(student.numpy(), teacher.numpy(), MASKS.numpy(), form)
    np.testing.assert_allclose(torch.stack(found), expected, rtol=1e-12)
    assert expected.min() > 0


@pytest.mark.parametrize("form", FORMS)
def test_gradients_equal_the_differences_of_the_formulas_by_hand(form):
    student, teacher = tokens(4, 7, 5)
    student.requires_grad_()
    terms = structure_terms(student, teacher, MASKS, form, chunk=3)
    found = [torch.autograd.grad(term, student, retain_graph=True)[0].numpy() for term in terms]
    together = torch.autograd.grad(weighted(terms), student)[0].numpy()

    origin, step = student.detach().numpy().copy(), 1e-6
    expected = np.zeros((3, *origin.shape))
    for place in np.ndindex(origin.shape):
        if not MASKS[place[:2]]:
            continue  # must not move anything: zeros stay expected
        above, below = origin.copy(), origin.copy()
        above[place] += step
        below[place] -= step
        ends = (by_hand(x, teacher.numpy(), MASKS.numpy(), form) for x in (above, below))
        expected[(slice(None), *place)] = np.subtract(*ends) / (2 * step)
    for term, gradient, wanted in zip(TERMS, found, expected, strict=True):
        np.testing.assert_allclose(gradient, wanted, rtol=1e-5, atol=1e-8, err_msg=term)
        assert np.abs(wanted).max() > 1e-3
    np.testing.assert_allclose(together, np.tensordot(WEIGHTS, expected, 1), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_pass_gradcheck(form):
    student, teacher = tokens(4, 7, 5, seed=4)
    assert torch.autograd.gradcheck(
        lambda x: structure_terms(x, teacher, MASKS, form, chunk=3), student.requires_grad_(), atol=1e-6
    )


@pytest.mark.parametrize("form", FORMS)
def test_without_active_patches_all_is_zero_and_differentiable(form):
    student, teacher = tokens(2, 7, 5)
    student[0, 3] = float("nan")  # of a patch that does not count
    terms = structure_terms(student.requires_grad_(), teacher, torch.zeros(2, 7, dtype=torch.bool), form)
    weighted(terms).backward()
    assert [term.item() for term in terms] == [0, 0, 0]
    assert student.grad.abs().max() == 0


@pytest.mark.parametrize("form", FORMS)
def test_patches_that_are_not_active_make_no_difference(form):
    student, teacher = tokens(4, 7, 5)
    expected = structure_terms(student, teacher, MASKS, form)
    student[~MASKS], teacher[~MASKS] = float("inf"), float("nan")
    terms = structure_terms(student.requires_grad_(), teacher, MASKS, form)
    weighted(terms).backward()
    torch.testing.assert_close(terms, expected)
    assert student.grad[~MASKS].abs().max() == 0
    assert student.grad.isfinite().all()


def test_what_a_sample_without_active_patches_counts():
    student, teacher = tokens(4, 7, 5)
    some = MASKS.any(dim=1)
    for form, factor in (("released", 3 / 4), ("paper", 3 / 4), ("robust", 1)):
        every = structure_terms(student, teacher, MASKS, form)
        without = structure_terms(student[some], teacher[some], MASKS[some], form)
        for found, expected in zip(every, without, strict=True):
            torch.testing.assert_close(found, factor * expected)


def test_only_the_robust_form_does_not_depend_on_how_many_patches_are_active():
    student, teacher = (x.repeat(1, 3, 1) for x in tokens(1, 6, 5))
    few = (torch.arange(18) < 6)[None]
    shares = {}
    for form in FORMS:
        dense, sparse = (structure_terms(student, teacher, mask, form) for mask in (torch.ones_like(few), few))
        shares[form] = [round((b / a).item(), 6) for a, b in zip(dense, sparse, strict=True)]
    third, ninth = round(1 / 3, 6), round(1 / 9, 6)
    assert shares == {"released": [third, ninth, ninth], "paper": [third, ninth, ninth], "robust": [1, 1, 1]}


def test_a_collapsed_student_pays_in_the_robust_form_but_not_in_the_released_one():
    teacher = torch.eye(6, 8, dtype=torch.float64)[None]
    student = normal(8).expand(1, 6, 8).clone()
    active = torch.ones(1, 6, dtype=torch.bool)
    released = structure_terms(student.requires_grad_(), teacher, active, "released")
    assert released.intra.item() < 1e-20
    robust = structure_terms(student, teacher, active, "robust")
    assert robust.intra.item() == pytest.approx(30 / 36)

    # Close to collapse the released term lets tokens be, and ours drives them apart.
    near = (student + 0.1 * normal(1, 6, 8, seed=3)).detach()
    spread = {}
    for form in ("released", "robust"):
        moved = near.clone().requires_grad_()
        structure_terms(moved, teacher, active, form).intra.backward()
        moved = functional.normalize(moved.detach() - 20 * moved.grad, dim=2)
        spread[form] = (moved @ moved.mT).mean().item()
    before = functional.normalize(near, dim=2)
    assert spread["released"] == pytest.approx((before @ before.mT).mean().item(), abs=1e-9)
    assert spread["robust"] < spread["released"] - 1e-3


def test_the_gradient_reaches_the_student_alone():
    student, teacher = (x.requires_grad_() for x in tokens(4, 7, 5))
    weighted(structure_terms(student, teacher, MASKS, "robust")).backward()
    assert student.grad.abs().max() > 0
    assert teacher.grad is None


@pytest.mark.parametrize("form", FORMS)
def test_half_precision_is_compared_in_single(form):
    student, teacher = (x.to(torch.bfloat16) for x in tokens(4, 7, 5))
    expected = structure_terms(student.double(), teacher.double(), MASKS, form)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = structure_terms(student.requires_grad_(), teacher.float(), MASKS, form)
        weighted(found).backward()
    assert all(term.dtype == torch.float32 for term in found)
    torch.testing.assert_close(torch.stack(found).double(), torch.stack(expected), rtol=1e-5, atol=1e-7)
    assert student.grad.dtype == torch.bfloat16


@pytest.mark.parametrize(("terms", "products"), [(("token",), 0), (("intra",), 3), (("cross",), 3), (TERMS, 5)])
def test_only_pairs_of_active_patches_are_worked_out_and_only_for_terms_asked_for(terms, products):
    student, teacher = (x.float() for x in tokens(4, 7, 5))
    student.requires_grad_()
    with FlopCounterMode(display=False) as counter:
        found = structure_terms(student, teacher, MASKS, "released", terms=terms, chunk=3)
        weighted(found).backward()
    pairs = sum(count**2 for count in (7, 0, 1, 4))
    assert counter.get_total_flops() == products * 2 * pairs * 5
    everything = structure_terms(student, teacher, MASKS, "released")
    for name, value, full in zip(TERMS, found, everything, strict=True):
        assert value.item() == (pytest.approx(full.item()) if name in terms else 0)


def test_no_gradient_is_worked_out_where_none_is_wanted():
    student, teacher = (x.float() for x in tokens(4, 7, 5))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        structure_terms(student.requires_grad_(), teacher, MASKS, "robust")
    assert counter.get_total_flops() == 3 * 2 * (49 + 1 + 16) * 5


class Largest(TorchDispatchMode):
    """Notes the most elements that a tensor had."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (list, tuple)) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.size = max(self.size, tensor.numel())
        return out


@pytest.mark.parametrize("form", FORMS)
def test_no_tensor_holds_all_pairs(form):
    student, teacher = (x.float() for x in tokens(2, 300, 4))
    with Largest() as largest:
        terms = structure_terms(student.requires_grad_(), teacher, torch.ones(2, 300, dtype=torch.bool), form, chunk=16)
        weighted(terms).backward()
    assert largest.size == 16 * 300


def test_shapes_that_do_not_fit_are_refused():
    student, teacher = tokens(4, 7, 5)
    for wrong in ((student[0], teacher[0], MASKS[0]), (student, teacher[:, :6], MASKS), (student, teacher, MASKS[:1])):
        with pytest.raises(ValueError, match=r"expected tokens \(B, N, D\)"):
            structure_terms(*wrong, "robust")
