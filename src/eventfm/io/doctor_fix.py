"""Mends a recording: time in order, nothing off the sensor, no hot pixels, nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventfm.events import Events
from eventfm.io.doctor import PIECE, on_the_sensor, pieces
from eventfm.io.doctor_pixels import Repeats, place_and_polarity
from eventfm.io.doctor_report import Changes, Diagnosis
from eventfm.io.doctor_time import Unroller
from eventfm.io.recording import ArrayRecording
from eventfm.protocols import Recording

_KINDS: dict[str, Any] = {"x": np.uint16, "y": np.uint16, "t": np.int64, "p": np.uint8, "noise": np.uint8}


@contextmanager
def repaired(recording: Recording, diagnosis: Diagnosis, folder: Path) -> Iterator[tuple[ArrayRecording, Changes]]:
    """Lend the mended recording, whose events lie in temporary files in `folder` meanwhile, and what was changed.

    The files take 26 bytes per event. Memory is bounded, but for 16 bytes per event where time has to be sorted.

    Args:
        recording: Opened with `on_error="keep"`.
        diagnosis: What `examine` said of it; its hot pixels are removed.
        folder: Where there is room, on the disk of the target.
    """
    with TemporaryDirectory(prefix=".doctor-", dir=folder) as name:
        changes = Changes(hot_pixels=len(diagnosis.hot_pixels))
        kept = _Spool(Path(name) / "kept", recording)
        _keep(recording, diagnosis, kept, changes)
        final = _Spool(Path(name) / "final", recording)
        _order(kept, final, changes)
        yield ArrayRecording(final.events(), recording.tracks, recording.format), changes


class _Spool:
    """Columns of events that are written piece by piece and read as arrays on the disk."""

    def __init__(self, path: Path, recording: Recording) -> None:
        has_noise = recording.events_by_index(0, 1).noise is not None
        self._paths = {name: path.with_suffix(f".{name}") for name in _KINDS if name != "noise" or has_noise}
        for column in self._paths.values():
            column.touch()
        self._sensor = recording.sensor

    def append(self, columns: dict[str, NDArray[Any]]) -> None:
        for name, path in self._paths.items():
            with path.open("ab") as file:
                file.write(np.ascontiguousarray(columns[name], _KINDS[name]).tobytes())

    def columns(self) -> dict[str, NDArray[Any]]:
        return {
            # An empty file cannot be mapped.
            name: np.memmap(path, _KINDS[name], "r") if path.stat().st_size else np.empty(0, _KINDS[name])
            for name, path in self._paths.items()
        }

    def events(self) -> Events:
        columns = self.columns()
        noise = columns.get("noise")
        return Events(columns["x"], columns["y"], columns["t"], columns["p"], self._sensor, noise=noise)


def _keep(recording: Recording, diagnosis: Diagnosis, kept: _Spool, changes: Changes) -> None:
    """Write what lies on the sensor and on no hot pixel, with the clock unrolled."""
    unroll = Unroller()
    hot = np.array([y << 16 | x for x, y in diagnosis.hot_pixels], np.int64)
    for events in pieces(recording):
        t = unroll(events.t)
        inside = on_the_sensor(events)
        cold = ~np.isin(events.y.astype(np.int64) << 16 | events.x, hot)
        changes.outside_dropped += int((~inside).sum())
        changes.hot_dropped += int((inside & ~cold).sum())
        keep = inside & cold
        columns = {name: getattr(events, name) for name in "xyp"} | {"t": t}
        if events.noise is not None:
            columns["noise"] = events.noise
        kept.append({name: column[keep] for name, column in columns.items()})
    changes.wraps_unrolled = unroll.num_wraps


def _order(kept: _Spool, final: _Spool, changes: Changes) -> None:
    """Write the events by time, each once."""
    columns, sensor = kept.columns(), kept.events().sensor
    t = columns["t"]
    starts = range(0, len(t), PIECE)
    order = None
    if any((np.diff(t[start : start + PIECE + 1]) < 0).any() for start in starts):
        order = np.argsort(t, kind="stable")
        changes.moved = sum(
            int((order[start : start + PIECE] != np.arange(start, min(start + PIECE, len(t)))).sum())
            for start in starts
        )
    repeats = Repeats()
    for start in starts:
        chosen = slice(start, start + PIECE) if order is None else order[start : start + PIECE]
        piece = {name: np.asarray(column[chosen]) for name, column in columns.items()}
        events = Events(piece["x"], piece["y"], piece["t"], piece["p"], sensor)
        once = ~repeats(events.t, place_and_polarity(events))
        changes.repeats_dropped += int((~once).sum())
        changes.num_events += int(once.sum())
        final.append({name: column[once] for name, column in piece.items()})
