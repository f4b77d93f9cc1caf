"""Walk through a recording in slices of equal time or equal count."""

from __future__ import annotations

from collections.abc import Iterator

from eventfm.events import Events
from eventfm.io.recording import ArrayRecording
from eventfm.protocols import Recording


def iterate(
    source: Recording | Events,
    *,
    duration_us: int | None = None,
    num_events: int | None = None,
    overlap: int = 0,
    start: int | None = None,
    stop: int | None = None,
) -> Iterator[Events]:
    """Yield slices of `source`, one at a time, so that only one is in memory.

    Give either `duration_us`, for half-open windows of that many microseconds from the first event on, or
    `num_events`, for slices of that many events. Windows without events are yielded too: they keep the rhythm. The
    last window is as long as the others though events may end before; the last slice of events may be shorter. Each
    event is in one slice, without `overlap`.

    Args:
        source: What to walk through.
        duration_us: Length of a window.
        num_events: Events in a slice.
        overlap: How much of a slice comes again in the next: microseconds, or events.
        start: Where to begin: microseconds in the events' clock, or the number of an event.
        stop: Where to end (exclusive), as `start`; what begins before it is yielded whole, but for a slice by number.

    Raises:
        ValueError: Neither or both lengths, a length that is not positive, or an overlap that is no part of it.
    """
    length = duration_us if num_events is None else num_events
    if length is None or (duration_us is not None and num_events is not None):
        raise ValueError("expected either duration_us or num_events")
    if length <= 0 or not 0 <= overlap < length:
        raise ValueError(f"expected a positive length and an overlap from 0 to below it, got {length} and {overlap}")
    recording = ArrayRecording(source) if isinstance(source, Events) else source
    return (_windows if num_events is None else _counts)(recording, length, length - overlap, start, stop)


def _windows(recording: Recording, length: int, step: int, start: int | None, stop: int | None) -> Iterator[Events]:
    first, last = recording.t_range
    stop = last + 1 if stop is None else stop
    covered = first if start is None else start
    for t0 in range(covered, stop, step):
        # What an overlap has shown already is not shown once more by itself.
        if t0 == covered or t0 + length - step < stop:
            yield recording.events(t0, t0 + length)


def _counts(recording: Recording, length: int, step: int, start: int | None, stop: int | None) -> Iterator[Events]:
    begin = max(start or 0, 0)
    stop = recording.num_events if stop is None else min(stop, recording.num_events)
    for i in range(begin, stop, step):
        if i == begin or i + length - step < stop:
            yield recording.events_by_index(i, min(i + length, stop))
