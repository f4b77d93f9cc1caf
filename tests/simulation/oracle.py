"""The pixel model a second time: one pixel after the other, in Python's integers and fractions, slow and plain.

`eventfm.simulation` must give the same events and the same state to the last bit. What is random (maps of the pixels,
noise candidates) comes in from outside; tables and coefficients are worked out here.

Everything that can happen to a pixel is written once, in `Pixel.at`: what it does at one whole microsecond.
`interval_events` asks it at every microsecond (`march=True`), or only at those where something may happen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import ceil, exp, expm1, floor, log, pi
from typing import NamedTuple

import numpy as np

from eventfm.simulation.sensor import SensorConfig

ONE = 1 << 24
KNEE = 20 / 255


class Candidate(NamedTuple):
    """A noise event that may happen: microseconds since the first frame, polarity, and 32 bits for the thinning."""

    elapsed: int
    polarity: int
    draw: int


class Sent(NamedTuple):
    """An event, in the order in which events are sorted; the last two do not order it."""

    t: int
    y: int
    x: int
    p: int
    noise: int


@dataclass(frozen=True)
class Maps:
    """What differs from pixel to pixel, (H, W) integers: thresholds, distance at the first frame, leak (Q42 / us)."""

    c_pos: np.ndarray
    c_neg: np.ndarray
    distance: np.ndarray
    leak: np.ndarray


@dataclass
class Outcome:
    events: list[Sent]
    reference: np.ndarray
    """(H, W) Python integers: without bounds."""
    hold_until: np.ndarray
    photoreceptor: np.ndarray | None
    """(poles, H, W), or None without a photoreceptor."""


# --- light to level ---------------------------------------------------------------------------------------------------


def light(config: SensorConfig, coded: float) -> float:
    if config.gamma is None:
        return coded
    if config.gamma == "srgb":
        return coded / 12.92 if coded <= 0.04045 else ((coded + 0.055) / 1.055) ** 2.4
    return coded**config.gamma


@cache
def level(config: SensorConfig, value: int) -> int:
    """Return the brightness of a 16-bit frame value in units of 2**-24."""
    i = light(config, value / 65535)
    if config.log == "log":
        curve = log(i + config.eps)
    elif config.log == "linlog":
        curve = log(i) if i >= KNEE else log(KNEE) + (i - KNEE) / KNEE
    elif config.log == "linlog_v2e":
        curve = log(255 * i) if 255 * i > 20 else 255 * i * log(20) / 20
    else:
        curve = i
    return round(curve * ONE)


def light_level(config: SensorConfig, i: int) -> float:
    """Return the light of the `i`-th of 256 intensities, of which one stands for each interval."""
    return light(config, (i + 0.5) / 256)


@cache
def smoothing(config: SensorConfig, i: int, duration: int) -> tuple[int, int, int, int]:
    """Return the coefficients (e, g, h, w) of one interval in units of 2**-30."""
    i_mean = 1.0 if config.log == "identity" else light_level(config, i)
    tau_us = 1e6 / (2 * pi * config.cutoff_hz * (i_mean + KNEE) / (1 + KNEE))
    ratio = duration / tau_us
    e, g = exp(-ratio), -expm1(-ratio) / ratio
    return tuple(round(c * 2**30) for c in (e, g, ratio * e, 2 * g - e))


def smoothed(config: SensorConfig, i: int, duration: int, l0: int, l1: int, states: list[int]) -> list[int]:
    """Return the states of the poles at the end of an interval in which the level goes from `l0` to `l1`."""
    e, g, h, w = smoothing(config, i, duration)
    y = l1 + ((e * (states[0] - l0) - g * (l1 - l0) + 2**29) >> 30)
    if config.poles == 1:
        return [y]
    return [y, l1 + ((e * (states[1] - l0) + h * (states[0] - l0) - w * (l1 - l0) + 2**29) >> 30)]


def kept(config: SensorConfig, candidate: Candidate, i: int) -> bool:
    """Return whether the light leaves a candidate; the draw of a hot pixel's is 0."""
    return candidate.draw < round((1 - 0.75 * light_level(config, i)) * 2**32)


# --- one pixel --------------------------------------------------------------------------------------------------------


@dataclass
class Pixel:
    config: SensorConfig
    c_pos: int
    c_neg: int
    reference: int
    hold_until: int = 0

    def at(self, now: int, brightness: Fraction, candidates: Iterable[Candidate]) -> list[tuple[int, int]]:
        """Return (polarity, noise) of the events at `now`, in order; the state moves along."""
        config, sent = self.config, []
        if now == self.hold_until and config.refractory == "hold":
            self.reference += floor(brightness - self.reference)
        while (polarity := self.reached(brightness)) is not None:
            held = now < self.hold_until
            if held and config.refractory != "drop":
                break
            if not held:
                sent.append((polarity, 0))
                self.hold(now)
            if not config.refractory_us or config.refractory != "hold":
                self.reference += self.c_pos if polarity else -self.c_neg
        for candidate in candidates:
            if now < self.hold_until:
                continue
            sent.append((candidate.polarity, 1))
            if config.noise_resets:
                self.reference += floor(brightness - self.reference)
                self.hold(now)
        return sent

    def reached(self, brightness: Fraction) -> int | None:
        distance = brightness - self.reference
        return 1 if distance >= self.c_pos else 0 if distance <= -self.c_neg else None

    def hold(self, now: int) -> None:
        if self.config.refractory_us:
            self.hold_until = now + self.config.refractory_us


