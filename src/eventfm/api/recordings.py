"""`info` and `convert`: what a recording holds, and recordings from one format to another."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from eventfm import io
from eventfm.data.sequences import find_sequences, open_one
from eventfm.events import OnError, Sensor
from eventfm.protocols import Recording

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

    `path` is a recording, or a sequence of DSEC or M3ED as it was published. With `png`, events from the middle of the
    recording are drawn into that file.

    Raises:
        ValueError: The file is of no known format, or is damaged.
    """
    recording = open_one(path, format, sensor, on_error)
    if png is not None:
        from eventfm.visualization.events import event_picture
        from eventfm.visualization.files import save_picture

        middle = max(0, recording.num_events // 2 - PICTURED_EVENTS // 2)
        events = recording.events_by_index(middle, min(middle + PICTURED_EVENTS, recording.num_events))
        save_picture(png, event_picture(events))
    return io.summarise(recording)


def convert(
    source: str | os.PathLike[str] | Recording,
    target: str | os.PathLike[str],
    *,
    format: str | None = None,
    sensor: Sensor | tuple[int, int] | None = None,
    on_error: OnError = "raise",
    overwrite: bool = False,
) -> Path:
    """Write `source` in the format that the extension of `target` names, and return the path, as `io.convert` does.

    A sequence of DSEC or M3ED as it was published is written with its frames warped to the event camera.

    Raises:
        ValueError: Another extension, or the source is damaged.
        FileExistsError: The target exists and `overwrite` is not set.
        OSError: The system refused to write.
    """
    if not isinstance(source, Recording) and find_sequences(source) is not None:
        source = open_one(source, format, sensor, on_error)
    return io.convert(source, target, format=format, sensor=sensor, on_error=on_error, overwrite=overwrite)
