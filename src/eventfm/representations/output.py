"""What every representation does around its loop: the array to fill, the span of time, the refusal of bad events."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eventfm.events import EventError, Events
from eventfm.protocols import Representation

Span = Literal["events", "window"]


def filled(representation: Representation, events: Events) -> NDArray[np.float32]:
    """Return a new array (C, H, W) float32 that `representation` has written `events` into."""
    out = np.empty((representation.channels, events.sensor.height, events.sensor.width), np.float32)
    representation.accumulate(events, out)
    return out


def prepare(out: NDArray[np.float32], channels: int, events: Events) -> None:
    """Zero `out`.

    Raises:
        ValueError: `out` is not (channels, H, W) float32 of the events' sensor.
    """
    expected = (channels, events.sensor.height, events.sensor.width)
    if out.shape != expected or out.dtype != np.float32:
        raise ValueError(f"expected an output of shape {expected} and dtype float32, got {out.shape} and {out.dtype}")
    out.fill(0)


def event_span(events: Events, span: Span) -> tuple[int, int]:
    """Return the first and the last instant in microseconds, of the window or of the events ((0, 0) for none).

    Raises:
        EventError: The span of the window is asked for, and there is none.
    """
    if span == "window":
        if events.window is None:
            raise EventError(
                "span='window' needs events.window; cut the events with .between(t0, t1), or span='events'"
            )
        return events.window[0], events.window[1] - 1
    return (int(events.t[0]), int(events.t[-1])) if len(events) else (0, 0)


def check_added(added: int, events: Events, first: int, last: int) -> None:
    """Raise an EventError that shows the event which a loop stopped at, where it did not add them all."""
    if added < len(events):
        raise EventError(
            f"event {added} breaks the contract of Events: x={events.x[added]}, y={events.y[added]}, "
            f"t={events.t[added]} us on a sensor of {events.sensor.width}x{events.sensor.height} pixels, with events "
            f"in order of time within [{first}, {last}] us expected; Events.checked finds and mends such events"
        )
