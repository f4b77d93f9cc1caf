"""`info` and `convert`: what a recording holds, and recordings from one format to another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eventfm.events import OnError, Sensor
from eventfm.io import convert, open_recording, summarise

__all__ = ["convert", "info"]

PICTURED_EVENTS = 20_000
"""Events in the picture of a recording, from its middle: about what one look at a scene holds."""


def info(
    path: str | Path,
    *,
    png: str | Path | None = None,
    format: str | None = None,
    sensor: Sensor | tuple[int, int] | None = None,
    on_error: OnError = "raise",
) -> dict[str, Any]:
    """Return `format, num_events, t_first_us, t_last_us, sensor{width, height, inferred}, tracks{name: count}`.

    With `png`, events from the middle of the recording are drawn into that file.

    Raises:
        ValueError: The file is of no known format, or is damaged.
    """
    recording = open_recording(path, format, sensor, on_error)
    if png is not None:
        from eventfm.visualization.events import event_picture
        from eventfm.visualization.files import save_picture

        middle = max(0, recording.num_events // 2 - PICTURED_EVENTS // 2)
        events = recording.events_by_index(middle, min(middle + PICTURED_EVENTS, recording.num_events))
        save_picture(png, event_picture(events))
    return summarise(recording)
