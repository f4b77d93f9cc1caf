"""Faults of pixels: off the sensor, hot, faster than a pixel can be; events that stand in the file twice."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventfm.events import Events, Sensor
from eventfm.io.doctor_report import Finding, Piece

LARGEST_SENSOR = 1 << 26
"""Pixels that are counted one by one, 8 bytes each; on a larger sensor they are not."""
HOT_EVENTS = 100
HOT_RATE_HZ = 20.0
HOT_RATIO = 10.0
"""A hot pixel has so many events, at such a rate, and so many times more than the median of its neighbours plus one."""
HOT_COMPANY = 4
"""And at most so many of the 24 pixels around it have half its events: light, which flickers too, falls on several."""
FASTEST_PIXEL_HZ = 20_000.0
REPEATED_SHARE = 0.005
REPEATED_EVENTS = 10
_TAIL = 1 << 16


class OffTheSensor:
    """Events outside the pixel array."""

    def __init__(self, sensor: Sensor) -> None:
        self._sensor = sensor
        self.num_outside = 0
        self._first = ""

    def add(self, piece: Piece) -> None:
        """Take in the next events."""
        outside = np.flatnonzero(~piece.inside)
        if len(outside) and not self.num_outside:
            self._first = f"x={piece.events.x[outside[0]]}, y={piece.events.y[outside[0]]}"
        self.num_outside += len(outside)

    def findings(self) -> list[Finding]:
        """Return how many events lie outside."""
        if not self.num_outside:
            return []
        message = (
            f"{self.num_outside:,} events lie outside the {self._sensor.width}x{self._sensor.height} sensor, "
            f"the first at {self._first} (65535 stands for all that is larger or negative)"
        )
        advice = "if the size is wrong give --sensor WIDTHxHEIGHT; else --fix drops them, or on_error='sort'"
        return [Finding("outside_sensor", self.num_outside, 1, message, advice)]

    def unchecked(self) -> list[str]:
        """Where nobody says how large the sensor is, every event is on it."""
        if not self._sensor.inferred:
            return []
        return ["pixels off the sensor: its size was read off the events; give --sensor WIDTHxHEIGHT"]


class BusyPixels:
    """Pixels that fire whatever the scene does, or faster than any pixel can."""

    def __init__(self, sensor: Sensor) -> None:
        self._sensor = sensor
        self._counts = (
            np.zeros(sensor.width * sensor.height, np.int64) if sensor.width * sensor.height <= LARGEST_SENSOR else None
        )
        self._earliest: int | None = None
        self._latest = 0

    def add(self, piece: Piece) -> None:
        """Take in the next events."""
        if self._counts is None or not len(piece.t):
            return
        place = place_of(piece.events, piece.inside)
        if len(place):
            counted = np.bincount(place)
            self._counts[: len(counted)] += counted
        first, last = int(piece.t.min()), int(piece.t.max())
        self._earliest, self._latest = (
            (first, last) if self._earliest is None else (min(self._earliest, first), max(self._latest, last))
        )

    def hot_pixels(self) -> NDArray[np.int64]:
        """Return (N, 3) int64: x, y and count of each hot pixel, the hottest first."""
        found = [np.empty((0, 3), np.int64)]
        if self._counts is not None and self._earliest is not None:
            whole = self._counts.reshape(self._sensor.height, self._sensor.width)
            counts = whole.copy()
            # A hot pixel may hide its neighbour, so those found are taken away and the rest is looked at again.
            while len(hot := _hot(counts, whole, max(HOT_EVENTS, HOT_RATE_HZ * self._seconds))):
                found.append(hot)
                counts[hot[:, 1], hot[:, 0]] = 0
        rows = np.concatenate(found)
        return rows[np.argsort(-rows[:, 2], kind="stable")]

    def findings(self) -> list[Finding]:
        """Return the number of hot pixels, and the rate of the fastest pixel if no pixel can be so fast."""
        if self._counts is None or self._earliest is None:
            return []
        found = []
        hot = self.hot_pixels()
        if len(hot):
            share = hot[:, 2].sum() / max(int(self._counts.sum()), 1)
            message = (
                f"{len(hot):,} hot pixels make {share:.2%} of the events; the hottest, x={hot[0, 0]}, y={hot[0, 1]}, "
                f"has {hot[0, 2]:,}"
            )
            found.append(Finding("hot_pixels", len(hot), 1, message, "--fix removes the events of these pixels"))
        fastest = int(self._counts.argmax())
        count = int(self._counts[fastest])
        rate = count / self._seconds
        if count >= HOT_EVENTS and rate >= FASTEST_PIXEL_HZ:
            y, x = divmod(fastest, self._sensor.width)
            message = f"pixel x={x}, y={y} fires at {rate:,.0f} Hz, {count:,} events in {self._seconds:.6g} s"
            advice = "no pixel is so fast: are the times in another unit, or written at a coarser step?"
            found.append(Finding("pixel_rate", rate, FASTEST_PIXEL_HZ, message, advice))
        return found

    def unchecked(self) -> list[str]:
        """Pixels of a sensor that no memory holds."""
        if self._counts is not None:
            return []
        return [f"single pixels: a sensor of {self._sensor.width}x{self._sensor.height} is too large to count them"]

    @property
    def _seconds(self) -> float:
        return (self._latest - (self._earliest or 0) + 1) / 1e6


class Repeats:
    """Finds events that stand in the file more than once, in runs of equal time, piece by piece."""

    def __init__(self) -> None:
        self._time: int | None = None
        self._tail: NDArray[np.int64] = np.empty(0, np.int64)

    def __call__(self, t: NDArray[np.int64], place: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return (N,) bool: which events repeat an earlier one. `place` tells pixel and polarity.

        Of a run that goes over the border of pieces, the last 65,536 events are remembered.
        """
        if not len(t):
            return np.zeros(0, bool)
        kept = self._tail if self._time == t[0] else self._tail[:0]
        places = np.concatenate([kept, place])
        run = np.concatenate([np.zeros(len(kept), np.int64), np.cumsum(np.diff(t, prepend=t[0]) != 0)])
        # Runs are numbered, so the key is small: at most the events of a piece times the places of a sensor.
        key = run * (int(places.max()) + 1) + places
        order = np.argsort(key, kind="stable")
        repeats = np.zeros(len(key), bool)
        repeats[order[1:]] = key[order[1:]] == key[order[:-1]]
        self._time = int(t[-1])
        self._tail = places[run == run[-1]][-_TAIL:]
        return repeats[len(kept) :]


