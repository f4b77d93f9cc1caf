"""Windows as long as the motion asks for: the shortest one in which enough of the sensor has seen enough events.

ScaleEvent (section 3.1) chooses its windows by motion and does not publish how; this rule is eventfm's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eventfm.events import Events, Sensor

PATCH = 16
"""Side of the sensor's patches, pixels; those at its right and lower edges may be smaller."""


def active_span(events: Events, share: float, threshold: float, backwards: bool = False) -> tuple[int, int] | None:
    """Return the shortest part `[t0, t1)` of the events' window, microseconds, in which the sensor is active.

    That is: a `share` of its patches has at least `threshold` events per 256 pixels. The part begins with the window;
    with `backwards` it ends with it. None where the whole window is not enough. `events.window` must be set.
    """
    assert events.window is not None
    first, stop = events.window
    patches, needed = _patches(events.sensor, threshold)
    numbers = patches[events.y // PATCH, events.x // PATCH]
    if backwards:
        numbers = numbers[::-1]
    # A stable sort keeps the order of time within a patch: its event of number `needed` is what makes it active.
    order = np.argsort(numbers, kind="stable")
    counts = np.bincount(numbers, minlength=len(needed))
    reached = counts >= needed
    wanted = max(1, int(np.ceil(share * len(needed) - 1e-9)))
    if reached.sum() < wanted:
        return None
    places = order[(np.cumsum(counts) - counts + needed - 1)[reached]]
    last = int(np.partition(places, wanted - 1)[wanted - 1])
    if backwards:
        return int(events.t[len(events) - 1 - last]), stop
    return first, int(events.t[last]) + 1


def _patches(sensor: Sensor, threshold: float) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    """Return the number of each patch (rows, cols), and how many events make each active."""
    heights, widths = (
        np.diff([*range(0, side, PATCH), side]) for side in (sensor.height, sensor.width)
    )  # the last may be smaller
    pixels = (heights[:, None] * widths).ravel()
    numbers = np.arange(len(pixels), dtype=np.uint16).reshape(len(heights), len(widths))
    return numbers, np.maximum(1, np.ceil(threshold * pixels / PATCH**2 - 1e-9)).astype(np.int64)
