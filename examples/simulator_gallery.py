"""One simulated world from every side, and its statistics beside those of a real recording.

    python examples/simulator_gallery.py OUT.png [RECORDING]

Draws what the sensor sees, its events without and with noise, flow, depth, classes and what gets hidden; below, event
rate, share of ON events and time between events of a pixel. RECORDING is any file that `eventfm info` knows; its first
0.17 s are compared. Its events are drawn only with `--picture`, for a licence may not let them be passed on.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eventfm.events import Events
from eventfm.io import open_recording
from eventfm.random import generator
from eventfm.simulation import PALETTE, SceneConfig, SensorConfig, film_scene, random_scene, supervise_scene
from eventfm.visualization.dense import depth_map, grey_picture
from eventfm.visualization.events import event_picture
from eventfm.visualization.files import save_picture
from eventfm.visualization.flow import flow_picture
from eventfm.visualization.panel import panel

SIZE = (180, 240)
DURATION_US = 170_000
WINDOW_US = 30_000
SEED = 12
COLOURS = {"simulated, clean": "#888888", "simulated, noisy": "#0072b2", "real": "#d55e00"}


def main() -> None:
    """Draw the gallery."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("recording", type=Path, nargs="?")
    parser.add_argument("--picture", action="store_true", help="draw the events of RECORDING, too")
    arguments = parser.parse_args()
    world = SceneConfig(
        size=SIZE, duration_us=DURATION_US, speed_px_s=(35.0, 35.0), num_objects=(3, 3), still_object=0.5
    )
    scene = random_scene(generator(SEED, "gallery"), world)
    noisy = replace(SensorConfig.preset("noisy"), c_pos=0.25, c_neg=0.25, shot_hz=2.0, hot_fraction=2e-4)
    compared = {
        "simulated, clean": film_scene(scene, noisy.without_noise()).events,
        "simulated, noisy": film_scene(scene, noisy).events,
    }
    t1 = DURATION_US // 2
    t2 = t1 + WINDOW_US
    truth = supervise_scene(scene, t1, t2)
    clean, dirty = (events.between(t1 + 1, t2 + 1) for events in compared.values())
    rows = [
        [
            ("what the sensor sees", grey_picture(truth.start.light, linear=True)),
            ("events of 30 ms, clean", event_picture(clean)),
            ("the same, noisy", event_picture(dirty)),
            ("noise alone (labelled)", event_picture(_noise_of(dirty))),
        ],
        [
            ("flow", flow_picture(truth.flow)),
            ("depth", depth_map(truth.start.depth_m)),
            ("classes", PALETTE[truth.start.semantic]),
            ("hidden or gone after 30 ms", np.where(truth.occluded[..., None], 0, 255).astype(np.uint8).repeat(3, 2)),
        ],
    ]
    if arguments.recording is not None:
        recording = open_recording(arguments.recording)
        first = recording.t_range[0]
        compared["real"] = real = recording.events(first, first + DURATION_US)
        if arguments.picture:
            rows.append([("real: 30 ms", event_picture(real.between(first + t1, first + t2)))])
    save_picture(arguments.out, _below(panel(rows, cell_height=2 * SIZE[0]), statistics(compared)))


def statistics(compared: Mapping[str, Events]) -> NDArray[np.uint8]:
    """Return a picture of event rate, polarity and time between events of a pixel, a colour for each recording."""
    figure = Figure(figsize=(20.2, 5), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    rate, share, gaps = figure.subplots(1, 3)
    for name, events in compared.items():
        t = (events.t - events.window[0]) / 1e6 if events.window else events.t / 1e6
        pixels = events.sensor.width * events.sensor.height
        counts, edges = np.histogram(t, bins=17, range=(0, DURATION_US / 1e6))
        rate.stairs(counts / np.diff(edges) / pixels, edges, label=name, color=COLOURS[name], linewidth=2)
        share.bar(name.replace(", ", ",\n"), events.p.mean(), color=COLOURS[name])
        share.text(name.replace(", ", ",\n"), events.p.mean() + 0.01, f"{events.p.mean():.2f}", ha="center")
        between = intervals_us(events)
        gaps.hist(
            between,
            bins=np.geomspace(1, DURATION_US, 60),
            density=False,
            weights=np.full(len(between), 1 / len(between)),
            histtype="step",
            label=name,
            color=COLOURS[name],
            linewidth=2,
        )
    rate.set(title="event rate", xlabel="time [s]", ylabel="events per pixel and second", ylim=(0, None))
    share.set(title="share of ON events", ylim=(0, 1))
    gaps.set(title="time from a pixel's event to its next", xlabel="microseconds", ylabel="share", xscale="log")
    rate.legend()
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def intervals_us(events: Events) -> NDArray[np.int64]:
    """Return the times between successive events of one pixel, of all pixels, microseconds."""
    place = events.y.astype(np.int64) * events.sensor.width + events.x
    order = np.argsort(place, kind="stable")
    same = np.diff(place[order]) == 0
    return np.maximum(np.diff(events.t[order])[same], 1)


def _noise_of(events: Events) -> Events:
    assert events.noise is not None
    kept = events.noise == 1
    return Events(events.x[kept], events.y[kept], events.t[kept], events.p[kept], events.sensor)


def _below(top: NDArray[np.uint8], bottom: NDArray[np.uint8]) -> NDArray[np.uint8]:
    width = max(top.shape[1], bottom.shape[1])
    parts = [np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), constant_values=255) for p in (top, bottom)]
    return np.concatenate(parts)


if __name__ == "__main__":
    main()
