"""Columns of whole files, kept from when these were looked through: whoever opens one mostly reads it next."""

from __future__ import annotations

import threading
import weakref

from eventfm.events import Events, Sensor
from eventfm.io.columns import Columns
from eventfm.io.word_columns import empty_columns, first_of

BUDGET = 1 << 28
"""Bytes of columns that the recordings of a process keep together, and that a file's may have at most."""
_ROW = 13
"""Bytes of an event."""


class Gathered:
    """Columns that grow as the blocks of a file are decoded one after the other, and are given up beyond `BUDGET`."""

    def __init__(self, expected: int) -> None:
        """Make room for `expected` events; memory is taken as they come."""
        self._count = 0
        self._given_up = False
        self._columns = empty_columns(min(expected, BUDGET // _ROW))

    def room(self, count: int) -> Columns:
        """Return the next `count` places to write to; valid until room is asked for again."""
        if (self._count + count) * _ROW > BUDGET:
            self._count, self._given_up = 0, True
        start, needed = self._count, self._count + count
        if needed > len(self._columns.t):
            larger = empty_columns(max(needed, 2 * len(self._columns.t)))
            for new, old in zip(larger, self._columns, strict=True):
                new[:start] = old[:start]
            self._columns = larger
        return Columns(*(column[start:needed] for column in self._columns))

    def took(self, count: int) -> None:
        """Say how many of the places of the last `room` are used."""
        if not self._given_up:
            self._count += count

    def add(self, columns: Columns) -> None:
        """Copy `columns` behind what is there."""
        for place, column in zip(self.room(len(columns.t)), columns, strict=True):
            place[:] = column
        self.took(len(columns.t))

    def kept(self, sensor: Sensor, count: int) -> Kept | None:
        """Return the `count` events, whose times are known to be in order, if they are all there and on the sensor."""
        columns = first_of(self._columns, self._count)
        if self._given_up or len(columns.t) != count or not count:
            return None
        on_it = columns.x.max() < sensor.width and columns.y.max() < sensor.height
        return Kept(columns) if on_it else None


class Kept:
    """Columns that are let go of, `columns` becomes None, when those of later files need the room."""

    def __init__(self, columns: Columns) -> None:
        self.columns: Columns | None = columns
        self._size = _ROW * len(columns.t)
        with _lock:
            _latest.append(weakref.ref(self))
            there = [kept for kept in (ref() for ref in _latest) if kept is not None and kept.columns is not None]
            size = sum(kept._size for kept in there)
            for oldest in there:
                if size <= BUDGET:
                    break
                oldest.columns, size = None, size - oldest._size
            _latest[:] = [weakref.ref(kept) for kept in there if kept.columns is not None]


def events_of(kept: Kept | None, sensor: Sensor) -> Events | None:
    """Return all events of a recording if they are still there from when its file was opened."""
    columns = None if kept is None else kept.columns
    return None if columns is None else Events(*columns, sensor)


_latest: list[weakref.ref[Kept]] = []
_lock = threading.Lock()
