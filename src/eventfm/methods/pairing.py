"""Which of a teacher's tokens belong to which position of the student."""

from __future__ import annotations

from math import sqrt

from torch import Tensor

from eventfm.models.token_grid import crop_tokens
from eventfm.protocols import Batch, Teacher

Grid = tuple[int, int]


def auto_patch(teacher_grid: Grid, student_grid: Grid) -> int:
    """Return how many of the teacher's tokens a side lie on one of the student's, rounded, at least 1.

    Both see the whole picture. Where the two axes differ, as with a square teacher beside an oblong student, it is
    the root of the ratio of the numbers of tokens.
    """
    return max(1, round(sqrt(teacher_grid[0] * teacher_grid[1] / (student_grid[0] * student_grid[1]))))


def taught_tokens(batch: Batch, teacher: Teacher, grid: Grid) -> Tensor:
    """Return what `teacher` says of the part that the student sees, (B, rows * cols, D) float32 over `grid`.

    Raises:
        ValueError: The batch has no tokens and no picture, no `view`, or another teacher's tokens.
    """
    tokens = teacher_tokens(batch, teacher)
    if "view" not in batch:
        raise ValueError(f"expected 'view' in a batch, by which teacher tokens are cropped, got {sorted(batch)}")
    return crop_tokens(tokens, teacher.grid, batch["view"], grid)


def teacher_tokens(batch: Batch, teacher: Teacher) -> Tensor:
    """Return what `teacher` says of the whole pictures, (B, N, D) float32 without gradient, in raster order.

    Raises:
        ValueError: The batch has no tokens and no picture, or another teacher's tokens.
    """
    if "teacher_tokens" in batch:
        tokens = batch["teacher_tokens"]
    elif "teacher_picture" in batch:
        tokens = teacher(batch["teacher_picture"])
    else:
        raise ValueError(
            f"expected 'teacher_tokens' or 'teacher_picture' in a batch, got {sorted(batch)}; a teacher needs data "
            "with pictures or frames"
        )
    expected = (len(batch["input"]), teacher.grid[0] * teacher.grid[1], teacher.dim)
    if tokens.shape != expected:
        raise ValueError(
            f"expected teacher tokens {expected}, got {tuple(tokens.shape)}; were they made by another teacher?"
        )
    return tokens.detach().float()


def check_published(teacher_grid: Grid, student_grid: Grid, patch: int) -> None:
    """Refuse grids whose tokens cannot be paired by number.

    Raises:
        ValueError: The teacher's grid is not `patch` times the student's.
    """
    (rows, cols), (wanted_rows, wanted_cols) = teacher_grid, (student_grid[0] * patch, student_grid[1] * patch)
    if (rows, cols) != (wanted_rows, wanted_cols):
        raise ValueError(
            f"as_published pairs tokens by number: expected a teacher grid of {wanted_rows}x{wanted_cols} for the "
            f"student's {student_grid[0]}x{student_grid[1]} with teacher_patch {patch}, got {rows}x{cols}; change "
            "data.image_size, the teacher's input_size or teacher_patch, or leave as_published off"
        )
