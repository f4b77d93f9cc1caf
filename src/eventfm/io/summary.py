"""What a recording holds, and recordings from one format to another."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from eventfm.events import OnError, Sensor
from eventfm.io.opening import open_recording
from eventfm.io.writers import WRITERS, target_format, track_length
from eventfm.protocols import Recording

CURVE_BINS = 100
SHORTEST_BIN_US = 1000
_PIECE = 1 << 18
_LINE = 50
_BLOCKS = " ▁▂▃▄▅▆▇█"
_PLAIN = " .:-=+*#@"


def summarise(recording: Recording) -> dict[str, Any]:
    """Return what `recording` holds, ready for JSON.

    Its events are read once, 262,144 at a time: that takes as long as decoding the whole file does, and 16 MB beside
    what the reader itself holds, whatever the length.

    The keys are `format, num_events, t_first_us, t_last_us, duration_us, mean_rate_hz, peak_rate_hz,
    rate_curve{bin_us, events}, sensor{width, height, inferred}, tracks{name: count}` and
    `track_times_us{name: [first, last] or None}`. The curve counts events in at most 100 bins of at least a
    millisecond from the first event on; the peak is that of its fullest bin. The duration goes from the first event to
    the last, both included; without events the times are 0 and -1.
    """
    sensor = recording.sensor
    first, last = map(int, recording.t_range)
    bin_us, counts = rate_curve(recording)
    return {
        "format": recording.format,
        "num_events": int(recording.num_events),
        "t_first_us": first,
        "t_last_us": last,
        "duration_us": last - first + 1,
        "mean_rate_hz": recording.num_events / (last - first + 1) * 1e6 if recording.num_events else 0.0,
        "peak_rate_hz": max(counts, default=0) / bin_us * 1e6,
        "rate_curve": {"bin_us": bin_us, "events": counts},
        "sensor": {"width": int(sensor.width), "height": int(sensor.height), "inferred": bool(sensor.inferred)},
        "tracks": {name: track_length(track) for name, track in recording.tracks.items()},
        "track_times_us": {
            name: [int(track.times[0]), int(track.times[-1])] if len(track.times) else None
            for name, track in recording.tracks.items()
        },
    }


def summary_lines(summary: dict[str, Any], plain: bool = False) -> list[str]:
    """Return what `summarise` found as lines for people; `plain` draws the rate without block characters."""
    size, curve, seconds = summary["sensor"], summary["rate_curve"], summary["duration_us"] / 1e6
    lines = [
        f"  events  {summary['num_events']:,} in {seconds:.6g} s, from {summary['t_first_us']} us",
        f"  sensor  {size['width']}x{size['height']}{' (inferred)' if size['inferred'] else ''}",
    ]
    if summary["num_events"]:
        lines += [
            f"  rate    {summary['mean_rate_hz']:,.0f} events/s, up to {summary['peak_rate_hz']:,.0f}",
            f"          |{_sparkline(curve['events'], _PLAIN if plain else _BLOCKS)}|",
        ]
    for name, count in summary["tracks"].items():
        times = summary["track_times_us"][name]
        lines.append(f"  {name:7} {count:,}" + (f", {times[0]} to {times[1]} us" if times else ""))
    return lines


def rate_curve(recording: Recording) -> tuple[int, list[int]]:
    """Return the length of a bin in microseconds and the events in each, from the first event on."""
    first, last = map(int, recording.t_range)
    bin_us = max(SHORTEST_BIN_US, -(-(last - first + 1) // CURVE_BINS))
    num_bins = -(-(last - first + 1) // bin_us) if recording.num_events else 0
    counts = np.zeros(num_bins, np.int64)
    for start in range(0, recording.num_events, _PIECE):
        times = recording.events_by_index(start, min(start + _PIECE, recording.num_events)).t
        # Of a file that is mended slice by slice, some events may lie before its first one or after its last.
        counts += np.bincount(np.clip((times - first) // bin_us, 0, num_bins - 1), minlength=num_bins)
    return bin_us, counts.tolist()


def convert(
    source: str | os.PathLike[str] | Recording,
    target: str | os.PathLike[str],
    *,
    to: str | None = None,
    format: str | None = None,
    sensor: Sensor | tuple[int, int] | None = None,
    on_error: OnError = "raise",
    overwrite: bool = False,
) -> Path:
    """Write `source` in the format `to`, or that the extension of `target` names, and return the path.

    * `eventfm`, `.h5` and `.hdf5`: the native store, which keeps everything.
    * `dsec`: `events.h5` in the layout of DSEC.
    * `evt3`, `.raw`, and `evt2`: Prophesee RAW, with triggers.
    * `dat`, `.dat`: Prophesee DAT.
    * `aedat4`, `.aedat4`: with 8 bit frames, inertial samples and triggers.
    * `csv`, `.csv`: `%geometry:W,H`, a line that names the columns, then rows `t,x,y,p` in microseconds.
    * `text`, `.txt`: first line `W H`, then rows `t x y p` in microseconds.
    * `npz`, `.npz`: columns, sensor, and tracks whose entries share one shape.
    * `npy`, `.npy`: one structured array t, x, y, p.

    A warning names the tracks that are left behind. The target appears as a whole or not at all. `docs/formats.md`
    says what each format keeps.

    Raises:
        FormatError: Nothing writes such a format, it cannot hold the events, or the source is damaged.
        FileExistsError: The target exists and `overwrite` is not set.
        WriteError: The system refused to write.
    """
    path = Path(target)
    kind = target_format(path, to)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; pass overwrite=True to replace it")
    recording = open_recording(source, format, sensor, on_error) if isinstance(source, str | os.PathLike) else source
    if kind == "eventfm":
        from eventfm.io.store import save_recording

        origin = {} if isinstance(source, Recording) else {"source": Path(source).name}
        return save_recording(path, recording, origin, overwrite)
    WRITERS.get(kind)(path, recording, overwrite)
    return path


def _sparkline(counts: list[int], levels: str) -> str:
    """Return at most 50 characters, the higher the more events; only nothing is blank."""
    step = -(-len(counts) // _LINE)
    sums = [sum(counts[i : i + step]) for i in range(0, len(counts), step)]
    return "".join(levels[-(-count * (len(levels) - 1) // max(*sums, 1))] for count in sums)
