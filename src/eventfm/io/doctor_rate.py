"""Faults of how many events there are: lamp flicker, unlikely rates, one polarity that is missing."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from eventfm.events import Sensor
from eventfm.io.doctor_report import Finding, Piece

FLICKER_HZ = (50, 60, 100, 120)
"""Mains, and lamps, which light up twice per period."""
FLICKER_DEPTH = 0.2
"""The rate of one polarity swings by this share of its mean."""
FLICKER_PROMINENCE = 20.0
"""And its power is so many times the median of its surroundings, 6 to 20 Hz away."""
FLICKER_EVENTS = 5000
SEGMENT_US = 500_000
SEGMENT_EVENTS = 100
"""Segments with fewer events are passed by."""
BIN_US = 1000
MINORITY = 0.05
MINORITY_EVENTS = 1000
PIXEL_RATES_HZ = (1e-4, 1e3)
"""Events per pixel and second, mean over sensor and recording."""
RATE_EVENTS = 1000


class Flicker:
    """Periodicity of the event rate, by spectra of whole segments of half a second, averaged (Welch, 1967)."""

    def __init__(self) -> None:
        self._start: int | None = None
        self._segment = 0
        self._counts = np.zeros((2, SEGMENT_US // BIN_US))
        self._power = np.zeros((2, SEGMENT_US // BIN_US // 2 + 1))
        self._mean_power = np.zeros(2)
        self._num_events = np.zeros(2)
        self._num_segments = 0

    def add(self, piece: Piece) -> None:
        """Take in the next events; such as lie in a segment that is over are passed by."""
        if not len(piece.t):
            return
        self._start = int(piece.t[0]) if self._start is None else self._start
        segments, within = np.divmod(piece.t - self._start, SEGMENT_US)
        places = within // BIN_US + piece.events.p.astype(np.int64) * self._counts.shape[1]
        edges = [0, *(np.flatnonzero(np.diff(segments)) + 1).tolist(), len(segments)]
        for start, stop in pairwise(edges):
            segment = int(segments[start])
            if segment > self._segment:
                self._close()
                self._segment = segment
            if segment == self._segment:
                self._counts += np.bincount(places[start:stop], minlength=self._counts.size).reshape(2, -1)

    def findings(self) -> list[Finding]:
        """Return the depth of the strongest flicker, a share of the mean rate."""
        depth, frequency, name = max(
            (self._depth(self._power[polarity], self._mean_power[polarity], frequency), frequency, name)
            for polarity, name in ((0, "OFF"), (1, "ON"))
            for frequency in FLICKER_HZ
        )
        if depth < FLICKER_DEPTH or self.unchecked():
            return []
        message = f"the rate of {name} events swings by {depth:.0%} of its mean at {frequency} Hz"
        advice = "a lamp on the mains: leave its pixels out, or use windows of whole periods (20 ms, or 50 ms at 60 Hz)"
        return [Finding("flicker", depth, FLICKER_DEPTH, message, advice)]

    def unchecked(self) -> list[str]:
        """Recordings without a whole segment, or with few events."""
        if self._num_segments and self._num_events.max() >= FLICKER_EVENTS:
            return []
        return [f"flicker: needs {SEGMENT_US / 1e6:g} s and {FLICKER_EVENTS:,} events of one polarity"]

    def _close(self) -> None:
        """Add the spectrum of the segment that is over; only the last one may be cut, and that is never closed."""
        if self._counts.sum() < SEGMENT_EVENTS:
            self._counts[:] = 0
            return
        means = self._counts.mean(1, keepdims=True)
        window = np.hanning(self._counts.shape[1] + 1)[:-1]
        self._power += np.abs(np.fft.rfft((self._counts - means) * window)) ** 2
        # A wave of depth 1 has half the mean as its amplitude in the spectrum, times the sum of the window.
        self._mean_power += (means[:, 0] * window.sum() / 2) ** 2
        self._num_events += self._counts.sum(1)
        self._num_segments += 1
        self._counts[:] = 0

    @staticmethod
    def _depth(power: NDArray[np.float64], mean_power: float, frequency: int) -> float:
        """Return the depth of the wave at `frequency`, 0 where it does not stand out."""
        step_hz = 1_000_000 // SEGMENT_US
        centre = frequency // step_hz
        near = power[centre - 1 : centre + 2].max()
        distance = np.abs(np.arange(len(power)) - centre) * step_hz
        around = np.median(power[(distance >= 6) & (distance <= 20)])
        if near < FLICKER_PROMINENCE * around or mean_power == 0:
            return 0.0
        return float(np.sqrt(near / mean_power))


class Polarity:
    """Recordings of nearly one polarity."""

    def __init__(self) -> None:
        self._counts = np.zeros(2, np.int64)

    def add(self, piece: Piece) -> None:
        """Take in the next events."""
        self._counts += np.bincount(piece.events.p, minlength=2)[:2]

    def findings(self) -> list[Finding]:
        """Return the share of the rarer polarity."""
        total = int(self._counts.sum())
        rarer = int(np.argmin(self._counts))
        share = self._counts[rarer] / max(total, 1)
        if total < MINORITY_EVENTS or share >= MINORITY:
            return []
        message = f"{share:.2%} of {total:,} events are {('OFF', 'ON')[rarer]}"
        advice = "check the biases of the camera and how the reader takes polarity; a scene is seldom so one-sided"
        return [Finding("polarity_imbalance", float(share), MINORITY, message, advice)]

    def unchecked(self) -> list[str]:
        """Everything is looked at, if there are enough events."""
        if self._counts.sum() >= MINORITY_EVENTS:
            return []
        return [f"polarity: needs {MINORITY_EVENTS:,} events"]


class WholeRate:
    """Rates of the whole sensor that no scene makes: times in another unit."""

    def __init__(self, sensor: Sensor) -> None:
        self._num_pixels = sensor.width * sensor.height
        self._num_events = 0
        self._earliest: int | None = None
        self._latest = 0

    def add(self, piece: Piece) -> None:
        """Take in the next events."""
        if not len(piece.t):
            return
        first, last = int(piece.t.min()), int(piece.t.max())
        self._earliest, self._latest = (
            (first, last) if self._earliest is None else (min(self._earliest, first), max(self._latest, last))
        )
        self._num_events += len(piece.t)

    def findings(self) -> list[Finding]:
        """Return the rate per pixel if it is too high or too low."""
        if self._num_events < RATE_EVENTS or self._earliest is None:
            return []
        seconds = (self._latest - self._earliest + 1) / 1e6
        rate = self._num_events / seconds / self._num_pixels
        low, high = PIXEL_RATES_HZ
        if low < rate < high:
            return []
        message = f"{self._num_events:,} events in {seconds:.6g} s are {rate:.3g} per pixel and second"
        advice = "are the times in another unit (seconds, ms, ns), or is the sensor size wrong?"
        return [Finding("sensor_rate", rate, high if rate >= high else low, message, advice)]

    def unchecked(self) -> list[str]:
        """Everything is looked at, if there are enough events."""
        return [] if self._num_events >= RATE_EVENTS else [f"rates: needs {RATE_EVENTS:,} events"]
