"""Figures that show whether a student's tokens have collapsed, beside those of its teacher.

ScaleEvent (Chen et al., CVPR 2026) names the fault "semantic collapse" and shows it by pictures alone: tokens of one
sample that differ less and less, the more so the finer they lie. Hence all figures are about how the tokens of one
sample differ from each other; that samples differ does not hide that their tokens do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import starmap

import torch
from torch import Tensor
from torch.nn import functional

from eventfm.engine.monitor import effective_rank, mean_cosine
from eventfm.methods.pairing import taught_tokens
from eventfm.protocols import Batch, Features, Teacher

CELLS = 1 << 24
"""Cosines that are held at a time while neighbours are looked for."""


@torch.no_grad()
def collapse_figures(student: Tensor, teacher: Tensor, active: Tensor, neighbours: int = 10) -> dict[str, float]:
    """Return how far the active tokens of each sample differ, for the student and for its teacher.

    * `effective_rank`, `teacher_effective_rank`: of all active tokens, each less the mean of its sample
      (`monitor.effective_rank`); 0 where the tokens of every sample are one.
    * `mean_cosine`, `teacher_mean_cosine`: of two different tokens of a sample, the mean over samples.
    * `neighbour_overlap`: of the `neighbours` nearest tokens of a token in its sample, by cosine, the share that
      student and teacher have in common, the mean over samples; `neighbour_chance` is what unrelated tokens have.
    * `cka`: see `linear_cka`.
    * `num_tokens`: how many active tokens were looked at.

    Samples with fewer than `neighbours` + 2 active tokens, or 4, are left out; where none is left, nothing is returned.

    Args:
        student: (B, N, D).
        teacher: (B, N, E); E need not be D.
        active: (B, N) bool.
        neighbours: How many nearest tokens are compared.

    Raises:
        ValueError: Shapes that do not fit, or active tokens that are not finite.
    """
    _check_shapes(student, teacher, active)
    enough = [i for i, count in enumerate(active.sum(dim=1).tolist()) if count >= max(4, neighbours + 2)]
    if not enough:
        return {}
    own, taught = ([tokens[i][active[i]] for i in enough] for tokens in (student, teacher))
    overlaps = [neighbour_overlap(a, b, neighbours) for a, b in zip(own, taught, strict=True)]
    return {
        **_spread(own),
        **{f"teacher_{name}": value for name, value in _spread(taught).items()},
        "neighbour_overlap": _mean(overlaps),
        "neighbour_chance": _mean([neighbours / (len(tokens) - 1) for tokens in own]),
        "cka": linear_cka(own, taught),
        "num_tokens": float(sum(map(len, own))),
    }


@torch.no_grad()
def collapse_at_densities(
    backbone: Callable[[Tensor], Features],
    teacher: Teacher | Sequence[Teacher],
    batch: Batch,
    factors: Sequence[int] = (1, 2, 4),
    active: Tensor | None = None,
) -> list[dict[str, float]]:
    """Return `collapse_figures` with the input up-sampled by each of `factors`, the factor as `density` beside them.

    So many times more tokens lie along each side (ScaleEvent, section 4 and Fig. 4). One teacher says the same at all
    densities, interpolated to the student's tokens; a teacher for each factor, of growing input size, is shown the
    picture up-sampled as well.

    Args:
        backbone: The student, in evaluation mode.
        teacher: One, or one for each factor; the pictures of `batch` are resized to what each takes.
        batch: `input`, and `teacher_picture` or `teacher_tokens` with `view`; see `protocols.Batch`.
        factors: Whole numbers.
        active: (B, N) bool over the patches of the input as it is; all of them where it is not given.

    Raises:
        ValueError: Another number of teachers than of factors, or shapes that do not fit.
    """
    teachers = list(teacher) if isinstance(teacher, Sequence) else [teacher] * len(factors)
    if len(teachers) != len(factors):
        raise ValueError(f"expected a teacher for each of the factors {tuple(factors)}, got {len(teachers)}")
    records = []
    for factor, asked in zip(factors, teachers, strict=True):
        features = backbone(upsampled(batch["input"], factor))
        taught = taught_tokens(_shown(batch, asked), asked, features.grid)
        seen = _finer(active, features, factor)
        records.append({"density": float(factor), **collapse_figures(features.tokens, taught, seen)})
    return records


def upsampled(x: Tensor, factor: int) -> Tensor:
    """Return `x` (B, C, H, W) with sides `factor` times as long, interpolated linearly as in ScaleEvent's code.

    Raises:
        ValueError: A factor below 1.
    """
    if factor < 1:
        raise ValueError(f"expected a factor of at least 1, got {factor}")
    return x if factor == 1 else functional.interpolate(x, scale_factor=float(factor), mode="bilinear")


def neighbour_overlap(a: Tensor, b: Tensor, neighbours: int) -> float:
    """Return the share that the nearest `neighbours` of a row have in common in `a` (N, D) and in `b` (N, E).

    Nearest is by cosine, without the row itself; the mean over rows. Rows that are all alike have neighbours without
    a meaning, which agree with others' no more than by chance.
    """
    sides = [functional.normalize(x.float(), dim=1) for x in (a, b)]
    step = max(1, CELLS // len(a))
    shared = torch.zeros((), dtype=torch.int64, device=a.device)
    for start in range(0, len(a), step):
        mine, theirs = (_nearest(unit, start, start + step, neighbours) for unit in sides)
        shared += (mine[:, :, None] == theirs[:, None, :]).sum()
    return shared.item() / (len(a) * neighbours)


def linear_cka(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """Return how alike the relations among tokens are in `a` and `b`, at most 1; about 0 for unrelated ones.

    `a[i]` (N_i, D) and `b[i]` (N_i, E) are the tokens of sample i, at least 4. It is the centred alignment of linear
    kernels (Kornblith et al., ICML 2019), which rotation, scale and shift of either side do not change. Of the
    alignment the unbiased estimate is taken (Song et al., JMLR 2012) and added up over samples first (Nguyen et al.,
    ICLR 2021): the plain one is near 1 for whatever has fewer tokens than dimensions, and would fall with density. It
    is worked out from D x E matrices. Where the tokens of one side do not differ, it is 0.
    """
    pairs = [(_centred(x), _centred(y)) for x, y in zip(a, b, strict=True)]
    both = sum(starmap(_alignment, pairs))
    each = sum(_alignment(x, x) for x, _ in pairs) * sum(_alignment(y, y) for _, y in pairs)
    return both / each**0.5 if each > 0 else 0.0


def _alignment(x: Tensor, y: Tensor) -> float:
    """Return the unbiased estimate of the independence criterion of centred `x` (N, D) and `y` (N, E).

    Song et al. write it with the N x N kernels without their diagonals. Those of centred rows add up to the lengths
    on the diagonal, negated, so that |x'y|^2 and the lengths are all that is needed.
    """
    n = len(x)
    p, q = x.square().sum(dim=1), y.square().sum(dim=1)
    total = (x.T @ y).square().sum() - p @ q * n / (n - 2) + p.sum() * q.sum() / ((n - 1) * (n - 2))
    return total.item() / (n * (n - 3))


def _nearest(unit: Tensor, start: int, stop: int, count: int) -> Tensor:
    """Return the numbers of the `count` rows nearest to each of rows `start` to `stop`, (stop - start, count)."""
    cosines = unit[start:stop] @ unit.T
    cosines.diagonal(start).fill_(-2)  # no row is its own neighbour
    return cosines.topk(count, dim=1).indices


def _spread(samples: list[Tensor]) -> dict[str, float]:
    """Return rank and mean cosine of the tokens (N_i, D) of each sample."""
    return {
        "effective_rank": effective_rank(torch.cat([_centred(tokens) for tokens in samples])).item(),
        "mean_cosine": _mean([mean_cosine(tokens).item() for tokens in samples]),
    }


def _centred(tokens: Tensor) -> Tensor:
    """Return `tokens` (N, D) less their mean, in float64; zeros where they differ by no more than rounding does."""
    x = tokens.to(torch.float32 if tokens.device.type == "mps" else torch.float64)
    centred = x - x.mean(dim=0)
    return centred * (centred.norm() > 4 * torch.finfo(tokens.dtype).eps * x.norm())


def _shown(batch: Batch, teacher: Teacher) -> Batch:
    """Return `batch` with its pictures in the size that `teacher` takes."""
    picture = batch.get("teacher_picture")
    if picture is None or tuple(picture.shape[2:]) == tuple(teacher.input_size):
        return batch
    return {**batch, "teacher_picture": functional.interpolate(picture, teacher.input_size, mode="bilinear")}


def _finer(active: Tensor | None, features: Features, factor: int) -> Tensor:
    """Return `active` (B, N) with each patch as `factor` x `factor` of them; all where there is none."""
    batch, (rows, cols) = len(features.tokens), features.grid
    if active is None:
        return torch.ones(batch, rows * cols, dtype=torch.bool, device=features.tokens.device)
    if active.shape != (batch, rows // factor * (cols // factor)):
        raise ValueError(
            f"expected active patches ({batch}, {rows // factor * (cols // factor)}) for a grid of "
            f"{rows // factor}x{cols // factor}, got {tuple(active.shape)}"
        )
    coarse = active.unflatten(1, (rows // factor, cols // factor))
    return coarse.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2).flatten(1)


def _check_shapes(student: Tensor, teacher: Tensor, active: Tensor) -> None:
    shapes = [tuple(x.shape) for x in (student, teacher, active)]
    if [len(shape) for shape in shapes] != [3, 3, 2] or not shapes[0][:2] == shapes[1][:2] == shapes[2]:
        raise ValueError(f"expected student (B, N, D), teacher (B, N, E) and active (B, N), got {shapes}")
    for whose, tokens in (("student", student), ("teacher", teacher)):
        if not tokens[active].isfinite().all():
            raise ValueError(f"expected finite tokens of the {whose}, got NaN or infinity in active patches")


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
