"""Looks through a recording for faults, in one pass and bounded memory."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np

from eventfm.events import Events
from eventfm.io.doctor_pixels import BusyPixels, OffTheSensor, Repeated
from eventfm.io.doctor_rate import Flicker, Polarity, WholeRate
from eventfm.io.doctor_report import Check, Diagnosis, Finding, Piece
from eventfm.io.doctor_time import Gaps, Order, StandingStill, Unroller
from eventfm.io.doctor_tracks import frame_findings
from eventfm.protocols import Recording

PIECE = 1 << 18
"""Events that are looked at together."""


def examine(recording: Recording, path: str = "") -> Diagnosis:
    """Return what is wrong with `recording`, which should have been opened with `on_error="keep"`.

    What the reader warns of while it reads (a file that is cut off) is a finding too, and so is a part that it cannot
    read: what comes after is not looked at.
    """
    unroll = Unroller()
    off, busy = OffTheSensor(recording.sensor), BusyPixels(recording.sensor)
    checks: list[Check] = [
        off, busy, Repeated(), Order(), StandingStill(), Gaps(), Flicker(), Polarity(), WholeRate(recording.sensor),
    ]  # fmt: skip
    earliest, latest = np.iinfo(np.int64).max, np.iinfo(np.int64).min
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        broken = []
        try:
            for events in pieces(recording):
                piece = Piece(events, unroll(events.t), on_the_sensor(events))
                earliest, latest = min(earliest, int(piece.t.min())), max(latest, int(piece.t.max()))
                for check in checks:
                    check.add(piece)
        except ValueError as error:
            broken = [unreadable(error)]
        findings = broken + unroll.findings() + [finding for check in checks for finding in check.findings()]
        if earliest <= latest:
            findings += frame_findings(recording, earliest, latest)
    return Diagnosis(
        path=path,
        format=recording.format,
        num_events=recording.num_events,
        findings=warned([str(warning.message) for warning in caught]) + tuple(findings),
        unchecked=tuple(note for check in checks for note in check.unchecked()),
        hot_pixels=tuple((int(x), int(y)) for x, y, _ in busy.hot_pixels()),
    )


def warned(messages: list[str]) -> tuple[Finding, ...]:
    """Return what a reader warned of as findings."""
    advice = "copy the file anew from its source; --fix writes what can be read"
    return tuple(Finding("reader_warns", 1, 1, message, advice) for message in dict.fromkeys(messages))


def unreadable(error: ValueError) -> Finding:
    """Return what kept a reader from reading as a finding."""
    return Finding("unreadable", 1, 1, str(error), "copy the file anew from its source, or say its format")


def pieces(recording: Recording) -> Iterator[Events]:
    """Yield the events in file order, `PIECE` at a time."""
    for start in range(0, recording.num_events, PIECE):
        events = recording.events_by_index(start, min(start + PIECE, recording.num_events))
        if len(events):
            yield events


def on_the_sensor(events: Events) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return (N,) bool: which events lie on the sensor."""
    return (events.x < events.sensor.width) & (events.y < events.sensor.height)
