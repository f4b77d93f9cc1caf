"""Depth metrics against numpy, and what alignment takes out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from eventfm.tasks.metric_checks import NothingMeasuredError
from eventfm.tasks.metrics import build_metrics


def measured(depth: np.ndarray, label: np.ndarray, **options: object) -> dict[str, float]:
    metrics = build_metrics("depth", **options)  # type: ignore[arg-type]
    metrics.update({"depth": torch.from_numpy(depth)}, {"depth": torch.from_numpy(label)})
    return metrics.compute()


def by_hand(depths: list[np.ndarray], labels: list[np.ndarray]) -> dict[str, float]:
    """Return the figures of the measured pixels of all samples, one after the other."""
    rows, near = [], {10: [], 20: [], 30: []}
    for d, t in zip(np.concatenate(depths).tolist(), np.concatenate(labels).tolist(), strict=True):
        worst = max(d / t, t / d)
        rows.append(
            [abs(d - t) / t, (d - t) ** 2, (math.log(d) - math.log(t)) ** 2, *(worst < 1.25**k for k in (1, 2, 3))]
        )
        for metres, errors in near.items():
            if t <= metres:
                errors.append(abs(d - t))
    means = np.mean(np.array(rows, float), 0)
    figures = {"abs_rel": means[0], "rmse": means[1] ** 0.5, "rmse_log": means[2] ** 0.5}
    figures |= {f"delta{k}": means[2 + k] for k in (1, 2, 3)}
    return figures | {f"mae_{metres}m": np.mean(errors) for metres, errors in near.items()}


def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Return prediction and label, both (4, 1, 9, 10), with unknown pixels as NaN, 0 and infinity."""
    generator = np.random.default_rng(0)
    label = np.exp(generator.uniform(np.log(2), np.log(120), (4, 1, 9, 10))).astype(np.float32)
    depth = (label * np.exp(generator.normal(0, 0.35, label.shape))).astype(np.float32)
    chance = generator.random(label.shape)
    label[chance < 0.3] = np.nan
    label[chance < 0.1] = 0
    label[chance < 0.05] = np.inf
    return depth, label


def known_of(label: np.ndarray, limit: float = np.inf) -> list[np.ndarray]:
    return [np.isfinite(t) & (t > 0) & (t <= limit) for t in label]


def picked(values: np.ndarray, masks: list[np.ndarray]) -> list[np.ndarray]:
    return [row[mask].astype(np.float64) for row, mask in zip(values, masks, strict=True)]


def test_against_a_loop_over_pixels() -> None:
    depth, label = drawn()
    masks = known_of(label)
    assert measured(depth, label) == pytest.approx(by_hand(picked(depth, masks), picked(label, masks)), abs=1e-6)


def test_farther_than_the_limit_is_not_measured_and_predictions_are_limited() -> None:
    depth, label = drawn()
    masks = known_of(label, 50)
    depths = [np.minimum(d, 50) for d in picked(depth, masks)]
    assert any((d == 50).any() for d in depths)
    assert measured(depth, label, max_depth=50.0) == pytest.approx(by_hand(depths, picked(label, masks)), abs=1e-6)


def test_median_alignment_against_numpy() -> None:
    depth, label = drawn()
    masks = known_of(label, 80)
    labels, raw = picked(label, masks), picked(depth, masks)
    assert {len(t) % 2 for t in labels} == {0, 1}, "both kinds of median"
    depths = [np.minimum(d * np.median(t) / np.median(d), 80) for d, t in zip(raw, labels, strict=True)]
    figures = measured(depth, label, align="median", max_depth=80.0)
    assert figures == pytest.approx(by_hand(depths, labels), abs=1e-6)


def test_scale_and_shift_against_numpy() -> None:
    """Errors are small, so that those of the farthest pixels go beyond the limit and are cut there."""
    noise, label = drawn()
    masks = known_of(label, 20)
    depth = np.where(np.stack(masks), 3 * label + 0.1 * noise, noise)
    labels, depths = picked(label, masks), []
    for d, t in zip(picked(depth, masks), labels, strict=True):
        a, b = np.linalg.lstsq(np.stack([1 / d, np.ones_like(d)], 1), 1 / t, rcond=None)[0]
        depths.append(1 / np.maximum(a / d + b, 1 / 20))
    figures = measured(depth, label, align="scale_shift", max_depth=20.0)
    assert figures == pytest.approx(by_hand(depths, labels), abs=1e-6)
    assert any((d == 20).any() for d in depths), "the limit must matter somewhere"