def interval_events(
    pixel: Pixel,
    start: int,
    stop: int,
    tau: int,
    duration: int,
    candidates: Sequence[Candidate] = (),
    march: bool = False,
) -> list[tuple[int, int, int]]:
    """Return (offset, polarity, noise) of an interval in which brightness runs straight from `start` to `stop`.

    `start` and `stop` hold the leak already; `tau` is the elapsed time at the start.
    """
    events = []
    s = 0
    while True:
        s = s + 1 if march else next_moment(pixel, start, stop, tau, duration, candidates, s)
        if s > duration:
            return events
        brightness = Fraction(start * (duration - s) + stop * s, duration)
        due = [candidate for candidate in candidates if candidate.elapsed == tau + s]
        events += [(s, *event) for event in pixel.at(tau + s, brightness, due)]


def next_moment(
    pixel: Pixel, start: int, stop: int, tau: int, duration: int, candidates: Sequence[Candidate], s: int
) -> int:
    """Return the first offset after `s` at which something may happen: a crossing, the end of a hold, a candidate."""
    moments = [pixel.hold_until - tau, duration + 1, *(candidate.elapsed - tau for candidate in candidates)]
    if stop != start:
        goal = pixel.reference + (pixel.c_pos if stop > start else -pixel.c_neg)
        moments.append(ceil(Fraction((goal - start) * duration, stop - start)))
    return min(moment for moment in moments if moment > s)


# --- the sensor -------------------------------------------------------------------------------------------------------


def simulate(
    frames: np.ndarray,
    t_us: Sequence[int],
    config: SensorConfig,
    maps: Maps,
    candidates: Mapping[tuple[int, int], Sequence[Candidate]] | None = None,
    march: bool = False,
) -> Outcome:
    """Return what the frames (F, H, W) do; `candidates` are those of the pixel (y, x), in order of time."""
    t_us = [int(t) for t in t_us]
    shape = frames.shape[1:]
    events: list[Sent] = []
    reference, hold_until = np.zeros(shape, object), np.zeros(shape, object)
    photoreceptor = None if config.cutoff_hz is None else np.zeros((config.poles, *shape), object)
    for y, x in np.ndindex(shape):
        leak, mine = int(maps.leak[y, x]), list((candidates or {}).get((y, x), ()))
        values = as_16_bit(frames[:, y, x])
        states = [level(config, values[0])] * config.poles
        pixel = Pixel(config, int(maps.c_pos[y, x]), int(maps.c_neg[y, x]), states[0] - int(maps.distance[y, x]))
        for k in range(len(frames) - 1):
            l0, l1, i = level(config, values[k]), level(config, values[k + 1]), values[k] + values[k + 1] >> 9
            tau, duration = t_us[k] - t_us[0], t_us[k + 1] - t_us[k]
            start, stop = l0, l1
            if photoreceptor is not None:
                start, states = states[-1], smoothed(config, i, duration, l0, l1, states)
                stop = states[-1]
            due = [c for c in mine if tau < c.elapsed <= tau + duration and kept(config, c, i)]
            leaked0, leaked1 = (leak * tau >> 18), (leak * (tau + duration) >> 18)
            for s, p, noise in interval_events(pixel, start + leaked0, stop + leaked1, tau, duration, due, march):
                events.append(Sent(t_us[k] + s, y, x, p, noise))
        reference[y, x], hold_until[y, x] = pixel.reference, pixel.hold_until
        if photoreceptor is not None:
            photoreceptor[:, y, x] = states
    events.sort(key=lambda event: event[:3])  # stable: at one pixel and microsecond the order of happening stays
    return Outcome(events, reference, hold_until, photoreceptor)


def as_16_bit(values: np.ndarray) -> list[int]:
    """Return frame values as integers up to 65535: bytes times 257, floats (full scale is 1) rounded."""
    scale = {"uint8": 257, "uint16": 1}.get(values.dtype.name, 65535)
    return [round(v * scale) for v in values.tolist()]


# --- the readout ------------------------------------------------------------------------------------------------------


def read_out(
    events: Sequence[Sent], delays: Sequence[int], config: SensorConfig, t_first: int, t_last: int
) -> list[Sent]:
    """Return what leaves the sensor until `t_last`, each event delayed by its own of `delays`."""
    tick, out = config.tick_us, []
    late = [event._replace(t=event.t + delay) for event, delay in zip(events, delays, strict=True)]
    passed: dict[int, int] = {}
    for event in sorted(late, key=lambda event: event.t):
        elapsed = -((t_first - event.t) // tick) * tick
        slot = elapsed // 1000
        passed[slot] = passed.get(slot, 0) + 1
        if config.max_rate_hz is not None and passed[slot] > floor(config.max_rate_hz / 1000):
            continue
        if t_first + elapsed <= t_last:
            out.append(event._replace(t=t_first + elapsed))
    return out
