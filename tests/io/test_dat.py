"""Prophesee DAT: round trips through an encoder written from the layout, wraps, real files and damage."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import fuzz

from eventfm.events import EventError, Events, Sensor
from eventfm.io import FormatError, detect_format, open_recording

HEADER = b"% Data file containing CD events.\n% Version 2\n% Date 2014-12-01 10:10:10\n% Height 30\n% Width 40\n"


def rows(events: Events, kind: int = 12) -> bytes:
    out = np.empty((len(events), 2), "<u4")
    out[:, 0] = events.t % (1 << 32)
    out[:, 1] = events.x.astype(np.uint32) | events.y.astype(np.uint32) << 14 | events.p.astype(np.uint32) << 28
    return bytes([kind, 8]) + out.tobytes()


@pytest.mark.parametrize("kind", [0, 12])
def test_it_reads_back_and_at_random(
    kind: int, make_events: Any, assert_contract: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventfm.io.dat._BLOCK_EVENTS", 64)
    events = make_events(count=500)
    (tmp_path / "x.dat").write_bytes(HEADER + rows(events, kind))
    assert detect_format(tmp_path / "x.dat") == "dat"
    recording = open_recording(tmp_path / "x.dat")
    assert recording.sensor == Sensor(40, 30)
    assert_contract(recording, events)


def test_a_clock_that_wraps_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventfm.io.dat._BLOCK_EVENTS", 2)
    loop = 1 << 32
    t = np.array([5, loop - 1, loop, loop + 7, 2 * loop - 3, 2 * loop + 1, 2 * loop + 1], np.int64)
    events = Events.checked(np.zeros(7, int), np.zeros(7, int), t, np.zeros(7, int), Sensor(40, 30))
    (tmp_path / "x.dat").write_bytes(HEADER + rows(events))
    recording = open_recording(tmp_path / "x.dat")
    np.testing.assert_array_equal(recording.events_by_index(0, 7).t, t)
    np.testing.assert_array_equal(recording.events(loop, loop + 8).t, [loop, loop + 7])


def test_what_cannot_be_read_is_refused(make_events: Any, tmp_path: Path) -> None:
    events = make_events(count=100)
    path = tmp_path / "x.dat"
    path.write_bytes(HEADER + rows(events)[:-3])
    with pytest.raises(FormatError, match=r"cut off in the middle of an event \(5 of 8"):
        open_recording(path)
    with pytest.warns(UserWarning, match="cut off"):
        assert open_recording(path, on_error="sort").num_events == 99
    path.write_bytes(HEADER + bytes([14, 8]) + bytes(8))
    with pytest.raises(FormatError, match="holds triggers and no events"):
        open_recording(path, format="dat")
    path.write_bytes(HEADER + b"\x0c")
    with pytest.raises(FormatError, match="before any event"):
        open_recording(path, format="dat")
    back = np.r_[np.arange(50, 100), np.arange(50)]
    disordered = Events(events.x[back], events.y[back], events.t[back], events.p[back], events.sensor)
    path.write_bytes(HEADER + rows(disordered))
    with pytest.raises(EventError, match="time goes backwards 1 times"):
        open_recording(path)
    with pytest.warns(UserWarning, match="mended by sort"):
        np.testing.assert_array_equal(open_recording(path, on_error="sort").events_by_index(0, 100).t, events.t)


def test_damage_is_survived(make_events: Any, tmp_path: Path) -> None:
    data = HEADER + rows(make_events(count=100))
    opened = partial(open_recording, format="dat", on_error="sort")
    assert 0 < fuzz(data, opened, tmp_path, count=500, header=len(HEADER) + 2) < 500


@pytest.mark.parametrize(("name", "count"), [("ncars.dat", 4407), ("ncars_2.dat", 2009)])
def test_real_files(name: str, count: int, real_data: Path) -> None:
    recording = open_recording(real_data / "formats" / name)
    assert recording.num_events == count
    assert recording.sensor.inferred
    assert recording.sensor.width <= 120
    assert recording.sensor.height <= 100
    first, last = recording.t_range
    assert (last - first) / 1e6 == pytest.approx(0.1, abs=0.005)
