"""AEDAT 1 and 2: round trips through an encoder written from the layout, hints, wraps, real files and damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aedat_files import APS, CHIPS, SPECIAL, SYNC, header2, rows2
from fuzzing import fuzz
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.events import EventError, Events, Sensor
from eventfm.io import FormatError, detect_format, open_recording
from eventfm.io.aedat_addresses import CHIPS as LAYOUTS
from eventfm.io.aedat_addresses import decode, decode_plainly


@pytest.mark.parametrize("chip", CHIPS)
def test_it_reads_back_and_at_random(
    chip: str, make_events: Any, assert_contract: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventfm.io.aedat2._BLOCK_EVENTS", 64)
    width, height = CHIPS[chip]
    events = make_events(width=width, height=height)
    between = (SYNC,) if chip == "dvs128" else (APS | 77, SPECIAL)
    path = tmp_path / "x.aedat"
    path.write_bytes(header2(chip) + rows2(events, chip, between=between))
    assert detect_format(path) == "aedat2"
    recording = open_recording(path)
    assert recording.sensor == Sensor(width, height, chip.upper())
    assert_contract(recording, events)
    rng = np.random.default_rng(0)
    for t0, t1 in np.sort(rng.integers(0, 63_000, (100, 2)), 1).tolist():
        np.testing.assert_array_equal(recording.events(t0, t1).t, events.t[(events.t >= t0) & (events.t < t1)])


def test_version_1_is_of_the_dvs128(make_events: Any, assert_contract: Any, tmp_path: Path) -> None:
    events = make_events(width=128, height=128)
    path = tmp_path / "x.dat"
    path.write_bytes(header2(version=1) + rows2(events, "dvs128", version=1))
    assert_contract(open_recording(path), events)
    path.write_bytes(rows2(events, "dvs128", version=1))
    assert_contract(open_recording(path, "aedat1"), events)


def test_without_a_known_chip_a_hint_is_asked_for(make_events: Any, assert_same: Any, tmp_path: Path) -> None:
    events = make_events(width=240, height=180)
    path = tmp_path / "x.aedat"
    for chip, said in (("", "does not name the chip"), ("a.b.Cochlea", "names the chip 'a.b.Cochlea'")):
        path.write_bytes(header2(chip) + rows2(events, "davis240"))
        with pytest.raises(FormatError, match=f"{said}.*format='aedat2_dvs128', 'aedat2_davis240'"):
            open_recording(path)
        assert_same(open_recording(path, "aedat2_davis240").events_by_index(0, 500), events)


def test_golden_addresses_and_the_hint_that_leaves_them(tmp_path: Path) -> None:
    path = tmp_path / "x.aedat"
    word = (5 << 8 | 3 << 1 | 1).to_bytes(4, "big") + (9).to_bytes(4, "big")
    path.write_bytes(header2("dvs128") + word)
    for hint, expected in ((None, (124, 122, 9, 0)), ("aedat2_dvs128_raw", (3, 122, 9, 1))):
        found = open_recording(path, hint).events_by_index(0, 1)
        assert (found.x[0], found.y[0], found.t[0], found.p[0]) == expected
    word = (5 << 22 | 3 << 12 | 1 << 11).to_bytes(4, "big") + (9).to_bytes(4, "big")
    path.write_bytes(header2("davis346") + word)
    for hint, expected in ((None, (342, 254, 9, 1)), ("aedat2_davis346_raw", (3, 254, 9, 1))):
        found = open_recording(path, hint).events_by_index(0, 1)
        assert (found.x[0], found.y[0], found.t[0], found.p[0]) == expected


@pytest.mark.parametrize("bits", [31, 32])
def test_a_clock_that_wraps_goes_on(bits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventfm.io.aedat2._BLOCK_EVENTS", 2)
    loop = 1 << bits
    t = np.array([loop - 900, loop - 1, loop, loop + 7, loop + loop // 2, 2 * loop - 3, 2 * loop + 1], np.int64)
    zero = np.zeros(7, int)
    events = Events.checked(zero, zero, t, zero, Sensor(128, 128))
    (tmp_path / "x.aedat").write_bytes(header2("dvs128") + rows2(events, "dvs128", bits=bits))
    recording = open_recording(tmp_path / "x.aedat")
    np.testing.assert_array_equal(recording.events_by_index(0, 7).t, t)
    np.testing.assert_array_equal(recording.events(loop, loop + 8).t, [loop, loop + 7])


def test_an_event_may_begin_as_a_line_of_the_header(make_events: Any, tmp_path: Path) -> None:
    word = (0x23 << 24 | 3 << 12).to_bytes(4, "big") + (9).to_bytes(4, "big")
    (tmp_path / "x.aedat").write_bytes(header2("davis240") + word + word[:4] + b"\x00\x00\x00\n")
    assert open_recording(tmp_path / "x.aedat").num_events == 2


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), max_size=30),
    st.sampled_from(sorted(CHIPS)),
    st.booleans(),
    st.integers(-1, 2**32 - 1),
)
def test_the_compiled_decoder_is_its_plain_twin(
    words: list[tuple[int, int]], chip: str, raw: bool, before: int
) -> None:
    table = np.array(words, np.uint32).reshape(-1, 2)
    layout = LAYOUTS[chip].unmirrored() if raw else LAYOUTS[chip]
    one, *after = decode(table[:, 0].copy(), table[:, 1].copy(), layout, 1 << 31, before)
    two, *also = decode_plainly(table[:, 0], table[:, 1], layout, 1 << 31, before)
    assert after == also
    for a, b in zip(one, two, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_what_cannot_be_read_is_refused(make_events: Any, tmp_path: Path) -> None:
    events, path = make_events(100, width=128, height=128), tmp_path / "x.aedat"
    path.write_bytes(header2("dvs128") + rows2(events, "dvs128")[:-3])
    with pytest.raises(FormatError, match=r"cut off in the middle of an event \(5 of 8"):
        open_recording(path)
    with pytest.warns(UserWarning, match="cut off"):
        assert open_recording(path, on_error="sort").num_events == 99
    path.write_bytes(header2("dvs128") + rows2(events.take(50, 100), "dvs128") + rows2(events.take(0, 50), "dvs128"))
    with pytest.raises(EventError, match="time goes backwards 1 times"):
        open_recording(path)
    with pytest.warns(UserWarning, match="mended by sort"):
        np.testing.assert_array_equal(open_recording(path, on_error="sort").events_by_index(0, 100).t, events.t)


@pytest.mark.parametrize(("chip", "version"), [("dvs128", 1), ("davis240", 2)])
def test_damage_is_survived(chip: str, version: int, make_events: Any, tmp_path: Path) -> None:
    head = header2(chip, version)
    data = head + rows2(make_events(100, *CHIPS[chip]), chip, version)
    assert 0 < fuzz(data, tmp_path, header=len(head)) < 500


@pytest.mark.parametrize(
    ("name", "count", "seconds", "size"),
    [("dvs128_aedat2", 130_114, 6.18, (128, 128)), ("davis240_imu_aedat2", 162_771, 2.07, (240, 180))],
)
def test_real_files(
    name: str, count: int, seconds: float, size: tuple[int, int], real_data: Path, assert_contract: Any
) -> None:
    recording = open_recording(real_data / "formats" / f"{name}.aedat")
    assert recording.num_events == count
    assert (recording.sensor.width, recording.sensor.height) == size
    first, last = recording.t_range
    assert (last - first) / 1e6 == pytest.approx(seconds, abs=0.01)
    assert_contract(recording, recording.events_by_index(0, count))
