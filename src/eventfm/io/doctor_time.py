"""Faults of the clock: it goes back, wraps, stands still or pauses."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventfm.io.doctor_report import Finding, Piece

WRAP_BITS = (23, 24, 31, 32, 34)
"""Bits of the counters in ATIS, EVT3, AEDAT 2, DAT and EVT2; microseconds."""
WRAP_MARGIN = 16
"""A wrap steps from the last sixteenth of the counter's range to the first sixteenth."""
STILL_SHARE = 0.05
STILL_EVENTS = 1000
"""Time stands still where a share of all events, and so many, in a row have one time."""
GAP_US = 100_000
GAP_SPACINGS = 100
"""A gap is as long, and as many mean distances between events."""


class Unroller:
    """Unrolls the wraps of a counter, piece by piece."""

    def __init__(self) -> None:
        self.num_wraps = 0
        self.bits = 0
        """Of the last counter that wrapped."""
        self._previous: int | None = None
        self._offset_us = 0

    def __call__(self, t: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the times of the next piece with one period added per wrap so far."""
        if not len(t):
            return t
        before = np.concatenate([[t[0] if self._previous is None else self._previous], t[:-1]])
        self._previous = int(t[-1])
        added = np.zeros(len(t), np.int64)
        for bits in WRAP_BITS:
            period, margin = 1 << bits, (1 << bits) // WRAP_MARGIN
            wraps = (before >= period - margin) & (before < period) & (t >= 0) & (t < margin)
            added[wraps] = period
            if wraps.any():
                self.num_wraps += int(wraps.sum())
                self.bits = bits
        offsets = self._offset_us + np.cumsum(added)
        self._offset_us = int(offsets[-1])
        return np.asarray(t + offsets)

    def findings(self) -> list[Finding]:
        """Return the wraps as a finding."""
        if not self.num_wraps:
            return []
        message = f"the clock wraps {self.num_wraps:,} times, at 2^{self.bits} us"
        return [Finding("clock_wraps", self.num_wraps, 1, message, "unroll it: --fix does, or read it with its format")]


class Order:
    """Times that are smaller than the one before; wraps do not count."""

    def __init__(self) -> None:
        self.num_steps = 0
        self._largest_us = 0
        self._position = 0
        self._first: int | None = None
        self._previous: int | None = None

    def add(self, piece: Piece) -> None:
        """Take in the next events."""
        if not len(piece.t):
            return
        t = _joined(self._previous, piece.t)
        steps = t[1:] - t[:-1]
        back = np.flatnonzero(steps < 0)
        if len(back):
            self.num_steps += len(back)
            self._largest_us = max(self._largest_us, int(-steps.min()))
            if self._first is None:
                self._first = self._position + int(back[0]) + (self._previous is None)
        self._position += len(piece.t)
        self._previous = int(piece.t[-1])

    def findings(self) -> list[Finding]:
        """Return how often time goes back, and how far at most."""
        if not self.num_steps:
            return []
        message = (
            f"time goes back {self.num_steps:,} times, first at event {self._first:,}, by up to {self._largest_us:,} us"
        )
        return [Finding("time_backwards", self.num_steps, 1, message, "sort it: --fix does, or on_error='sort'")]

    def unchecked(self) -> list[str]:
        """Everything is looked at."""
        return []


class StandingStill:
    """A clock that stands still: a large part of all events in a row has one time."""

    def __init__(self) -> None:
        self._num_events = 0
        self._length = 0
        self._previous: int | None = None
        self._longest, self._longest_at = 0, 0

    def add(self, piece: Piece) -> None:
        """Take in the next events."""
        if not len(piece.t):
            return
        previous = int(piece.t[0]) if self._previous is None else self._previous
        changes = np.flatnonzero(np.diff(piece.t, prepend=previous))
        lengths = np.diff(changes, prepend=0, append=len(piece.t))
        lengths[0] += self._length
        best = int(np.argmax(lengths))
        if lengths[best] > self._longest:
            self._longest = int(lengths[best])
            self._longest_at = int(piece.t[changes[best - 1]]) if best else previous
        self._length = int(lengths[-1])
        self._previous = int(piece.t[-1])
        self._num_events += len(piece.t)

    def findings(self) -> list[Finding]:
        """Return how many events in a row have one time."""
        needed = max(STILL_EVENTS, STILL_SHARE * self._num_events)
        if self._longest < needed:
            return []
        message = f"{self._longest:,} of {self._num_events:,} events in a row have the time {self._longest_at} us"
        advice = "the clock stood still or is too coarse; windows by time are useless there: cut that part out"
        return [Finding("time_stands_still", self._longest, needed, message, advice)]

    def unchecked(self) -> list[str]:
        """Everything is looked at."""
        return []


class Gaps:
    """Times without any event."""

    def __init__(self) -> None:
        self._num_events = 0
        self._latest: int | None = None
        self._earliest = 0
        self._gaps: list[tuple[int, int]] = []

    def add(self, piece: Piece) -> None:
        """Take in the next events."""
        if not len(piece.t):
            return
        latest = np.maximum.accumulate(_joined(self._latest, piece.t))
        steps = np.diff(latest)
        long = np.flatnonzero(steps >= GAP_US)
        self._gaps += zip(steps[long].tolist(), latest[long].tolist(), strict=True)
        self._gaps = sorted(self._gaps, reverse=True)[:1000]
        self._earliest = int(piece.t[0]) if self._latest is None else min(self._earliest, int(piece.t.min()))
        self._latest = int(latest[-1])
        self._num_events += len(piece.t)

    def findings(self) -> list[Finding]:
        """Return the longest gap, microseconds, and how many there are (counted up to 1000)."""
        if self._latest is None or not self._gaps:
            return []
        # The gaps are no part of how densely events lie, or a long one would hide itself.
        covered = self._latest - self._earliest - sum(length for length, _ in self._gaps)
        needed = max(GAP_US, GAP_SPACINGS * covered / max(self._num_events, 1))
        found = [gap for gap in self._gaps if gap[0] >= needed]
        if not found:
            return []
        length, at = found[0]
        message = f"{len(found):,} gaps without events, the longest {length:,} us from {at} us on"
        advice = "a stopped or saturated camera, or a lost packet: leave out windows that cover it"
        return [Finding("gaps", length, needed, message, advice)]

    def unchecked(self) -> list[str]:
        """Everything is looked at."""
        return []


def _joined(previous: int | None, t: NDArray[Any]) -> NDArray[np.int64]:
    return t if previous is None else np.concatenate([[previous], t])
