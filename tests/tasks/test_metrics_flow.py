"""Flow metrics against a loop over pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from eventfm.tasks.metric_checks import NothingMeasuredError
from eventfm.tasks.metrics import build_metrics


def measured(flow: np.ndarray, label: np.ndarray, seen: np.ndarray) -> dict[str, float]:
    metrics = build_metrics("flow")
    batch = {"flow": torch.from_numpy(label), "seen": torch.from_numpy(seen)}
    metrics.update({"flow": torch.from_numpy(flow)}, batch)
    return metrics.compute()


def by_hand(flow: np.ndarray, label: np.ndarray, where: np.ndarray) -> dict[str, float]:
    """Return the figures over the pixels `where` (B, H, W), one after the other."""
    rows = []
    for i, y, x in np.argwhere(where):
        (u, v), (a, b) = flow[i, :, y, x].astype(float), label[i, :, y, x].astype(float)
        if math.isnan(a) or math.isnan(b):
            continue
        error = math.hypot(u - a, v - b)
        cosine = (u * a + v * b + 1) / math.sqrt((u * u + v * v + 1) * (a * a + b * b + 1))
        large = error > 3 and error / math.hypot(a, b) > 0.05
        rows.append([error, error > 1, error > 2, error > 3, large, math.degrees(math.acos(min(cosine, 1.0)))])
    names = ("epe", "outliers_1px", "outliers_2px", "outliers_3px", "outliers_fl", "angular_error")
    return dict(zip(names, np.mean(np.array(rows, float), 0).tolist(), strict=True))


def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return prediction, label with unknown pixels (one part only at some), and events; errors of all sizes."""
    generator = np.random.default_rng(0)
    label = generator.normal(0, 40, (3, 2, 8, 9)).astype(np.float32)
    flow = label + generator.normal(0, 2.2, label.shape).astype(np.float32)
    label[generator.random(label.shape) < 0.15] = np.nan
    return flow, label, (generator.random((3, 8, 9)) < 0.4).astype(np.float32)


def test_against_a_loop_over_pixels() -> None:
    flow, label, seen = drawn()
    figures = measured(flow, label, seen)
    everywhere = by_hand(flow, label, np.ones_like(seen, bool))
    events = {f"{name}_events": value for name, value in by_hand(flow, label, seen > 0).items()}
    assert figures == pytest.approx(everywhere | events, abs=1e-6)
    assert 0.02 < figures["outliers_fl"] < figures["outliers_3px"] - 0.02, "the 5 % must decide at some pixels"


def test_borders_of_outliers_are_not_outliers() -> None:
    """Errors of 1, 2, 3 and 4 pixels of a flow of length 80, of which 4 are 5 %: none is more than its limit."""
    label = np.zeros((1, 2, 1, 4), np.float32)
    label[0, 0] = 80
    flow = label + np.array([1, 2, 3, 4], np.float32)
    flow[0, 1] = 0
    figures = measured(flow, label, np.ones((1, 1, 4), np.float32))
    assert [figures[f"outliers_{kind}"] for kind in ("1px", "2px", "3px", "fl")] == [0.75, 0.5, 0.25, 0.0]


def test_no_motion_has_outliers_too() -> None:
    """A length of 0 divides nothing: any error above 3 pixels is more than 5 % of it."""
    label = np.zeros((1, 2, 1, 2), np.float32)
    flow = label.copy()
    flow[0, 0, 0, 1] = 3.5
    assert measured(flow, label, np.ones((1, 1, 2), np.float32))["outliers_fl"] == 0.5


def test_small_angles_keep_their_digits() -> None:
    """1e-5 pixels beside (0, 0, 1) are 1e-5 radians; the cosine of that is 1 in float32 and coarse in float64."""
    label = np.zeros((1, 2, 1, 1), np.float32)
    figures = measured(label + np.array([1e-5, 0], np.float32)[:, None, None], label, np.ones((1, 1, 1), np.float32))
    assert figures["angular_error"] == pytest.approx(math.degrees(1e-5), rel=1e-6)
    assert measured(label, label, np.ones((1, 1, 1), np.float32))["angular_error"] == 0.0


def test_right_angle() -> None:
    label = np.zeros((1, 2, 1, 1), np.float32)
    label[0, 0] = 1
    flow = np.array([-1, 0], np.float32).reshape(1, 2, 1, 1)
    assert measured(flow, label, np.ones((1, 1, 1), np.float32))["angular_error"] == pytest.approx(90.0)


def test_figures_with_events_are_left_out_where_there_is_none() -> None:
    flow, label, seen = drawn()
    assert set(measured(flow, label, 0 * seen)) == {
        "epe", "outliers_1px", "outliers_2px", "outliers_3px", "outliers_fl", "angular_error"
    }  # fmt: skip


def test_nothing_known_is_said() -> None:
    flow, label, seen = drawn()
    with pytest.raises(NothingMeasuredError, match="no pixel has a known flow"):
        measured(flow, np.full_like(label, np.nan), seen)


def test_a_prediction_may_be_anything_where_the_label_is_unknown_only() -> None:
    flow, label, seen = drawn()
    before = measured(flow, label, seen)
    unknown = np.isnan(label).any(1)
    wild = flow.copy()
    wild.transpose(0, 2, 3, 1)[unknown] = np.nan
    assert measured(wild, label, seen) == before
    y, x = np.argwhere(~unknown[1])[0]
    wild[1, 0, y, x] = np.inf
    with pytest.raises(ValueError, match=r"finite values in the prediction 'flow' .* got 1 that"):
        measured(wild, label, seen)
