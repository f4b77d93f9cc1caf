"""The low-pass: step response, sine gain and phase, and no dependence on the frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pixel_clips import IDEAL, ONE, columns, run, simulator

from eventfm.simulation.response import brightness_table

LINEAR = replace(IDEAL, log="identity")


def states(frames: np.ndarray, t_us: np.ndarray, config: object, backend: str) -> np.ndarray:
    """Return (F, P, H, W): the poles at every frame."""
    sim = simulator(*frames.shape[1:], config, backend=backend)
    out = []
    for frame, t in zip(frames, t_us, strict=True):
        sim.push(frame[None], np.array([t]))
        out.append(sim.state_dict()["level"])
    return np.stack(out) / ONE


def time_constant_us(cutoff_hz: float, light: float) -> float:
    return 1e6 / (2 * np.pi * cutoff_hz * (light + 20 / 255) / (1 + 20 / 255))


@pytest.mark.parametrize("light", [0.02, 0.2, 0.9])
@pytest.mark.parametrize("dt_us", [100, 1000, 5000])
def test_step_response_is_exponential_with_the_speed_of_the_light(light: float, dt_us: int, backend: str) -> None:
    """After a step within 1 us: 1 - exp(-t/tau) behind one pole, 1 - (1 + t/tau) exp(-t/tau) behind two.

    The microsecond of the step itself, and 16 bits of light, make the tolerance.
    """
    config = replace(IDEAL, cutoff_hz=30.0, poles=2)
    level = (int(light * 256) + 0.5) / 256  # the middle of one of 256 steps of light
    dark, bright = round(level * 0.8 * 65535), round(level * 65535)
    t = np.concatenate([[0, 1], 1 + dt_us * np.arange(1, 60_000 // dt_us + 1)])
    frames = np.full((len(t), 1, 1), bright, np.uint16)
    frames[0] = dark
    y = states(frames, t, config, backend)[1:, :, 0, 0]
    start, end = (brightness_table(config, 65536)[v] / ONE for v in (dark, bright))
    x = (t[1:] - 1) / time_constant_us(30.0, level)
    np.testing.assert_allclose((y[:, 0] - start) / (end - start), 1 - np.exp(-x), atol=2e-4)
    np.testing.assert_allclose((y[:, 1] - start) / (end - start), 1 - (1 + x) * np.exp(-x), atol=2e-4)
    assert x[-1] > 1


def gains_of_a_sine(frame_hz: int, hertz: float, cutoff_hz: float, backend: str) -> np.ndarray:
    """Return amplitude and phase behind each pole as (2,) complex numbers, from three periods after three to settle."""
    num = round(frame_hz / hertz)
    t = np.arange(6 * num + 1) * (1_000_000 // frame_hz)
    frames = np.rint((0.5 + 0.4 * np.sin(2 * np.pi * hertz * t * 1e-6)) * 65535).astype(np.uint16)[:, None, None]
    y = states(frames, t, replace(LINEAR, cutoff_hz=cutoff_hz, poles=2), backend)[-3 * num :, :, 0, 0]
    wave = np.exp(-2j * np.pi * hertz * t[-3 * num :, None] * 1e-6)
    return 2j * np.mean((y - y.mean(axis=0)) * wave, axis=0) / 0.4


@pytest.mark.parametrize("times_cutoff", [0.5, 1.0, 2.0])
def test_gain_and_phase_of_a_sine(times_cutoff: float, backend: str) -> None:
    """H = 1 / (1 + i f / f_c) behind one pole, the square of it behind two."""
    one, two = gains_of_a_sine(200, 5.0, 5.0 / times_cutoff, backend)
    transfer = 1 / (1 + 1j * times_cutoff)
    for got, expected in ((one, transfer), (two, transfer**2)):
        assert abs(abs(got) / abs(expected) - 1) < 0.01
        assert abs(np.degrees(np.angle(got / expected))) < 0.5


@pytest.mark.parametrize("frame_hz", [200, 10_000])
def test_at_the_cutoff_a_sine_loses_3_db_and_45_degrees_a_pole_at_any_frame_rate(frame_hz: int) -> None:
    gains = gains_of_a_sine(frame_hz, 5.0, 5.0, "numba")
    np.testing.assert_allclose(20 * np.log10(np.abs(gains)), [-3.0103, -6.0206], atol=0.05)
    np.testing.assert_allclose(-np.degrees(np.angle(gains)), [45, 90], atol=0.2)


@pytest.mark.parametrize("poles", [1, 2])
def test_frames_at_200_hz_and_at_10_khz_give_the_same_events(poles: int) -> None:
    """A sine of log light, in which the low-pass is slower in the dark."""
    config = replace(IDEAL, c_pos=0.02, c_neg=0.02, cutoff_hz=8.0, poles=poles, log="linlog")
    counts, sums = [], []
    for frame_hz in (200, 10_000):
        t = np.arange(frame_hz + 1) * (1_000_000 // frame_hz)
        light = 0.1 * np.exp(np.sin(2 * np.pi * 2 * t * 1e-6))
        events = run(np.rint(light * 65535).astype(np.uint16)[:, None, None], t, config)
        counts.append(len(events))
        sums.append(np.cumsum(2 * events.p.astype(int) - 1))
    assert min(counts) > 100
    assert abs(counts[1] / counts[0] - 1) <= 0.01 + 1 / counts[0]
    assert abs(sums[0].max() - sums[1].max()) <= 1
    assert abs(sums[0].min() - sums[1].min()) <= 1


@pytest.mark.parametrize("poles", [1, 2])
@pytest.mark.parametrize("parts", [2, 7, 50])
def test_cutting_a_ramp_into_frames_changes_the_state_by_rounding_only(poles: int, parts: int, backend: str) -> None:
    config = replace(LINEAR, cutoff_hz=20.0, poles=poles)
    t = np.arange(parts + 1) * (70_000 // parts)
    start, end = np.array([[0, 63_000]]), np.array([[63_000, 12_600]])
    frames = (start + (end - start) // parts * np.arange(parts + 1)[:, None, None]).astype(np.uint16)
    whole = states(frames[[0, -1]], t[[0, -1]], config, backend)[-1]
    cut = states(frames, t, config, backend)[-1]
    assert np.abs(whole - cut).max() < 2 * (parts + 2) / ONE


@pytest.mark.parametrize("poles", [1, 2])
def test_ramp_events_come_when_the_exact_response_passes_their_level(poles: int, backend: str) -> None:
    """Between frames brightness is a chord of the exponential; it is off by at most D^2/8 of its curvature."""
    duration, tau, c = 400_000, 20_000.0, 0.01
    config = replace(LINEAR, c_pos=c, c_neg=c, cutoff_hz=1e6 / (2 * np.pi * tau), poles=poles)
    late = []
    exact_t = np.arange(duration + 1.0)
    x = exact_t / tau
    ramp = {1: x - 1 + np.exp(-x), 2: x - 2 + (2 + x) * np.exp(-x)}[poles] * tau / duration * (60_000 / 65_535)
    for parts in (50, 100, 400):
        step = duration // parts
        frames = (np.arange(parts + 1) * (60_000 // parts)).astype(np.uint16)[:, None, None]
        events = run(frames, np.arange(parts + 1) * step, config, backend=backend)
        due = np.searchsorted(ramp, (np.arange(len(events)) + 1) * c)
        assert len(events) == int(ramp[-1] / c)
        assert events.p.all()
        error = np.abs(events.t - due)
        slope = np.gradient(ramp) * duration / (60_000 / 65_535)  # one when the lag has settled
        assert (error <= step**2 / (8 * tau) / slope[due] + 2).all()
        settled = due > 12 * tau
        assert settled.sum() > 30
        assert error[settled].max() <= 1
        late.append(error.max())
    assert late[0] > 2 * late[1] > 8 * late[2]


def test_a_constant_scene_stays_silent(backend: str) -> None:
    config = replace(IDEAL, cutoff_hz=100.0, poles=2, c_pos=0.01, c_neg=0.01)
    frames = np.repeat(np.arange(0, 65536, 655, dtype=np.uint16)[None, None], 20, axis=0)
    assert len(run(frames, np.arange(20) * 1000, config, backend=backend)) == 0
    y = states(frames, np.arange(20) * 1000, config, backend)
    assert (y == y[0]).all()


def test_a_cutoff_far_above_the_frame_rate_changes_nothing(backend: str) -> None:
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 65536, (6, 5, 7)).astype(np.uint16)
    t = np.arange(6) * 10_000_000
    plain = run(frames, t, IDEAL, backend=backend)
    filtered = run(frames, t, replace(IDEAL, cutoff_hz=1e6), backend=backend)
    assert len(plain) == len(filtered) > 500
    np.testing.assert_array_equal(columns(plain)[[0, 1, 3]].sum(axis=1), columns(filtered)[[0, 1, 3]].sum(axis=1))
    assert np.abs(np.sort(plain.t) - np.sort(filtered.t)).max() <= 10
