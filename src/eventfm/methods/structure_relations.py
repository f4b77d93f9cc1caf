"""Sums over all pairs of tokens, and their gradient, some rows of pairs at a time."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Form = Literal["released", "paper", "robust"]
RELATED = 0.1
"""Above this cosine of the teacher's tokens the released code takes a pair for related (its `criterion.py`)."""


def relation_sums(
    student: Tensor, teacher: Tensor, form: Form, *, intra: bool, cross: bool, chunk: int
) -> tuple[Tensor, Tensor]:
    """Return the sums over pairs of how S and X differ from T, for tokens K and Q (n, D) of length 1.

    S = K K', X = K Q' and T = Q Q' (n, n); the difference is its square, for `paper` its size, and for `released` only
    of related pairs, with negative cosines taken as 0. A sum that is not asked for is 0. The gradient reaches K alone,
    once: not a gradient's own gradient. `chunk` rows of the matrices exist at a time.
    """
    return _RelationSums.apply(student, teacher, form, intra, cross, chunk)  # type: ignore[no-untyped-call, no-any-return]


class _RelationSums(torch.autograd.Function):
    """Forward leaves the gradient of each sum behind; backward only weighs them."""

    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, form: Form, intra: bool, cross: bool, chunk: int
    ) -> tuple[Tensor, Tensor]:
        num_tokens = len(student)
        wanted = [number for number, asked in enumerate((intra, cross)) if asked]
        # A token has a row and a column of S, which are the same: twice what its row says.
        others, factors = (student, teacher), (2.0, 1.0)
        sums = student.new_zeros(2)
        learns = ctx.needs_input_grad[0]
        gradients = [torch.empty_like(student) if learns and number in wanted else None for number in range(2)]
        taught_rows, rows = (student.new_empty(min(chunk, num_tokens), num_tokens) for _ in range(2))
        for start in range(0, num_tokens, chunk):
            here = slice(start, min(start + chunk, num_tokens))
            size = here.stop - start
            taught = torch.mm(teacher[here], teacher.T, out=taught_rows[:size])
            related = (taught > RELATED).to(taught.dtype) if form == "released" else None
            for number in wanted:
                found = torch.mm(student[here], others[number].T, out=rows[:size])
                sums[number] += _differ(found, taught, related, form)
                gradient = gradients[number]
                if gradient is not None:
                    torch.mm(found, others[number], out=gradient[here]).mul_(factors[number])
        ctx.save_for_backward(*gradients)
        return sums[0].clone(), sums[1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *weights: Tensor) -> tuple[Tensor | None, ...]:
        parts = [w * g for w, g in zip(weights, ctx.saved_tensors, strict=True) if g is not None]
        return parts[0] if len(parts) == 1 else parts[0].add_(parts[1]), None, None, None, None, None


def _differ(found: Tensor, taught: Tensor, related: Tensor | None, form: Form) -> Tensor:
    """Return the sum of differences of `found`, some rows of S or X, from T; `found` becomes its derivative.

    `related` is 1 where a pair counts, else 0; without it all do.
    """
    if form == "paper":
        total: Tensor = torch.linalg.vector_norm(found.sub_(taught), 1)
        found.sign_()
        return total
    if related is None:
        found.sub_(taught)
        total = _square(found)
    else:
        rising = found >= 0
        found.clamp_(min=0).sub_(taught).mul_(related)
        total = _square(found)
        found.mul_(rising)
    found.mul_(2)
    return total


def _square(found: Tensor) -> Tensor:
    """Return the sum of squares of rows that lie side by side, without a copy."""
    flat = found.flatten()
    return torch.dot(flat, flat)
