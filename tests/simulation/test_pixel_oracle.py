"""Events and state against the oracle, to the last bit; and the oracle against cases worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracle import ONE, Candidate, Maps, Pixel, Sent, as_16_bit, interval_events, level, read_out, simulate, smoothed
from pixel_clips import IDEAL, as_sent, candidates_of, maps_of, simulator

from eventfm.simulation.sensor import SensorConfig

QUARTERS = replace(IDEAL, c_pos=0.25, c_neg=0.25, log="identity")
"""On a ramp from 0 to 1 in 1000 us there is a crossing at each 250 us."""
UP, DOWN = (0, ONE), (ONE, 0)


def one_pixel(
    config: SensorConfig, line: tuple[int, int], candidates: tuple[Candidate, ...] = (), march: bool = False
) -> list[tuple[int, int, int]]:
    """Return the events of the first 1000 us of a pixel that has c_pos = c_neg = 1/4."""
    pixel = Pixel(config, ONE // 4, ONE // 4, reference=line[0])
    return interval_events(pixel, *line, 0, 1000, candidates, march)


@pytest.mark.parametrize("march", [False, True])
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [250, 500, 750, 1000]),
        # re-armed at 350, a quarter more at 600; then 700 and 950
        ({"refractory": "hold", "refractory_us": 100}, [250, 600, 950]),
        # held past the end of the interval
        ({"refractory": "hold", "refractory_us": 400}, [250, 900]),
        # shorter than the time from crossing to crossing: as if there were none
        ({"refractory": "suppress", "refractory_us": 100}, [250, 500, 750, 1000]),
        # at 650 the level is 0.4 above the reference of the event at 250
        ({"refractory": "suppress", "refractory_us": 400}, [250, 650]),
        ({"refractory": "suppress", "refractory_us": 250}, [250, 500, 750, 1000]),
        ({"refractory": "suppress", "refractory_us": 251}, [250, 501, 752]),
        # the crossings at 500 and 1000 are lost, that at 750 is not
        ({"refractory": "drop", "refractory_us": 400}, [250, 750]),
        ({"refractory": "drop", "refractory_us": 250}, [250, 500, 750, 1000]),
        ({"refractory": "drop", "refractory_us": 251}, [250, 750]),
    ],
)
def test_oracle_on_a_ramp(fields: dict[str, object], expected: list[int], march: bool) -> None:
    config = replace(QUARTERS, **fields)
    assert one_pixel(config, UP, march=march) == [(t, 1, 0) for t in expected]
    down = one_pixel(config, DOWN, march=march)
    assert [event[1:] for event in down] == [(0, 0)] * len(expected)
    # re-arming rounds the reference down, away from the OFF threshold: a microsecond later after each
    late = np.arange(len(expected)) * (config.refractory == "hold" and config.refractory_us > 0)
    np.testing.assert_array_equal(np.array(down)[:, 0] - late, expected)


@pytest.mark.parametrize("march", [False, True])
@pytest.mark.parametrize(
    ("fields", "noise_at", "expected"),
    [
        # the reference goes to the level at 400: a quarter more at 650 and at 900
        ({}, [400], [(250, 1, 0), (400, 0, 1), (650, 1, 0), (900, 1, 0)]),
        ({"noise_resets": False}, [400], [(250, 1, 0), (400, 0, 1), (500, 1, 0), (750, 1, 0), (1000, 1, 0)]),
        # both candidates are lost: one in the hold after 250, one at the microsecond of an event
        ({"refractory_us": 200}, [400, 700], [(250, 1, 0), (700, 1, 0)]),
        # re-armed at 350; the noise at 400 holds until 500; 750; held until 850
        ({"refractory_us": 100}, [400], [(250, 1, 0), (400, 0, 1), (750, 1, 0)]),
        # noise that changes nothing is still lost in a hold
        (
            {"refractory_us": 100, "noise_resets": False},
            [349, 400, 699],
            [(250, 1, 0), (400, 0, 1), (600, 1, 0), (950, 1, 0)],
        ),
        # the microsecond at which a hold ends is free
        ({"refractory_us": 150}, [400], [(250, 1, 0), (400, 0, 1), (800, 1, 0)]),
        ({"refractory_us": 150, "refractory": "suppress"}, [400], [(250, 1, 0), (400, 0, 1), (650, 1, 0), (900, 1, 0)]),
        ({"refractory_us": 150, "refractory": "drop"}, [400], [(250, 1, 0), (400, 0, 1), (650, 1, 0), (900, 1, 0)]),
        # at the end of the hold the signal comes first, and noise is lost
        ({"refractory_us": 300, "refractory": "suppress"}, [550], [(250, 1, 0), (550, 1, 0), (850, 1, 0)]),
        # the crossing at 800 falls into the hold of the noise
        ({"refractory_us": 300, "refractory": "drop"}, [550], [(250, 1, 0), (550, 0, 1)]),
    ],
)
def test_oracle_with_noise(
    fields: dict[str, object], noise_at: list[int], expected: list[tuple[int, int, int]], march: bool
) -> None:
    candidates = tuple(Candidate(t, 0, 0) for t in noise_at)
    assert one_pixel(replace(QUARTERS, **fields), UP, candidates, march) == expected


def test_oracle_sends_noise_after_the_signal_of_its_microsecond() -> None:
    noise = (Candidate(250, 0, 0), Candidate(250, 1, 0))
    assert one_pixel(QUARTERS, UP, noise)[:3] == [(250, 1, 0), (250, 0, 1), (250, 1, 1)]


def test_oracle_on_leak() -> None:
    """With 1e-6 nat/us a quarter nat takes 0.25 s, whatever the frames."""
    rate = 2**42 // 10**6
    maps = Maps(*(np.full((1, 1), v, object) for v in (ONE // 4, ONE // 4, 0, rate)))
    for cuts in ([5, 1_000_005], [5, 6, 300_000, 300_001, 750_004, 1_000_005]):
        got = simulate(np.zeros((len(cuts), 1, 1), np.uint8), cuts, QUARTERS, maps).events
        assert [event[1:] for event in got] == [(0, 0, 1, 0)] * 3  # the fourth is due 1 us after the end
        assert [event.t for event in got] == [250_006, 500_006, 750_006]


def test_oracle_photoreceptor() -> None:
    """One time constant after a step of one nat: 1 - 1/e, and 1 - 2/e behind two equal poles."""
    config = replace(QUARTERS, cutoff_hz=1e6 / (2 * np.pi * 1000), poles=2)
    y, z = smoothed(config, 0, 1000, ONE, ONE, [0, 0])
    assert abs(y / ONE - (1 - np.exp(-1))) < 1e-7
    assert abs(z / ONE - (1 - 2 * np.exp(-1))) < 1e-7
    assert smoothed(replace(config, poles=1), 0, 1000, ONE, ONE, [0]) == [y]
    # long after the start of a ramp one pole lags by one time constant, two poles by two
    y, z = smoothed(config, 0, 100_000, 0, 100 * ONE, [0, 0])
    assert abs(y / ONE - 99) < 1e-6
    assert abs(z / ONE - 98) < 1e-6


def test_oracle_levels() -> None:
    assert level(IDEAL, 65535) == round(np.log(1.001) * ONE)
    assert level(QUARTERS, 13107) == round(0.2 * ONE)
    v2e = replace(IDEAL, log="linlog_v2e")
    assert level(v2e, 65535) == round(np.log(255) * ONE)
    assert level(v2e, 257 * 10) == round(np.log(20) / 2 * ONE)
    assert level(replace(IDEAL, log="linlog"), 0) == round((np.log(20 / 255) - 1) * ONE)
    assert as_16_bit(np.array([0, 1, 255], np.uint8)) == [0, 257, 65535]
    assert as_16_bit(np.array([0, 0.5, 1], np.float32)) == [0, 32768, 65535]


def test_oracle_readout() -> None:
    config = SensorConfig(tick_us=10, max_rate_hz=2000.0)
    events = [Sent(1003, 0, 0, 1, 0), Sent(1004, 0, 1, 1, 0), Sent(1020, 0, 0, 0, 0), Sent(2300, 0, 0, 0, 0)]
    # in order 1004 + 0, 1003 + 3, 1020: two in the first millisecond; the last is later than the last frame
    assert read_out(events, [3, 0, 5, 1], config, 3, 2300) == [Sent(1013, 0, 1, 1, 0), Sent(1013, 0, 0, 1, 0)]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    start=st.integers(-3 * ONE, 3 * ONE),
    stop=st.integers(-3 * ONE, 3 * ONE),
    reference=st.floats(-1, 1),
    thresholds=st.tuples(st.integers(ONE // 100, ONE), st.integers(ONE // 100, ONE)),
    tau=st.integers(0, 10**9),
    duration=st.integers(1, 200),
    refractory_us=st.sampled_from([0, 1, 7, 30, 150]),
    refractory=st.sampled_from(["hold", "drop", "suppress"]),
    hold=st.integers(0, 80),
    noise=st.lists(st.tuples(st.integers(1, 200), st.integers(0, 1)), max_size=4),
    noise_resets=st.booleans(),
)
def test_oracle_finds_the_same_when_it_looks_at_every_microsecond(
    start: int,
    stop: int,
    reference: float,
    thresholds: tuple[int, int],
    tau: int,
    duration: int,
    refractory_us: int,
    refractory: str,
    hold: int,
    noise: list[tuple[int, int]],
    noise_resets: bool,
) -> None:
    config = replace(IDEAL, refractory_us=refractory_us, refractory=refractory, noise_resets=noise_resets)
    candidates = [Candidate(tau + s, p, 0) for s, p in sorted(noise) if s <= duration]
    hold_until = tau + hold if refractory_us and hold else 0
    # a pixel is between its thresholds at the start; one that is held and does not follow may be anywhere
    anywhere = hold_until > tau and refractory != "drop"
    room = 2 * ONE if anywhere else thresholds[0] if reference < 0 else thresholds[1]
    first = start + int(reference * (room - 1))
    pixels = [Pixel(config, *thresholds, first, hold_until) for _ in range(2)]
    marched, jumped = (
        interval_events(pixel, start, stop, tau, duration, candidates, march)
        for pixel, march in zip(pixels, (True, False), strict=True)
    )
    assert marched == jumped
    assert pixels[0] == pixels[1]


@st.composite
def clips(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Return 5 frames of 3x3 pixels of any dtype and their times, of intervals short, long and mixed."""
    values = draw(hnp.arrays(np.uint16, (5, 3, 3)))
    if draw(st.booleans()):
        values = np.where(values < 2**15, values[:1], values)  # some pixels rest
    dtype = draw(st.sampled_from(["uint8", "uint16", "float32", "float64"]))
    frames = {"uint8": (values >> 8).astype(np.uint8), "uint16": values}.get(dtype, (values / 65535).astype(dtype))
    steps = st.integers(1, 40), st.integers(1, 5000), st.integers(1, 2**20)
    durations = draw(st.lists(draw(st.sampled_from([*steps, st.one_of(*steps)])), min_size=4, max_size=4))
    t_first = draw(st.sampled_from([0, 17, 1_790_000_000_000_000]))
    return frames, t_first + np.cumsum([0, *durations])


