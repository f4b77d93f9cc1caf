"""What may go wrong between a scene and a network, done to events: loss, noise, defects, another sensor.

All functions take `(events, amount, rng)`, return new events in order of time and inside their sensor, and draw in such
a way that, with one `rng`, a greater amount continues a smaller one: what is lost at 10 % is also lost at 20 %. Only
the noise, whose number of events is a draw itself, is another one for each rate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from eventfm.data.kernels import OUTSIDE, placement
from eventfm.data.transforms import Geometry
from eventfm.events import Events, Sensor

JITTER_PX = 1.0
"""Standard deviation of where a duplicate lies beside its original, pixels."""
JITTER_US = 1000.0
"""Standard deviation of when, microseconds."""
HOT_HZ = 500.0
"""Rate of a hot pixel."""

Apply = Callable[[Events, float, np.random.Generator], Events]


@dataclass(frozen=True)
class Perturbation:
    """One kind of disturbance at five severities; severity 0 changes nothing."""

    what: str
    """What the amount is, in words."""
    unit: str
    none: float
    """The amount that changes nothing."""
    amounts: tuple[float, float, float, float, float]
    """The amount at severity 1 to 5."""
    apply: Apply
    moves: Callable[[Sensor, float], Geometry] | None = None
    """Where it moves pixels: how, so that maps of labels can be moved alike (`Geometry.nearest`, `Geometry.flow`)."""

    def amount(self, severity: int) -> float:
        """Return the amount at `severity` 0 to 5.

        Raises:
            ValueError: There is no such severity.
        """
        if not 0 <= severity <= len(self.amounts):
            raise ValueError(f"expected a severity from 0 (none) to {len(self.amounts)}, got {severity}")
        return self.none if severity == 0 else self.amounts[severity - 1]


def drop(events: Events, share: float, rng: np.random.Generator) -> Events:
    """Return `events` without a `share` of them, anywhere."""
    return _chosen(events, np.sort(rng.permutation(len(events))[_number(share, len(events)) :]))


def change_rate(events: Events, factor: float, rng: np.random.Generator) -> Events:
    """Return `factor` times as many events: fewer at random, or more by duplicates with jitter in place and time.

    Every event has as many duplicates as every other, up to one. They stay inside the sensor and the window.

    Raises:
        ValueError: A negative factor.
    """
    if not factor >= 0:
        raise ValueError(f"expected a factor of 0 or more, got {factor}")
    if factor <= 1:
        return drop(events, 1 - factor, rng)
    source = np.resize(rng.permutation(len(events)), round(factor * len(events)) - len(events))
    jitter = np.rint(rng.normal(size=(len(source), 3)) * (JITTER_PX, JITTER_PX, JITTER_US)).astype(np.int64)
    first, stop = _span(events)
    return _joined(
        events,
        np.clip(events.x[source] + jitter[:, 0], 0, events.sensor.width - 1),
        np.clip(events.y[source] + jitter[:, 1], 0, events.sensor.height - 1),
        np.clip(events.t[source] + jitter[:, 2], first, stop - 1),
        events.p[source],
        None if events.noise is None else events.noise[source],
    )


def add_noise(events: Events, rate_hz: float, rng: np.random.Generator) -> Events:
    """Return `events` and background activity: independent events at `rate_hz` per pixel, of either polarity.

    Their number has a Poisson distribution; the time is that of the window, or else what the events span.

    Raises:
        ValueError: A negative rate.
    """
    if not rate_hz >= 0:
        raise ValueError(f"expected a rate of 0 Hz or more, got {rate_hz}")
    (first, stop), sensor = _span(events), events.sensor
    number = int(rng.poisson(rate_hz * sensor.width * sensor.height * (stop - first) * 1e-6))
    draws = (rng.random((number, 4)) * (sensor.width, sensor.height, stop - first, 2)).astype(np.int64)
    return _joined(events, draws[:, 0], draws[:, 1], first + draws[:, 2], draws[:, 3])


def add_hot_pixels(events: Events, share: float, rng: np.random.Generator) -> Events:
    """Return `events` and those of a `share` of the pixels that fire steadily at `HOT_HZ`; one pixel at least.

    Each has its own phase and one polarity. A share of 0 is no pixel.
    """
    sensor = events.sensor
    num_pixels = sensor.width * sensor.height
    number = max(1, _number(share, num_pixels)) if share > 0 else _number(share, num_pixels)
    first, stop = _span(events)
    place = rng.permutation(num_pixels)[:number]
    phase, polarity = rng.random((number, 2)).T
    period_us = 1e6 / HOT_HZ
    t = ((phase[:, None] + np.arange(np.ceil((stop - first) / period_us))) * period_us).astype(np.int64)
    pixel, beat = np.nonzero(t < stop - first)
    return _joined(
        events, place[pixel] % sensor.width, place[pixel] // sensor.width, first + t[pixel, beat], polarity[pixel] < 0.5
    )


def lose_polarity(events: Events, share: float, rng: np.random.Generator) -> Events:
    """Return `events` of which a `share`, anywhere, is said to be ON, whatever it was."""
    polarity = events.p.copy()
    polarity[rng.permutation(len(events))[: _number(share, len(events))]] = 1
    return replace(events, p=polarity)


def flip_polarity(events: Events, share: float, rng: np.random.Generator) -> Events:
    """Return `events` of which a `share`, anywhere, has the other polarity."""
    polarity = events.p.copy()
    polarity[rng.permutation(len(events))[: _number(share, len(events))]] ^= 1
    return replace(events, p=polarity)


def cut_gap(events: Events, share: float, rng: np.random.Generator) -> Events:
    """Return `events` without those of one stretch of time, a `share` of the window anywhere in it."""
    first, stop = _span(events)
    length = _number(share, stop - first)
    start = first + int(rng.random() * (stop - first - length))
    left, right = np.searchsorted(events.t, (start, start + length))
    return _chosen(events, np.r_[0:left, right : len(events)])


def downsample(events: Events, factor: float, rng: np.random.Generator) -> Events:
    """Return all `events` as a sensor with `factor` times fewer pixels a side has them."""
    return _moved(events, downsampling(events.sensor, factor))


def crop(events: Events, share: float, rng: np.random.Generator) -> Events:
    """Return the `events` of a sensor of the same pixels whose sides are a `share` as long, at the centre."""
    return _moved(events, cropping(events.sensor, share))


def narrow(events: Events, share: float, rng: np.random.Generator) -> Events:
    """Return the `events` of a sensor of another shape: its width is a `share` of what it was, at the centre."""
    return _moved(events, narrowing(events.sensor, share))


def downsampling(sensor: Sensor, factor: float) -> Geometry:
    """Return what `downsample` does to the pixels of `sensor`; no side gets shorter than a pixel.

    Raises:
        ValueError: A factor below 1.
    """
    if not factor >= 1:
        raise ValueError(f"expected a factor of 1 or more, got {factor}")
    out = max(1, round(sensor.height / factor)), max(1, round(sensor.width / factor))
    return Geometry(0, 0, sensor.width, sensor.height, out)


def cropping(sensor: Sensor, share: float) -> Geometry:
    """Return what `crop` does to the pixels of `sensor`; no side gets shorter than a pixel."""
    return _centre(sensor, max(1, _number(share, sensor.width)), max(1, _number(share, sensor.height)))


def narrowing(sensor: Sensor, share: float) -> Geometry:
    """Return what `narrow` does to the pixels of `sensor`; the width is a pixel at least."""
    return _centre(sensor, max(1, _number(share, sensor.width)), sensor.height)


DROP = Perturbation("share of the events that is lost", "share", 0, (0.1, 0.25, 0.5, 0.75, 0.9), drop)
RATE = Perturbation("events for one, by duplicates", "times", 1, (1.25, 1.5, 2, 3, 4), change_rate)
NOISE = Perturbation("background activity of each pixel", "Hz", 0, (0.1, 0.5, 1, 5, 10), add_noise)
HOT_PIXELS = Perturbation(
    "share of the pixels that fire 500 times a second", "share", 0, (0.0001, 0.0005, 0.001, 0.005, 0.01), add_hot_pixels
)
POLARITY_LOSS = Perturbation("share of the events told as ON", "share", 0, (0.2, 0.4, 0.6, 0.8, 1), lose_polarity)
POLARITY_FLIP = Perturbation(
    "share of the events of the wrong polarity", "share", 0, (0.05, 0.1, 0.2, 0.35, 0.5), flip_polarity
)
GAP = Perturbation("share of the window without events", "share", 0, (0.1, 0.25, 0.4, 0.6, 0.8), cut_gap)
RESOLUTION = Perturbation("times fewer pixels a side", "times", 1, (1.25, 1.5, 2, 3, 4), downsample, moves=downsampling)
CROP = Perturbation("share of the sides that is left", "share", 1, (0.9, 0.8, 0.7, 0.6, 0.5), crop, moves=cropping)
WIDTH = Perturbation("share of the width that is left", "share", 1, (0.9, 0.8, 0.7, 0.6, 0.5), narrow, moves=narrowing)


def _number(share: float, of: int) -> int:
    if not 0 <= share <= 1:
        raise ValueError(f"expected a share from 0 to 1, got {share}")
    return round(share * of)


def _span(events: Events) -> tuple[int, int]:
    """Return the window of `events`, `[t0, t1)`, or what they span; of no events without one, no time."""
    if events.window is not None:
        return events.window
    return (int(events.t[0]), int(events.t[-1]) + 1) if len(events) else (0, 0)


def _chosen(events: Events, which: NDArray[np.int64]) -> Events:
    noise = None if events.noise is None else events.noise[which]
    return replace(events, x=events.x[which], y=events.y[which], t=events.t[which], p=events.p[which], noise=noise)


def _joined(
    events: Events,
    x: NDArray[np.int64],
    y: NDArray[np.int64],
    t: NDArray[np.int64],
    p: NDArray[np.generic],
    noise: NDArray[np.uint8] | None = None,
) -> Events:
    """Return `events` with others put among them, which are noise unless `noise` says otherwise."""
    out = replace(
        events,
        x=np.concatenate([events.x, x.astype(np.uint16)]),
        y=np.concatenate([events.y, y.astype(np.uint16)]),
        t=np.concatenate([events.t, t]),
        p=np.concatenate([events.p, p.astype(np.uint8)]),
    )
    if events.noise is not None:
        added = np.ones(len(t), np.uint8) if noise is None else noise
        out = replace(out, noise=np.concatenate([events.noise, added]))
    return _chosen(out, np.argsort(out.t, kind="stable"))


def _centre(sensor: Sensor, width: int, height: int) -> Geometry:
    return Geometry((sensor.width - width) // 2, (sensor.height - height) // 2, width, height, (height, width))


def _moved(events: Events, geometry: Geometry) -> Events:
    rows, columns = geometry.out
    x = placement(events.sensor.width, geometry.left, geometry.width, columns)[events.x]
    y = placement(events.sensor.height, geometry.top, geometry.height, rows)[events.y]
    moved = replace(events, x=x, y=y, sensor=Sensor(columns, rows, events.sensor.name))
    return _chosen(moved, np.flatnonzero((x != OUTSIDE) & (y != OUTSIDE)))
