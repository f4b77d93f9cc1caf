"""Prophesee DAT: round trips through an encoder written from the layout, wraps, real files and damage."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import fuzz

from eventfm.events import EventError, Events, Sensor
from eventfm.io import FormatError, detect_format, open_recording

HEADER = b"% Data file containing CD events.\n% Version 2\n% Date 2014-12-01 10:10:10\n% Height 30\n% Width 40\n"


def rows(events: Events, kind: int = 12, bits: tuple[int, int] = (14, 14)) -> bytes:
    out = np.empty((len(events), 2), "<u4")
    out[:, 0] = events.t % (1 << 32)
    x, y, p = (column.astype(np.uint32) for column in (events.x, events.y, events.p))
    out[:, 1] = x | y << bits[0] | p << sum(bits)
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


FIRST = HEADER.replace(b"Version 2", b"Version 1")


def test_version_1_has_nine_bits_of_x_and_eight_of_y(make_events: Any, assert_contract: Any, tmp_path: Path) -> None:
    events = make_events(width=304, height=240)
    path = tmp_path / "x.dat"
    path.write_bytes(
        FIRST.replace(b"Height 30", b"Height 240").replace(b"Width 40", b"Width 304") + rows(events, 0, (9, 8))
    )
    recording = open_recording(path)
    assert recording.sensor == Sensor(304, 240)
    assert_contract(recording, events)
    # Bits above the polarity are no part of it.
    path.write_bytes(
        FIRST + bytes([0, 8]) + (7).to_bytes(4, "little") + (0b1110 << 17 | 2 << 9 | 3).to_bytes(4, "little")
    )
    found = open_recording(path).events_by_index(0, 1)
    assert (found.t[0], found.x[0], found.y[0], found.p[0]) == (7, 3, 2, 0)


@pytest.mark.parametrize("bits", [(14, 14), (9, 8)])
def test_without_a_version_the_records_say_it(
    bits: tuple[int, int], make_events: Any, assert_same: Any, tmp_path: Path
) -> None:
    events = make_events(width=240, height=180)
    path = tmp_path / "x.dat"
    path.write_bytes(b"% Data file containing CD events.\n" + rows(events, 12, bits))
    assert_same(open_recording(path, sensor=(240, 180)).events_by_index(0, 500), events)


def test_one_record_among_the_first_tells_the_versions_apart(tmp_path: Path) -> None:
    path = tmp_path / "x.dat"
    for word, place in ((1 << 21 | 5, (5, 128, 0)), ((1 << 21) - 1, (511, 255, 1))):
        words = np.array([[0, 0], [9, word]], "<u4")
        path.write_bytes(b"% Data file containing CD events.\n" + bytes([12, 8]) + words.tobytes())
        found = open_recording(path).events_by_index(1, 2)
        assert (found.x[0], found.y[0], found.p[0]) == place


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"Version 2", b"Version 3", "expected a DAT file of version 1 or 2, got '3'; convert it with OpenEB"),
        (b"Version 2", b"Version 0", "got '0'"),
        (b"Version 2", b"Version", "got ''"),
        (
            b"Width 40",
            b"Width 0",
            "1 to 16384 pixels a side in the header, got '0' by '30'; say sensor=(width, height)",
        ),
        (b"Height 30", b"Height 99999999", "got '40' by '99999999'"),
        (b"Height 30", b"Height -30", "got '40' by '-30'"),
        (b"Width 40\n", b"\n", "got '' by '30'"),
        (b"2\n% Date 2014-12-01 10:10:10\n% Height 30", b"1\n% Height 513", "1 to 512 pixels a side"),
    ],
)
def test_absurd_headers_are_refused(old: bytes, new: bytes, said: str, make_events: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.dat"
    assert old in HEADER
    path.write_bytes(HEADER.replace(old, new).replace(b"% \n", b"") + rows(make_events(count=20)))
    with pytest.raises(FormatError, match=re.escape(said)):
        open_recording(path)
    if "pixels" in said:
        assert open_recording(path, sensor=(16_384, 16_384)).num_events == 20


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
    for header, bits in ((HEADER, (14, 14)), (FIRST, (9, 8))):
        data = header + rows(make_events(count=100), bits=bits)
        assert 0 < fuzz(data, tmp_path, "dat", 250, len(header) + 2) < 250


@pytest.mark.parametrize(("name", "count"), [("ncars.dat", 4407), ("ncars_2.dat", 2009)])
def test_real_files(name: str, count: int, real_data: Path) -> None:
    recording = open_recording(real_data / "formats" / name)
    assert recording.num_events == count
    assert recording.sensor.inferred
    assert recording.sensor.width <= 120
    assert recording.sensor.height <= 100
    assert open_recording(real_data / "formats" / name, sensor=(120, 100)).sensor == Sensor(120, 100)
    first, last = recording.t_range
    assert (last - first) / 1e6 == pytest.approx(0.1, abs=0.005)
