"""What every metric asks of a prediction and a batch before it counts anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor


class NothingMeasuredError(ValueError):
    """Raised when a figure is asked for and nothing that was seen could be measured."""


def entry(values: Mapping[str, Any], key: str, where: str, dims: int) -> Tensor:
    """Return the tensor `values[key]`, which has `dims` dimensions; `where` is "prediction" or "batch".

    Raises:
        ValueError: There is none, or it has another number of dimensions.
    """
    if key not in values:
        raise ValueError(f"expected {key!r} in the {where}, got {sorted(values) or 'nothing'}")
    value: Tensor = values[key]
    if value.ndim != dims:
        raise ValueError(f"expected {key!r} of the {where} with {dims} dimensions, got shape {tuple(value.shape)}")
    return value


def check_maps(predicted: Tensor, shape: Sequence[int], key: str) -> None:
    """Raise ValueError where the map `predicted` has not the shape that the label asks for."""
    if tuple(predicted.shape) != tuple(shape):
        raise ValueError(
            f"expected a prediction {key!r} of shape {tuple(shape)} as the label has it, got "
            f"{tuple(predicted.shape)}; resize predictions to the label before they are measured"
        )


def check_finite(measured: Tensor, key: str) -> None:
    """Raise ValueError where a prediction that would be measured is NaN or infinite."""
    bad = int((~measured.isfinite()).sum())
    if bad:
        raise ValueError(
            f"expected finite values in the prediction {key!r} wherever the label is known, got {bad} that are NaN or "
            "infinite; has training diverged?"
        )


def check_scores(logits: Tensor, num_classes: int | None) -> None:
    """Raise ValueError where `logits` (B, K, ...) hold NaN or K is not `num_classes`."""
    if num_classes is not None and logits.shape[1] != num_classes:
        raise ValueError(f"expected logits of {num_classes} classes, got {logits.shape[1]}")
    bad = int(logits.isnan().sum())
    if bad:
        raise ValueError(f"expected logits without NaN, got {bad} that are NaN; has training diverged?")


def check_labels(wrong: Tensor, key: str, num_classes: int, also: str = "") -> None:
    """Raise ValueError where there are `wrong` (N,) labels, those outside the classes."""
    if wrong.numel():
        raise ValueError(
            f"expected {key!r} from 0 to {num_classes - 1}{also}, got {wrong.numel()} labels outside, such as "
            f"{int(wrong[0])}; does the data have more classes than the model?"
        )