def test_alignment_takes_out_what_it_names_sample_by_sample() -> None:
    """Each sample has a scale and a shift of its own."""
    _, label = drawn()
    factor = np.array([0.01, 0.5, 3, 200], np.float32)[:, None, None, None]
    filled = np.where(np.isfinite(label) & (label > 0), label, 7).astype(np.float64)
    scaled = measured((filled * factor).astype(np.float32), label, align="median")
    assert scaled["rmse"] == pytest.approx(0, abs=1e-4)
    inverse = factor / filled + 0.3
    shifted = (1 / inverse).astype(np.float64)
    assert measured(shifted, label, align="scale_shift", max_depth=200.0)["rmse"] == pytest.approx(0, abs=1e-4)
    assert measured(shifted, label, align="median")["rmse"] > 1


def test_a_prediction_that_is_the_same_everywhere_is_fitted_by_the_mean() -> None:
    _, label = drawn()
    (mask,), label = known_of(label[:1]), label[:1]
    (true,) = picked(label, [mask])
    constant = np.full_like(label, 0.7)
    figures = measured(constant, label, align="scale_shift", max_depth=200.0)
    assert figures == pytest.approx(by_hand([np.full_like(true, 1 / np.mean(1 / true))], [true]), rel=1e-6)


def test_predictions_of_zero_are_raised_to_a_millimetre() -> None:
    label = np.full((1, 1, 1, 2), 2.0, np.float32)
    figures = measured(np.array([[[[0.0, -3.0]]]], np.float32), label)
    assert figures["rmse_log"] == pytest.approx(math.log(2000))
    assert figures["abs_rel"] == pytest.approx(1.999 / 2)


def test_a_distance_that_nothing_is_within_is_left_out() -> None:
    label = np.full((1, 1, 1, 2), 20.0, np.float32)
    figures = measured(label + 1, label)
    assert "mae_10m" not in figures
    assert figures["mae_20m"] == figures["mae_30m"] == 1.0


def test_delta_leaves_out_its_limit() -> None:
    label = np.array([[[[4.0, 4.0]]]], np.float32)
    assert measured(np.array([[[[5.0, 4.9]]]], np.float32), label)["delta1"] == 0.5


@pytest.mark.parametrize("align", ["none", "median", "scale_shift"])
def test_samples_without_labels_add_nothing(align: str) -> None:
    depth, label = drawn()
    options = {"align": align, "max_depth": 80.0}
    without = measured(depth[1:], label[1:], **options)
    label[0] = np.nan
    assert measured(depth, label, **options) == without
    with pytest.raises(NothingMeasuredError, match="no pixel has a known depth of at most 80 m"):
        measured(depth, np.full_like(label, 81), **options)


def test_refusals() -> None:
    depth, label = drawn()
    y, x = np.argwhere(known_of(label)[0][0])[0]
    wild = depth.copy()
    wild[0, 0, y, x] = np.nan
    with pytest.raises(ValueError, match=r"finite values in the prediction 'depth' .* got 1 that"):
        measured(wild, label)
    with pytest.raises(ValueError, match=r"median is more than 0, got -"):
        measured(-depth, label, align="median")
    wild[0, 0, y, x] = 0
    with pytest.raises(ValueError, match=r"depths of more than 0, which have an inverse, got 0"):
        measured(wild, label, align="scale_shift", max_depth=80.0)
    with pytest.raises(ValueError, match="give max_depth"):
        build_metrics("depth", align="scale_shift")
    with pytest.raises(ValueError, match="one of none, median, scale_shift, got 'mean'"):
        build_metrics("depth", align="mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"max_depth of more than 0.001 metres, got -1"):
        build_metrics("depth", max_depth=-1)
