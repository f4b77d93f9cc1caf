"""Faults of the frames beside the events: no times of their own, or none that the events cover."""

from __future__ import annotations

import numpy as np

from eventfm.io.doctor_report import Finding
from eventfm.protocols import Recording


def frame_findings(recording: Recording, earliest_us: int, latest_us: int) -> list[Finding]:
    """Return frames that share their time with the one before, and frames outside the events.

    A frame is outside if it lies more than one frame distance (the median) before the first event or after the last;
    of a single frame the distance is 0.
    """
    track = recording.tracks.get("frames")
    if track is None or not len(track.times):
        return []
    times = np.asarray(track.times)
    found = []
    untimed = int((np.diff(times) == 0).sum())
    if untimed:
        message = f"{untimed:,} of {len(times):,} frames have the time of the frame before them"
        advice = "they have no times of their own: look for the list of times that belongs to the frames"
        found.append(Finding("frames_without_times", untimed, 1, message, advice))
    margin = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    outside = int(((times < earliest_us - margin) | (times > latest_us + margin)).sum())
    if outside:
        message = (
            f"{outside:,} of {len(times):,} frames ({times[0]} to {times[-1]} us) lie outside the events "
            f"({earliest_us} to {latest_us} us)"
        )
        advice = "frames and events have two clocks, or one of them is cut off: compare their sources"
        found.append(Finding("frames_outside_events", outside, 1, message, advice))
    return found
