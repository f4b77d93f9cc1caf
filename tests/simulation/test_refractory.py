"""Refractory time: what is lost, what is not, and the spacing of events that follows."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from pixel_clips import IDEAL, columns, run, times, video

from eventfm.simulation.sensor import SensorConfig

MODES = ["hold", "drop", "suppress"]
RAMP = np.array([0, 65535], np.uint16).reshape(2, 1, 1)
LINEAR = replace(IDEAL, log="identity")


@pytest.mark.parametrize("refractory", MODES)
@pytest.mark.parametrize("fields", [{}, {"cutoff_hz": 200.0, "leak_hz": 10.0, "shot_hz": 100.0, "hot_fraction": 0.1}])
@pytest.mark.parametrize("refractory_us", [1, 150, 4000])
def test_no_two_events_of_a_pixel_are_closer(
    refractory: str, fields: dict[str, object], refractory_us: int, backend: str
) -> None:
    config = SensorConfig(c_pos=0.08, c_neg=0.08, refractory=refractory, refractory_us=refractory_us, **fields)
    frames, t = video(), times(12)
    events = run(frames, t, config, backend=backend)
    order = np.lexsort((events.t, events.y.astype(int) * 21 + events.x))
    pixel, stamp = (events.y.astype(int) * 21 + events.x)[order], events.t[order]
    gaps = np.diff(stamp)[np.diff(pixel) == 0]
    assert len(gaps) > 500
    assert refractory_us <= gaps.min() < 1.1 * refractory_us + 20


@pytest.mark.parametrize("refractory", MODES)
def test_zero_time_is_the_same_in_every_mode(refractory: str, backend: str) -> None:
    frames, t = video(), times(12)
    config = SensorConfig(leak_hz=5.0, refractory=refractory)
    expected = columns(run(frames, t, SensorConfig(leak_hz=5.0), backend=backend))
    np.testing.assert_array_equal(columns(run(frames, t, config, backend=backend)), expected)


@pytest.mark.parametrize("duration", [1000, 10_000, 123_457])
@pytest.mark.parametrize("c", [0.03, 0.1, 0.17])
@pytest.mark.parametrize("share", [0.02, 0.08, 0.3])
def test_hold_has_the_closed_form_of_a_ramp(duration: int, c: float, share: float, backend: str) -> None:
    """The first event at a, then one each R + C D / (L1 - L0): 1 + floor((D - a) / (R + C D / (L1 - L0))) of them."""
    refractory_us = round(share * duration)
    config = replace(LINEAR, c_pos=c, c_neg=c, refractory_us=refractory_us)
    first, spacing = c * duration, refractory_us + c * duration
    events = run(RAMP, [0, duration], config, backend=backend)
    due = first + spacing * np.arange(1 + int((duration - first) / spacing))
    late = events.t - due[: len(events)]
    assert ((late >= -1e-3) & (late <= 1 + np.arange(len(events)))).all()
    missed = due[len(events) :]
    assert (missed > duration - len(due)).all(), "lost by the rounding of the stamps, at the very end"
    down = run(RAMP[::-1], [0, duration], config, backend=backend)
    assert len(missed) or len(down) == len(events)
    assert not down.p.any()


def test_hold_of_the_test_ramp(backend: str) -> None:
    """0.1 each 1000 us, held for 500: at 1000, 2500, ... 10 000; seven of them."""
    config = replace(LINEAR, c_pos=0.1, c_neg=0.1, refractory_us=500)
    events = run(RAMP, [0, 10_050], config, backend=backend)
    assert len(events) == 1 + (10_050 - 1005) // 1505 == 7
    assert np.abs(events.t - (1005 + 1505 * np.arange(7))).max() <= 7


def test_hold_forgets_what_happens_meanwhile(backend: str) -> None:
    """A flash that is over when the pixel wakes leaves no event; the change since waking does."""
    config = replace(LINEAR, c_pos=0.2, c_neg=0.2, refractory_us=5000)
    values = [0.0, 0.25, 0.95, 0.25, 0.25, 0.0]
    frames = np.rint(np.array(values) * 65535).astype(np.uint16)[:, None, None]
    t = np.array([0, 1000, 2000, 3000, 7000, 8000])
    by_mode = {mode: run(frames, t, replace(config, refractory=mode), backend=backend) for mode in MODES}
    got = {mode: list(zip(e.t.tolist(), e.p.tolist(), strict=True)) for mode, e in by_mode.items()}
    # woken at 0.25; with the reference on 0.2 all the time; on 0.8 and back on 0.4 in the flash
    assert got == {"hold": [(800, 1), (7800, 0)], "suppress": [(800, 1), (8000, 0)], "drop": [(800, 1), (7201, 0)]}


def test_drop_loses_events_and_suppress_delays_them(backend: str) -> None:
    """One quick step of five thresholds, then rest."""
    config = replace(LINEAR, c_pos=0.19, c_neg=0.19, refractory_us=2500)
    frames = np.array([0, 65535, 65535, 65535], np.uint16)[:, None, None]
    t = np.array([0, 1000, 12_000, 30_000])
    by_mode = {mode: run(frames, t, replace(config, refractory=mode), backend=backend).t.tolist() for mode in MODES}
    assert by_mode["hold"] == [190]
    assert by_mode["drop"] == [190]
    assert by_mode["suppress"] == [190, 2690, 5190, 7690, 10_190]


@pytest.mark.parametrize("refractory", MODES)
@pytest.mark.parametrize("parts", [2, 5, 100])
def test_frames_in_between_change_nothing(refractory: str, parts: int, backend: str) -> None:
    """Also v2e's rule becomes independent of the frame rate: the end of a hold is found within an interval."""
    config = replace(LINEAR, c_pos=0.02, c_neg=0.03, refractory_us=3400, refractory=refractory)
    corners = np.array([[65535, 0], [5, 65535], [40_000, 60_000]]).T[:, :, None] // 100 * 100
    corners = np.concatenate([corners, corners[:1]])
    t = np.array([0, 50_000, 100_000])
    steps = np.arange(parts)[:, None, None]
    pieces = [a + (b - a) // 100 * (100 // parts) * steps for a, b in pairwise(corners)]
    fine = np.concatenate([*pieces, corners[-1:]])
    whole = run(corners.astype(np.uint16), t, config, backend=backend)
    cut = run(fine.astype(np.uint16), np.linspace(0, 100_000, 2 * parts + 1).astype(np.int64), config, backend=backend)
    assert len(whole) == len(cut) > 30
    for y in range(3):
        mine, its = (e.t[e.y == y] for e in (whole, cut))
        assert len(mine) == len(its)
        # levels in between are rounded, and a hold carries a microsecond on to the next event
        assert np.abs(mine - its).max() <= len(mine)
        np.testing.assert_array_equal(whole.p[whole.y == y], cut.p[cut.y == y])