@st.composite
def sensors(draw: st.DrawFn, length_us: int) -> SensorConfig:
    """Return a sensor of which everything may happen several times within `length_us`."""
    often = 1e6 / length_us

    def some(strategy: st.SearchStrategy[float], none: float | None) -> float | None:
        return draw(st.one_of(st.just(none), strategy))

    c_pos = draw(st.floats(0.01, 1.0))
    return SensorConfig(
        c_pos=c_pos,
        c_neg=draw(st.floats(0.01, 1.0)),
        sigma=draw(st.sampled_from([0.0, 0.05, 0.4])),
        eps=draw(st.sampled_from([1e-3, 0.03])),
        gamma=draw(st.sampled_from([None, "srgb", 2.2])),
        init=draw(st.sampled_from(["zero", "uniform"])),
        log=draw(st.sampled_from(["log", "linlog", "linlog_v2e", "identity"])),
        refractory_us=some(st.integers(1, length_us), 0),
        refractory=draw(st.sampled_from(["hold", "drop", "suppress"])),
        cutoff_hz=some(st.sampled_from([0.03, 0.3, 3.0, 30.0]).map(lambda n: min(n * often, 1e6)), None),
        poles=draw(st.sampled_from([1, 2])),
        leak_hz=some(st.sampled_from([1, 5]).map(lambda n: min(n * often / (c_pos + 1), 1e3)), 0.0),
        leak_spread=draw(st.sampled_from([0.0, 0.1, 0.3])),
        shot_hz=some(st.sampled_from([1, 10]).map(lambda n: min(n * often, 1e5)), 0.0),
        hot_fraction=draw(st.sampled_from([0.0, 0.3])),
        hot_hz=min(3 * often, 1e5),
        dead_fraction=draw(st.sampled_from([0.0, 0.2])),
        noise_resets=draw(st.booleans()),
        seed=draw(st.integers(0, 3)),
    )


