"""Adaptive windows against counting event by event."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.data.adaptive import active_span
from eventfm.events import Events, Sensor


def active_patches(events: Events, first: int, stop: int, threshold: float) -> float:
    """Return the share of patches that are active in `[first, stop)`, counted one by one."""
    width, height = events.sensor.width, events.sensor.height
    active = total = 0
    for top in range(0, height, 16):
        for left in range(0, width, 16):
            pixels = (min(top + 16, height) - top) * (min(left + 16, width) - left)
            count = sum(
                1
                for x, y, t in zip(events.x.tolist(), events.y.tolist(), events.t.tolist(), strict=True)
                if left <= x < left + 16 and top <= y < top + 16 and first <= t < stop
            )
            active += count >= 1 and count * 256 >= threshold * pixels
            total += 1
    return active / total


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 150),
    st.sampled_from([(40, 20), (32, 32), (5, 70)]),
    st.sampled_from([0.1, 0.3, 0.5, 1.0]),
    st.sampled_from([0.5, 4.0, 9.7]),
    st.booleans(),
)
def test_the_span_reaches_the_share_and_one_microsecond_less_does_not(seed, count, size, share, threshold, backwards):
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(1000, 1000 + rng.integers(1, 300), count))
    x, y = rng.integers(0, size[0], count), rng.integers(0, size[1], count)
    events = Events.checked(x, y, t, x * 0, Sensor(*size), window=(1000, 1300))
    # In exact arithmetic: the smallest number of patches that is at least the share.
    patches = math.ceil(size[0] / 16) * math.ceil(size[1] / 16)
    wanted = max(1, math.ceil(share * patches - 1e-9)) / patches - 1e-9
    span = active_span(events, share, threshold, backwards)
    if span is None:
        assert active_patches(events, 1000, 1300, threshold) < wanted
        return
    first, stop = span
    assert active_patches(events, first, stop, threshold) >= wanted
    shorter = (first + 1, stop) if backwards else (first, stop - 1)
    assert active_patches(events, *shorter, threshold) < wanted
    assert (stop == 1300) if backwards else (first == 1000)


def test_more_motion_gives_shorter_windows() -> None:
    rng = np.random.default_rng(0)
    lengths = []
    for rate in (1, 4):
        t = np.sort(rng.integers(0, 100_000, 20_000 * rate))
        x, y = rng.integers(0, 64, (2, len(t)))
        first, stop = active_span(Events.checked(x, y, t, x * 0, Sensor(64, 64), window=(0, 100_000)), 0.5, 64)
        lengths.append(stop - first)
    assert 3.5 < lengths[0] / lengths[1] < 4.5
