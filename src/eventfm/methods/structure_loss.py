"""How student and teacher tokens differ: one by one, among themselves, and across (ScaleEvent, section 3).

Tokens of active patches only are compared. The relations between them are worked out some rows at a time, and their
gradient in the same pass, so that no matrix of all pairs is ever kept.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from eventfm.methods.structure_relations import Form, relation_sums

Term = Literal["token", "intra", "cross"]
TERMS: tuple[Term, ...] = ("token", "intra", "cross")


class StructureTerms(NamedTuple):
    """The terms before they are weighted, each a scalar."""

    token: Tensor
    """Of a student token and the teacher token of the same patch."""
    intra: Tensor
    """Of the similarities among student tokens, S, and those among teacher tokens, T."""
    cross: Tensor
    """Of the similarities of student tokens with teacher tokens, X, and T."""


def structure_terms(
    student: Tensor,
    teacher: Tensor,
    active: Tensor,
    form: Form,
    *,
    terms: Collection[Term] = TERMS,
    chunk: int = 256,
) -> StructureTerms:
    """Compare tokens K of the student and Q of the teacher, (B, N, D), where patches are `active`, (B, N) bool.

    S, X and T are cosines. The gradient reaches the student alone. A term that is not among `terms` is 0 and costs
    nothing; where no patch is active all are 0, and so is the gradient. `chunk` rows of all pairs are held at a time.

    * `released`, as the authors' code has it: means of |K - Q|, (S - T)^2 and (X - T)^2, where negative cosines are
      taken as 0 and only pairs with T > 0.1 have a difference. The means are over all patches and pairs, active or not,
      so that sparse samples count less. A student whose tokens have become one pays no intra term for pairs that the
      teacher holds apart.
    * `paper`, equations 1 to 5, on tokens of length 1: sums of |K - Q|, |S - T| and |X - T| over active patches and
      pairs, divided by B. They grow with the number of patches and of pairs.
    * `robust`, eventfm's own: means of |K - Q|, (S - T)^2 and (X - T)^2 over the active patches and pairs of each
      sample, whatever the teacher's cosine, then over the samples that have any. A sparse sample counts as much as a
      dense one, and tokens that have become one cost something wherever the teacher's have not.

    Raises:
        ValueError: Shapes that do not fit together.
    """
    if student.ndim != 3 or student.shape != teacher.shape or active.shape != student.shape[:2]:
        raise ValueError(
            "expected tokens (B, N, D) of student and teacher alike and active (B, N), got "
            f"{tuple(student.shape)}, {tuple(teacher.shape)} and {tuple(active.shape)}"
        )
    counts = active.sum(dim=1).tolist()  # the only wait for the device
    active_first = (~active).to(torch.uint8).argsort(dim=1, stable=True)
    scales = _scales(form, counts, *student.shape[1:])
    # Half precision resolves a cosine to 0.004, as much as many of these differences.
    with torch.autocast(student.device.type, enabled=False):
        totals = dict.fromkeys(TERMS, _precise(student[:0]).sum())  # 0, and differentiable
        for sample, (own, taught) in enumerate(zip(student, teacher.detach(), strict=True)):
            places = active_first[sample, : counts[sample]]
            if len(places):
                own = _precise(own.index_select(0, places))
                taught = taught.index_select(0, places).to(own.dtype)
                for term, value in _sums(own, taught, form, terms, chunk).items():
                    totals[term] = totals[term] + scales[sample][term] * value
    return StructureTerms(**totals)


def _sums(own: Tensor, taught: Tensor, form: Form, terms: Collection[Term], chunk: int) -> dict[Term, Tensor]:
    """Return the sum of each of `terms` over one sample's tokens (n, D) and pairs of tokens."""
    unit, taught_unit = functional.normalize(own, dim=1), functional.normalize(taught, dim=1)
    sums: dict[Term, Tensor] = {}
    if "token" in terms:
        pair = (unit, taught_unit) if form == "paper" else (own, taught)
        sums["token"] = functional.l1_loss(*pair, reduction="sum")
    if "intra" in terms or "cross" in terms:
        sums["intra"], sums["cross"] = relation_sums(
            unit, taught_unit, form, intra="intra" in terms, cross="cross" in terms, chunk=chunk
        )
    return sums


def _scales(form: Form, counts: list[int], num_patches: int, dim: int) -> list[dict[Term, float]]:
    """Return what the sums of each sample are multiplied by; `counts` of its `num_patches` patches are active."""
    num_samples = len(counts)
    if form == "paper":
        return [dict.fromkeys(TERMS, 1 / num_samples)] * num_samples
    if form == "released":
        counted, num_counted = [num_patches] * num_samples, num_samples
    else:
        counted, num_counted = [max(1, count) for count in counts], max(1, sum(count > 0 for count in counts))
    means = [(1 / (n * dim * num_counted), 1 / (n * n * num_counted)) for n in counted]
    return [{"token": of_tokens, "intra": of_pairs, "cross": of_pairs} for of_tokens, of_pairs in means]


def _precise(tokens: Tensor) -> Tensor:
    """Return `tokens` as float32, or float64 where they are."""
    return tokens if tokens.dtype == torch.float64 else tokens.float()