@settings(max_examples=250, deadline=None, derandomize=True)
@given(data=st.data(), clip_id=st.integers(0, 3), cuts=st.sets(st.integers(1, 4)), restart=st.booleans())
def test_micro_videos_match_the_oracle(
    backend: str, data: st.DataObject, clip_id: int, cuts: set[int], restart: bool
) -> None:
    """In any chunks, also when a fresh simulator takes over the state after each of them."""
    frames, t_us = data.draw(clips())
    config = data.draw(sensors(int(t_us[-1] - t_us[0])))
    check_against_the_oracle(backend, frames, t_us, config, clip_id, cuts, restart)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    fifths=hnp.arrays(np.uint16, (5, 3, 3), elements=st.integers(0, 5)),
    durations=st.lists(st.sampled_from([10, 20, 50]), min_size=4, max_size=4),
    c_neg=st.sampled_from([0.2, 0.4]),
    refractory_us=st.sampled_from([0, 5, 10, 15, 20, 30, 60]),
    refractory=st.sampled_from(["hold", "drop", "suppress"]),
    shot_hz=st.sampled_from([0.0, 5000.0]),
    cuts=st.sets(st.integers(1, 4)),
)
def test_levels_and_times_that_are_just_reached_match_the_oracle(
    backend: str,
    fifths: np.ndarray,
    durations: list[int],
    c_neg: float,
    refractory_us: int,
    refractory: str,
    shot_hz: float,
    cuts: set[int],
) -> None:
    """Thresholds are met exactly, at the ends of intervals and of holds."""
    config = replace(IDEAL, log="identity", c_neg=c_neg, refractory_us=refractory_us, refractory=refractory)
    config = replace(config, shot_hz=shot_hz)
    check_against_the_oracle(backend, fifths * 13107, np.cumsum([0, *durations]), config, 0, cuts, restart=False)


