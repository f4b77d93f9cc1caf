"""The change detector against a pixel-by-pixel reference in exact fractions."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eventfm.simulation.pixel import simulate
from eventfm.simulation.sensor import SensorConfig, brightness_table, initial_distance, threshold_maps


def reference_events(
    frames: np.ndarray, t_us: list[int], config: SensorConfig, clip_id: int
) -> list[tuple[int, int, int, int]]:
    """Return (t, y, x, p) in order: follow each straight piece of brightness from one crossing to the next."""
    _, height, width = frames.shape
    table = brightness_table(config, 256)
    c_pos, c_neg = threshold_maps(config, height, width, clip_id)
    distance = initial_distance(config, c_pos, c_neg, clip_id)
    out = []
    for y in range(height):
        for x in range(width):
            levels = [Fraction(int(table[v])) for v in frames[:, y, x]]
            reference = levels[0] - int(distance[y, x])
            for k in range(len(levels) - 1):
                start, end, span = levels[k], levels[k + 1], t_us[k + 1] - t_us[k]
                while True:
                    if end >= reference + int(c_pos[y, x]):
                        reference, p = reference + int(c_pos[y, x]), 1
                    elif end <= reference - int(c_neg[y, x]):
                        reference, p = reference - int(c_neg[y, x]), 0
                    else:
                        break
                    out.append((ceil(t_us[k] + span * (reference - start) / (end - start)), y, x, p))
    return sorted(out)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    frames=hnp.arrays(np.uint8, (5, 3, 3)),
    steps=st.lists(st.one_of(st.integers(1, 40), st.integers(1, 2**20)), min_size=5, max_size=5),
    c_pos=st.floats(0.01, 1.0),
    c_neg=st.floats(0.01, 1.0),
    sigma=st.sampled_from([0.0, 0.05, 0.4]),
    log=st.sampled_from(["log", "linlog", "identity"]),
    init=st.sampled_from(["zero", "uniform"]),
    gamma=st.sampled_from([None, "srgb", 2.2]),
    clip_id=st.integers(0, 3),
)
def test_micro_videos_match_the_exact_reference(
    frames: np.ndarray,
    steps: list[int],
    c_pos: float,
    c_neg: float,
    sigma: float,
    log: str,
    init: str,
    gamma: str | float | None,
    clip_id: int,
) -> None:
    config = SensorConfig(c_pos=c_pos, c_neg=c_neg, sigma=sigma, log=log, init=init, gamma=gamma, seed=11)
    t_us = np.cumsum(steps)
    events = simulate(frames, t_us, config, clip_id)
    got = list(zip(events.t.tolist(), events.y.tolist(), events.x.tolist(), events.p.tolist(), strict=True))
    assert got == reference_events(frames, t_us.tolist(), config, clip_id)


@pytest.mark.parametrize(
    ("c_pos", "c_neg", "expected"),
    [
        # up by 1: a crossing at each quarter; down from 1, where the reference now is: at 0.5 and at 0
        (0.25, 0.5, [(250, 1), (500, 1), (750, 1), (1000, 1), (1500, 0), (2000, 0)]),
        # a threshold that is reached exactly at the end of an interval counts
        (1.0, 1.0, [(1000, 1), (2000, 0)]),
    ],
)
def test_both_find_what_was_worked_out_by_hand(c_pos: float, c_neg: float, expected: list[tuple[int, int]]) -> None:
    config = SensorConfig(c_pos=c_pos, c_neg=c_neg, sigma=0, log="identity", init="zero")
    frames = np.array([0, 255, 0], np.uint8).reshape(3, 1, 1)
    assert reference_events(frames, [0, 1000, 2000], config, 0) == [(t, 0, 0, p) for t, p in expected]
    events = simulate(frames, np.array([0, 1000, 2000]), config)
    assert list(zip(events.t.tolist(), events.p.tolist(), strict=True)) == expected
