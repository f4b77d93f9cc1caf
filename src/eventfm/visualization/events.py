"""Events as a picture seen from the front, and as a cloud in space and time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eventfm.events import Events
from eventfm.visualization.panel import upscaled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ON_COLOUR = (0, 114, 178)
"""Blue: with the vermilion of OFF it is told apart with every kind of colour vision (Okabe and Ito, 2008)."""
OFF_COLOUR = (213, 94, 0)


def event_picture(events: Events, upscale: int = 1) -> NDArray[np.uint8]:
    """Return a picture (H, W, 3) uint8 of the events on white: ON blue, OFF vermilion, darker where there are more.

    A pixel with events of both kinds has the mixed colour. The scale ends at the count that 98 % of the pixels with
    events stay below, so a few hot pixels do not bleach the rest.

    Args:
        events: What to draw; the sensor gives the size.
        upscale: Each sensor pixel becomes this many pixels, in both directions.
    """
    shape = (events.sensor.height, events.sensor.width)
    place = events.y.astype(np.int64) * shape[1] + events.x
    on, off = (np.bincount(place[events.p == p], minlength=shape[0] * shape[1]) for p in (1, 0))
    total = on + off
    hit = total > 0
    out = np.full((total.size, 3), 255.0)
    if hit.any():
        strength = np.minimum(total[hit] / np.percentile(total[hit], 98), 1.0)
        opacity = (0.3 + 0.7 * strength)[:, None]
        share = (on[hit] / total[hit])[:, None]
        colour = share * np.array(ON_COLOUR) + (1 - share) * np.array(OFF_COLOUR)
        out[hit] = 255 + opacity * (colour - 255)
    return upscaled(np.rint(out).astype(np.uint8).reshape(*shape, 3), upscale)


def event_cloud(events: Events, max_points: int = 20_000) -> Figure:
    """Return a figure of the events as points (t, x, y), coloured by polarity.

    Args:
        events: What to draw.
        max_points: Of more events, so many are drawn, taken at even steps.
    """
    from matplotlib.figure import Figure

    shown = np.unique(np.linspace(0, max(len(events) - 1, 0), min(len(events), max_points)).astype(np.int64))
    figure = Figure(figsize=(8, 4.5), dpi=120)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), projection="3d")
    start = int(events.t[0]) if len(events) else 0
    on = events.p[shown].astype(bool)
    # One scatter for both polarities: two would be painted one over the other, whatever their depth.
    colours = np.where(on[:, None], ON_COLOUR, OFF_COLOUR) / 255
    milliseconds = (events.t[shown] - start) / 1000
    axes.scatter(milliseconds, events.x[shown], events.y[shown], c=colours, s=1.5, linewidths=0, depthshade=False)
    for colour, name in ((ON_COLOUR, "ON"), (OFF_COLOUR, "OFF")):
        axes.scatter([], [], [], color=np.array(colour) / 255, label=name)
    axes.set(xlabel="time (ms)", ylabel="x (pixels)", zlabel="y (pixels)")
    axes.set(ylim=(0, events.sensor.width), zlim=(events.sensor.height, 0))
    axes.set_box_aspect((2.0, 1.0, events.sensor.height / events.sensor.width), zoom=1.2)
    axes.view_init(elev=16, azim=-50)
    axes.legend(loc="upper right", bbox_to_anchor=(0.97, 0.95), frameon=False)
    return figure