def check_against_the_oracle(
    backend: str,
    frames: np.ndarray,
    t_us: np.ndarray,
    config: SensorConfig,
    clip_id: int,
    cuts: set[int],
    restart: bool,
) -> None:
    candidates = candidates_of(config, 3, 3, clip_id, int(t_us[-1] - t_us[0]))
    expected = simulate(frames, t_us, config, maps_of(config, 3, 3, clip_id), candidates)

    events, sim = [], simulator(3, 3, config, clip_id, backend)
    for chunk in np.split(np.arange(5), sorted(cuts)):
        events += as_sent(sim.push(frames[chunk], t_us[chunk]))
        state = sim.state_dict()
        if restart:
            sim = simulator(3, 3, config, clip_id, backend)
            sim.load_state_dict(state)
    assert events == expected.events
    # a reference has 32 bits: with leak it wraps around, as the leak itself does
    reference = ((expected.reference + 2**31) % 2**32 - 2**31).astype(np.int32)
    np.testing.assert_array_equal(state["reference"], reference)
    if config.refractory_us:
        np.testing.assert_array_equal(state["hold"], expected.hold_until.astype(np.int64))
    if config.cutoff_hz:
        np.testing.assert_array_equal(state["level"], expected.photoreceptor.astype(np.int32))
    assert (state["level"] is None) == (config.cutoff_hz is None)


@pytest.mark.parametrize(
    ("fields", "fifths", "expected"),
    [
        # up by exactly one threshold, then exactly back
        ({}, [0, 1, 0], [(1000, 1), (2000, 0)]),
        ({}, [0, 2, 2, 0], [(500, 1), (1000, 1), (2500, 0), (3000, 0)]),
        # held at the crossing at 1000, and at rest just on the threshold when it wakes
        ({"refractory_us": 600, "refractory": "suppress"}, [0, 2, 2], [(500, 1), (1100, 1)]),
        ({"refractory_us": 600, "refractory": "suppress"}, [2, 0, 0], [(500, 0), (1100, 0)]),
        ({"refractory_us": 500, "refractory": "suppress"}, [0, 2, 2], [(500, 1), (1000, 1)]),
        # wakes on the way down, just on the ON threshold
        ({"refractory_us": 1500, "refractory": "suppress"}, [1, 0, 2, 0], [(1000, 0), (2500, 1)]),
        ({"refractory_us": 500, "refractory": "drop"}, [0, 2, 2], [(500, 1), (1000, 1)]),
        ({"refractory_us": 501, "refractory": "drop"}, [0, 2, 2], [(500, 1)]),
        # wakes at the end of an interval and takes what it sees there
        ({"refractory_us": 500}, [0, 2, 3], [(500, 1), (2000, 1)]),
        ({"refractory_us": 501}, [0, 2, 3], [(500, 1)]),
    ],
)
def test_both_find_what_was_worked_out_by_hand(
    fields: dict[str, object], fifths: list[int], expected: list[tuple[int, int]], backend: str
) -> None:
    config = replace(IDEAL, log="identity", **fields)
    frames = (13107 * np.array(fifths, np.uint16)).reshape(-1, 1, 1)
    t_us = 1000 * np.arange(len(frames))
    events = simulator(1, 1, config, backend=backend).push(frames, t_us)
    assert [(event.t, event.p) for event in as_sent(events)] == expected
    assert as_sent(events) == simulate(frames, t_us, config, maps_of(config, 1, 1)).events
