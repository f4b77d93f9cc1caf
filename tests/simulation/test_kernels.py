"""The divisions of the kernels are exact at the ends of their ranges, where float64 guesses are at their worst."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eventfm.simulation.kernels import _event_time, _level_at, drift

RISES = st.integers(1, 2**31 - 1)
DURATIONS = st.integers(1, 2**30 - 1)


@st.composite
def crossings(draw: st.DrawFn) -> tuple[int, int, int]:
    """Return (way, rise, duration) with the quotient way * duration / rise often a whole number, or just beside one."""
    rise, duration = draw(RISES), draw(DURATIONS)
    time = draw(st.integers(1, duration))
    way = min(max(rise * time // duration + draw(st.integers(-1, 1)), 1), rise)
    return way, rise, duration


@given(crossings())
@example((2**31 - 1, 2**31 - 1, 2**30 - 1))
@example((1, 2**31 - 1, 1))
@settings(max_examples=2000, deadline=None)
def test_event_times_are_the_ceiling(case: tuple[int, int, int]) -> None:
    way, rise, duration = case
    assert _event_time(way, rise, 1.0 / rise, duration) == -(-way * duration // rise)


@given(st.integers(-(2**31) + 1, 2**31 - 1), DURATIONS, st.data())
@settings(max_examples=2000, deadline=None)
def test_levels_are_the_floor(rise: int, duration: int, data: st.DataObject) -> None:
    exact = data.draw(st.booleans())
    time = data.draw(st.integers(0, duration))
    if exact:  # a whole quotient: duration divides the product
        rise = rise // duration * duration
    assert _level_at(rise, time, duration, 1.0 / duration) == rise * time // duration


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**52))
@settings(max_examples=500, deadline=None)
def test_drift_is_exact_modulo_32_bits(leak: int, elapsed: int) -> None:
    assert int(drift(np.uint32(leak), elapsed)) % 2**32 == (leak * elapsed >> 18) % 2**32