class Repeated:
    """Single events that are there more than once: same time, pixel and polarity."""

    def __init__(self) -> None:
        self._repeats = Repeats()
        self.num_repeated = 0
        self._num_events = 0

    def add(self, piece: Piece) -> None:
        """Take in the next events."""
        self.num_repeated += int(self._repeats(piece.t, place_and_polarity(piece.events)).sum())
        self._num_events += len(piece.t)

    def findings(self) -> list[Finding]:
        """Return how many events repeat another one."""
        needed = max(REPEATED_EVENTS, REPEATED_SHARE * self._num_events)
        if self.num_repeated < needed:
            return []
        share = self.num_repeated / self._num_events
        message = f"{self.num_repeated:,} events ({share:.2%}) repeat one of the same time, pixel and polarity"
        advice = "a packet was written twice, or times were rounded: --fix keeps one of each"
        return [Finding("repeated_events", self.num_repeated, needed, message, advice)]

    def unchecked(self) -> list[str]:
        """Everything is looked at."""
        return []


def _hot(counts: NDArray[np.int64], whole: NDArray[np.int64], needed: float) -> NDArray[np.int64]:
    """Return (N, 3) int64: x, y and count of the pixels that have `needed` events and far more than around them.

    `whole` has the counts of all pixels, `counts` those of pixels that are not known as hot.
    """
    y, x = np.nonzero(counts >= needed)
    around = _around(counts, x, y, 1)
    # The only pixel of a sensor has no neighbours, and is not hot.
    compared = np.isfinite(around).any(0)
    x, y, around = x[compared], y[compared], around[:, compared]
    typical = np.nanmedian(around, axis=0) if len(x) else np.zeros(0)
    hot = counts[y, x] >= HOT_RATIO * (typical + 1)
    x, y = x[hot], y[hot]
    alone = (_around(whole, x, y, 2) >= whole[y, x] / 2).sum(0) <= HOT_COMPANY
    return np.stack([x[alone], y[alone], whole[y[alone], x[alone]]], axis=1)


def _around(counts: NDArray[np.int64], x: NDArray[np.intp], y: NDArray[np.intp], radius: int) -> NDArray[np.float64]:
    """Return ((2 radius + 1)^2 - 1, N) the counts around each of N pixels, not a number off the sensor."""
    height, width = counts.shape
    reach = range(-radius, radius + 1)
    steps = [(dx, dy) for dx in reach for dy in reach if dx or dy]
    around = np.full((len(steps), len(x)), np.nan)
    for row, (dx, dy) in zip(around, steps, strict=True):
        there = (x + dx >= 0) & (x + dx < width) & (y + dy >= 0) & (y + dy < height)
        row[there] = counts[y[there] + dy, x[there] + dx]
    return around


def place_of(events: Events, inside: Any) -> NDArray[np.int64]:
    """Return the number of the pixel of each event that is `inside`, row by row."""
    return np.asarray(events.y[inside].astype(np.int64) * events.sensor.width + events.x[inside])


def place_and_polarity(events: Events) -> NDArray[np.int64]:
    """Return a number that tells pixel and polarity of each event, also off the sensor."""
    return np.asarray((events.y.astype(np.int64) << 17) | (events.x.astype(np.int64) << 1) | events.p)
