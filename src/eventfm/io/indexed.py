"""Recordings in the DSEC layout (Gehrig et al., RA-L 2021), read at random by time.

`events/{x, y, t, p}` are columns, `t_offset` is added to `t`, and `ms_to_idx[m]` is the first event with
`t >= 1000 m`, so that a window costs two look-ups and the chunks it covers. The native store adds, for simulated
recordings, a column `events/noise`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from eventfm.events import Events, OnError, Sensor
from eventfm.io.columns import file_columns
from eventfm.io.contract import FormatError
from eventfm.io.hdf5_file import Hdf5File, reading, stored
from eventfm.protocols import Track

_LARGEST_US = 2**62


class Names(NamedTuple):
    """What the parts of the layout are called; those of DSEC where nothing else is said."""

    events: str = "events"
    """The group of the columns; `.` where they lie beside the index."""
    ms_index: str = "ms_to_idx"
    offset: str | None = "t_offset"
    """None where nothing is added to the times."""


_DSEC = Names()


class IndexedRecording:
    """Events of one group of an HDF5 file in the DSEC layout, or one that differs from it in `names`.

    Nothing but the ends is read when it is opened; each slice is checked when it is read, and mended by `on_error`,
    so that in a damaged file the events of two slices may not add up to those of both.
    """

    def __init__(
        self,
        file: Hdf5File,
        group: str,
        format: str,
        sensor: Sensor,
        on_error: OnError,
        tracks: Mapping[str, Track],
        provenance: Mapping[str, Any] | None = None,
        names: Names = _DSEC,
        fingerprint: str | None = None,
    ) -> None:
        self._file = file
        self._events = f"{group}/{names.events}"
        self._index = f"{group}/{names.ms_index}"
        self._on_error = on_error
        self.format = format
        self.sensor = sensor
        self.tracks = tracks
        self.provenance = dict(provenance or {})
        """What the file says about where it came from; empty for files that were not written by eventfm."""
        self.fingerprint = fingerprint
        """By what the file says to tell it from others (`fingerprint.fingerprint`); None where it does not."""
        with reading(file.path):
            root = file[group]
            group_of_columns = root[names.events]
            columns = {name: stored(group_of_columns, name) for name in "xytp"}
            lengths = {name: len(column) for name, column in columns.items()}
            if len(set(lengths.values())) != 1:
                raise FormatError(f"{file.path}: expected four columns of one length, got {lengths}; is it cut off?")
            self._has_noise = "noise" in group_of_columns
            if self._has_noise and (labels := len(stored(group_of_columns, "noise"))) != lengths["t"]:
                raise FormatError(f"{file.path}: {labels} noise labels for {lengths['t']} events; is it cut off?")
            self._offset_us = int(root[names.offset][()]) if names.offset else 0
            self._num_ms = len(stored(root, names.ms_index))
            self.num_events = lengths["t"]
            self.t_range = (0, -1)
            if abs(self._offset_us) > _LARGEST_US:
                raise FormatError(f"{file.path}: t_offset {self._offset_us} us is too large to be one")
            if self.num_events:
                first, last = (int(columns["t"][i]) + self._offset_us for i in (0, -1))
                self.t_range = (first, last)
                if last < first and on_error == "raise":
                    raise FormatError(f"{file.path}: the last event ({last} us) lies before the first ({first} us)")

    def events(self, t0: int, t1: int) -> Events:
        """Return the events of `[t0, t1)` in microseconds.

        Raises:
            FormatError: `ms_to_idx` does not belong to the events.
        """
        if t1 <= t0:
            return Events.empty(self.sensor, (t0, t1))
        start = self._event_at(t0 - self._offset_us, round_up=False)
        stop = self._event_at(t1 - self._offset_us, round_up=True)
        if start > stop:
            raise FormatError(self._misfit(t0))
        # One more event at either end shows whether the index belongs to the events.
        found = self._read(start - 1, stop + 1)
        t, first, last = found.t, start > 0, stop < self.num_events
        if self._on_error == "raise" and ((first and t[0] >= t0) or (last and t[-1] < t1)):
            raise FormatError(self._misfit(t0))
        return found.between(t0, t1)

    def events_by_index(self, start: int, stop: int) -> Events:
        """Return events `start` to `stop` (exclusive); the range is cut to the recording."""
        return self._read(start, stop)

    def _misfit(self, t0: int) -> str:
        return f"{self._file.path}: {self._index} does not fit the events around {t0} us; convert the file anew"

    def _event_at(self, relative_us: int, round_up: bool) -> int:
        """Return the first event of the millisecond that `relative_us` lies in, or of the next one."""
        millisecond = -(-relative_us // 1000) if round_up else relative_us // 1000
        if millisecond <= 0:
            return 0
        if millisecond >= self._num_ms:
            # Beyond the index: either no event is left, or those of its last millisecond.
            if round_up:
                return self.num_events
            millisecond = self._num_ms - 1
        if millisecond < 0:
            return 0
        with reading(self._file.path):
            index = int(self._file[self._index][millisecond])
        if not 0 <= index <= self.num_events:
            raise FormatError(f"{self._file.path}: {self._index} points at event {index} of {self.num_events}")
        return index

    def _read(self, start: int, stop: int) -> Events:
        start, stop = max(start, 0), min(stop, self.num_events)
        if start >= stop:
            return Events.empty(self.sensor)
        source = f"{self._file.path}, events {start} to {stop}"
        with reading(self._file.path):
            data = {name: self._file[f"{self._events}/{name}"] for name in "xytp"}
            columns = file_columns({name: np.asarray(data[name][start:stop]) for name in data}, source, "us")
            noise = np.asarray(self._file[f"{self._events}/noise"][start:stop]) if self._has_noise else None
        t = columns.t + self._offset_us
        events = Events.checked(columns.x, columns.y, t, columns.p, self.sensor, on_error=self._on_error, source=source)
        # Events that were mended stand elsewhere than their labels, which nobody can tell then.
        if noise is None or len(events) != len(t) or not np.array_equal(events.t, t):
            return events
        return replace(events, noise=(noise != 0).astype(np.uint8))
